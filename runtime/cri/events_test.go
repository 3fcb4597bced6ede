package cri

import (
	"context"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
)

type told struct {
	kind v1.ContainerEventType
	id   string
}

// listen begins to listen, and gives what n events tell.
func listen(t *testing.T, w *world, n int) func() []*v1.ContainerEventResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	stream, err := w.GetContainerEvents(ctx, &v1.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // the subscription is there
		t.Fatal(err)
	}
	return func() []*v1.ContainerEventResponse {
		var list []*v1.ContainerEventResponse
		for len(list) < n {
			e, err := stream.Recv()
			if err != nil {
				t.Fatalf("after %v: %v", list, err)
			}
			list = append(list, e)
		}
		return list
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	first, second := listen(t, w, 8), listen(t, w, 8)
	pod := w.pod(t, "web")
	c := w.container(t, pod, "c", true)
	w.engine.bus.Publish(events.Event{Namespace: Namespace, Type: "container", Action: "exit", ID: c, Attributes: map[string]string{"exec": "x"}})
	w.engine.bus.Publish(events.Event{Namespace: "default", Type: "container", Action: "create", ID: "other"})
	time.Sleep(100 * time.Millisecond) // so that the state is read before the next change
	for _, step := range []func() error{
		func() error {
			_, err := w.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: c})
			return err
		},
		func() error {
			_, err := w.RemoveContainer(t.Context(), &v1.RemoveContainerRequest{ContainerId: c})
			return err
		},
		func() error {
			_, err := w.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{PodSandboxId: pod})
			return err
		},
		func() error {
			_, err := w.RemovePodSandbox(t.Context(), &v1.RemovePodSandboxRequest{PodSandboxId: pod})
			return err
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	want := []told{
		{v1.ContainerEventType_CONTAINER_CREATED_EVENT, pod}, {v1.ContainerEventType_CONTAINER_STARTED_EVENT, pod},
		{v1.ContainerEventType_CONTAINER_CREATED_EVENT, c}, {v1.ContainerEventType_CONTAINER_STARTED_EVENT, c},
		{v1.ContainerEventType_CONTAINER_STOPPED_EVENT, c}, {v1.ContainerEventType_CONTAINER_DELETED_EVENT, c},
		{v1.ContainerEventType_CONTAINER_STOPPED_EVENT, pod}, {v1.ContainerEventType_CONTAINER_DELETED_EVENT, pod},
	}
	for _, collect := range []func() []*v1.ContainerEventResponse{first, second} {
		for i, e := range collect() {
			if (told{e.ContainerEventType, e.ContainerId}) != want[i] {
				t.Errorf("event %d is %s of %s, want %v", i, e.ContainerEventType, e.ContainerId, want[i])
			}
			if e.PodSandboxStatus.GetMetadata().GetUid() != "u-web" || e.CreatedAt == 0 {
				t.Errorf("event %d is of pod %v at %d", i, e.PodSandboxStatus, e.CreatedAt)
			}
			if i == 4 && (len(e.ContainersStatuses) != 1 || e.ContainersStatuses[0].ExitCode != 137) {
				t.Errorf("event %d has the containers %v", i, e.ContainersStatuses)
			}
		}
	}
}

// TestEventOfWhatIsGone: a container that is removed before its end is told of still has a status in that event.
func TestEventOfWhatIsGone(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	c := w.container(t, pod, "c", true)
	seen := must(w.runtime.newWitness(t.Context()))
	begin := seen.translate(t.Context(), events.Event{Type: "container", Action: "start", ID: c})
	if len(begin.ContainersStatuses) != 1 {
		t.Fatalf("%v", begin)
	}
	if _, err := w.engine.Delete(t.Context(), "", c, engine.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	end := seen.translate(t.Context(), events.Event{Type: "container", Action: "exit", ID: c, Time: time.Now(), Attributes: map[string]string{"code": "7"}})
	if s := end.ContainersStatuses; len(s) != 1 || s[0].State != v1.ContainerState_CONTAINER_EXITED || s[0].ExitCode != 7 || s[0].FinishedAt == 0 {
		t.Errorf("statuses are %v", s)
	}
	gone := seen.translate(t.Context(), events.Event{Type: "container", Action: "delete", ID: c})
	if len(gone.ContainersStatuses) != 0 || gone.PodSandboxStatus.GetId() != pod || len(seen.containers) != 0 {
		t.Errorf("%v, and %d are remembered", gone, len(seen.containers))
	}
}
