package cri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// ListContainers lists the containers, the oldest first.
func (s *runtimeServer) ListContainers(ctx context.Context, r *v1.ListContainersRequest) (*v1.ListContainersResponse, error) {
	list, err := s.listContainers(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListContainersResponse{Containers: list}, nil
}

// StreamContainers is ListContainers in pieces.
func (s *runtimeServer) StreamContainers(r *v1.StreamContainersRequest, stream grpc.ServerStreamingServer[v1.StreamContainersResponse]) error {
	list, err := s.listContainers(stream.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inPieces(list, func(some []*v1.Container) error {
		return stream.Send(&v1.StreamContainersResponse{Containers: some})
	})
}

func (s *runtimeServer) listContainers(ctx context.Context, f *v1.ContainerFilter) ([]*v1.Container, error) {
	all, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	var out []*v1.Container
	for _, c := range all {
		if containerMatches(c, f) {
			out = append(out, listed(unpack(c)))
		}
	}
	return out, nil
}

func listed(k kept) *v1.Container {
	return &v1.Container{
		Id: k.ID, PodSandboxId: k.Pod, Metadata: k.metadata(), Image: imageSpec(k), ImageRef: k.ImageID, ImageId: k.ImageID,
		State: containerState(k.Container), CreatedAt: nanos(k.CreatedAt), Labels: k.Labels, Annotations: k.config.GetAnnotations(),
	}
}

// containers are those that can be seen.
func (s *runtimeServer) containers(ctx context.Context) ([]engine.Container, error) {
	all, err := s.Engine.List(ctx, Namespace)
	if err != nil {
		return nil, err
	}
	seen := make([]engine.Container, 0, len(all))
	for _, c := range all {
		if visible(c) {
			seen = append(seen, c)
		}
	}
	return seen, nil
}

func containerMatches(c engine.Container, f *v1.ContainerFilter) bool {
	return strings.HasPrefix(c.ID, f.GetId()) && strings.HasPrefix(c.Pod, f.GetPodSandboxId()) && labelsMatch(c.Labels, f.GetLabelSelector()) &&
		(f.GetState() == nil || f.GetState().GetState() == containerState(c))
}
