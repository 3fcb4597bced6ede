package scenario_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// subscriber keeps the events that one client gets.
type subscriber struct {
	mu     sync.Mutex
	events []*runtimeapi.ContainerEventResponse
}

func subscribe(t *testing.T, c *testenv.CRI) *subscriber {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.Runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	check(t, err)
	s := &subscriber{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			event, err := stream.Recv()
			if err != nil {
				return // the test ends it
			}
			s.mu.Lock()
			s.events = append(s.events, event)
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	// The header says that the subscription holds: events from now on are not missed. A runtime that sends none before
	// the first event gets a second.
	header := make(chan error, 1)
	go func() {
		_, err := stream.Header()
		header <- err
	}()
	select {
	case err := <-header:
		check(t, err)
	case <-time.After(time.Second):
	}
	return s
}

func (s *subscriber) of(id string) []*runtimeapi.ContainerEventResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*runtimeapi.ContainerEventResponse
	for _, e := range s.events {
		if e.ContainerId == id {
			found = append(found, e)
		}
	}
	return found
}

func kindsOf(events []*runtimeapi.ContainerEventResponse) []runtimeapi.ContainerEventType {
	var kinds []runtimeapi.ContainerEventType
	for _, e := range events {
		kinds = append(kinds, e.ContainerEventType)
	}
	return kinds
}

// TestCRIEvents goes through the life of a pod and a container with three subscribers, one of which comes late.
func TestCRIEvents(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	first, second := subscribe(t, s.CRI), subscribe(t, testenv.DialCRI(t, s.Socket))
	pod := s.RunPod("events")
	id := pod.Run("main", "sleep", "600")
	late := subscribe(t, testenv.DialCRI(t, s.Socket))
	_, err := s.Runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id})
	check(t, err)
	_, err = s.Runtime.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
	check(t, err)
	pod.Remove()

	const (
		created = runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT
		started = runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT
		stopped = runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT
		deleted = runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT
	)
	whole := []runtimeapi.ContainerEventType{created, started, stopped, deleted}
	for _, test := range []struct {
		name string
		sub  *subscriber
		id   string
		want []runtimeapi.ContainerEventType
	}{
		{"first, container", first, id, whole}, {"second, container", second, id, whole}, {"late, container", late, id, whole[2:]},
		{"first, pod", first, pod.ID, whole}, {"second, pod", second, pod.ID, whole}, {"late, pod", late, pod.ID, whole[2:]},
	} {
		testenv.Eventually(t, 5*time.Second, test.name+": the last event", func() bool {
			return slices.Contains(kindsOf(test.sub.of(test.id)), deleted)
		})
		if got := kindsOf(test.sub.of(test.id)); !slices.Equal(got, test.want) {
			t.Errorf("%s: events %v, want %v", test.name, got, test.want)
		}
	}
	contentsOfEvents(t, first.of(id), pod)
}

// contentsOfEvents checks what the kubelet's evented PLEG reads.
func contentsOfEvents(t *testing.T, events []*runtimeapi.ContainerEventResponse, pod *testenv.CRIPod) {
	t.Helper()
	states := map[runtimeapi.ContainerEventType]runtimeapi.ContainerState{
		runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT: runtimeapi.ContainerState_CONTAINER_CREATED,
		runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT: runtimeapi.ContainerState_CONTAINER_RUNNING,
		runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT: runtimeapi.ContainerState_CONTAINER_EXITED,
	}
	var before int64
	for _, e := range events {
		if e.CreatedAt < before || time.Since(time.Unix(0, e.CreatedAt)).Abs() > time.Minute {
			t.Errorf("%s: created at %d ns, after %d", e.ContainerEventType, e.CreatedAt, before)
		}
		before = e.CreatedAt
		if e.PodSandboxStatus.GetId() != pod.ID || e.PodSandboxStatus.GetMetadata().GetUid() != pod.Config.Metadata.Uid {
			t.Errorf("%s: pod %s, uid %s", e.ContainerEventType, e.PodSandboxStatus.GetId(), e.PodSandboxStatus.GetMetadata().GetUid())
		}
		want, ok := states[e.ContainerEventType]
		if !ok {
			continue
		}
		if len(e.ContainersStatuses) != 1 || e.ContainersStatuses[0].State < want {
			t.Errorf("%s: statuses %v, want one that is %s", e.ContainerEventType, e.ContainersStatuses, want)
		}
	}
}

// TestCRIEventOfAnExit sees the end of a container that nobody stopped.
func TestCRIEventOfAnExit(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	sub := subscribe(t, s.CRI)
	pod := s.RunPod("exit")
	id := pod.Run("main", "sh", "-c", "exit 7")
	const stopped = runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT
	testenv.Eventually(t, 5*time.Second, "the event of the exit", func() bool { return slices.Contains(kindsOf(sub.of(id)), stopped) })
	for _, e := range sub.of(id) {
		if e.ContainerEventType == stopped && (len(e.ContainersStatuses) != 1 || e.ContainersStatuses[0].ExitCode != 7) {
			t.Errorf("the exit's event has statuses %v, want exit code 7", e.ContainersStatuses)
		}
	}
}
