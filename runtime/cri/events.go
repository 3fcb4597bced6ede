package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
)

// GetContainerEvents tells of what happens to pods and containers until the client goes away. Every client has its own
// subscription.
func (s *runtimeServer) GetContainerEvents(_ *v1.GetEventsRequest, stream grpc.ServerStreamingServer[v1.ContainerEventResponse]) error {
	ctx := stream.Context()
	sub := s.Events.Subscribe(events.Options{Namespace: Namespace})
	defer sub.Close()
	seen, err := s.newWitness(ctx)
	if err != nil {
		return err
	}
	// The header says that nothing is missed from now on.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		e, err := sub.Next(ctx)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the daemon is stopping: ask again when it is back: %w", errdefs.ErrUnavailable)
		}
		if err != nil {
			return err
		}
		if out := seen.translate(ctx, e); out != nil {
			if err := stream.Send(out); err != nil {
				return err
			}
		}
	}
}

// witness remembers, for one client, what it needs to tell of objects that are gone: the kubelet finds the pod that an
// event is about by the metadata in the event. It holds as much as there are objects.
type witness struct {
	s          *runtimeServer
	pods       map[string]*v1.PodSandboxStatus
	containers map[string]witnessed
}

// witnessed is what is known of a container.
type witnessed struct {
	pod    string
	status *v1.ContainerStatus // as it was last seen; nil: not yet
}

func (s *runtimeServer) newWitness(ctx context.Context) (*witness, error) {
	w := &witness{s: s, pods: map[string]*v1.PodSandboxStatus{}, containers: map[string]witnessed{}}
	pods, err := s.pods(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		w.pods[p.ID] = podStatus(p)
	}
	containers, err := s.containers(ctx)
	for _, c := range containers {
		w.containers[c.ID] = witnessed{pod: c.Pod}
	}
	return w, err
}

// eventType is what the CRI calls an event; false for what it has no word for.
func eventType(e events.Event) (v1.ContainerEventType, bool) {
	if e.Attributes["exec"] != "" { // not the container's first process
		return 0, false
	}
	switch e.Type + " " + e.Action {
	case "container create", "pod create":
		return v1.ContainerEventType_CONTAINER_CREATED_EVENT, true
	case "container start", "pod start":
		return v1.ContainerEventType_CONTAINER_STARTED_EVENT, true
	case "container exit", "pod stop":
		return v1.ContainerEventType_CONTAINER_STOPPED_EVENT, true
	case "container delete", "pod delete":
		return v1.ContainerEventType_CONTAINER_DELETED_EVENT, true
	}
	return 0, false
}

// translate makes the message of an event, with the state of the pod and its containers as they are now; nil for what
// the CRI does not tell of.
func (w *witness) translate(ctx context.Context, e events.Event) *v1.ContainerEventResponse {
	kind, ok := eventType(e)
	if !ok {
		return nil
	}
	pod := e.ID
	if e.Type == "container" {
		if pod, ok = w.podOf(ctx, e.ID); !ok {
			return nil
		}
	}
	out := &v1.ContainerEventResponse{ContainerId: e.ID, ContainerEventType: kind, CreatedAt: e.Time.UnixNano()}
	if p, err := w.s.Engine.Pod(ctx, Namespace, pod); err == nil && p.ID == pod {
		w.pods[pod] = podStatus(p)
		if statuses, err := w.s.podContainers(ctx, pod); err == nil {
			out.ContainersStatuses = statuses
		}
	}
	for _, st := range out.ContainersStatuses {
		w.containers[st.Id] = witnessed{pod, st}
	}
	if e.Type == "container" && kind != v1.ContainerEventType_CONTAINER_DELETED_EVENT {
		w.complete(ctx, e, out)
	}
	out.PodSandboxStatus = w.pods[pod]
	if kind == v1.ContainerEventType_CONTAINER_DELETED_EVENT {
		delete(w.pods, e.ID)
		delete(w.containers, e.ID)
	}
	if out.PodSandboxStatus == nil {
		return nil // a pod that was made and removed before it was looked at
	}
	return out
}

// complete adds the status of a container that has been removed since its event: the kubelet wants to know how it ended.
func (w *witness) complete(ctx context.Context, e events.Event, out *v1.ContainerEventResponse) {
	if slices.ContainsFunc(out.ContainersStatuses, func(s *v1.ContainerStatus) bool { return s.Id == e.ID }) {
		return
	}
	status := w.containers[e.ID].status
	if c, err := w.s.Engine.Get(ctx, Namespace, e.ID); err == nil && c.ID == e.ID {
		status = w.s.containerStatus(ctx, unpack(c))
	}
	if status == nil {
		return
	}
	status = proto.CloneOf(status)
	if e.Action == "exit" && status.FinishedAt == 0 {
		code, err := strconv.Atoi(e.Attributes["code"])
		if err != nil {
			code = 255
		}
		status.ExitCode, status.FinishedAt = int32(code), e.Time.UnixNano()
	}
	if e.Action == "exit" {
		status.State = v1.ContainerState_CONTAINER_EXITED
	}
	out.ContainersStatuses = append(out.ContainersStatuses, status)
}

// podOf finds the pod of a container that may be gone; false for one that is nothing of the CRI's.
func (w *witness) podOf(ctx context.Context, id string) (string, bool) {
	if c, known := w.containers[id]; known {
		return c.pod, true
	}
	c, err := w.s.Engine.Get(ctx, Namespace, id)
	if err != nil || c.ID != id || c.Pod == "" || c.Role != "" {
		return "", false
	}
	if c.State != engine.Removing {
		w.containers[id] = witnessed{pod: c.Pod}
	}
	return c.Pod, true
}
