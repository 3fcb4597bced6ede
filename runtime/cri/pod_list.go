package cri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// ListPodSandbox lists the pods, the oldest first.
func (s *runtimeServer) ListPodSandbox(ctx context.Context, r *v1.ListPodSandboxRequest) (*v1.ListPodSandboxResponse, error) {
	pods, err := s.listPods(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListPodSandboxResponse{Items: pods}, nil
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (s *runtimeServer) StreamPodSandboxes(r *v1.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxesResponse]) error {
	pods, err := s.listPods(stream.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inPieces(pods, func(some []*v1.PodSandbox) error {
		return stream.Send(&v1.StreamPodSandboxesResponse{PodSandboxes: some})
	})
}

func (s *runtimeServer) listPods(ctx context.Context, f *v1.PodSandboxFilter) ([]*v1.PodSandbox, error) {
	pods, err := s.pods(ctx)
	if err != nil {
		return nil, err
	}
	var out []*v1.PodSandbox
	for _, p := range pods {
		if podMatches(p, f) {
			out = append(out, &v1.PodSandbox{
				Id: p.ID, Metadata: podMetadata(p), State: podState(p), CreatedAt: nanos(p.CreatedAt), Labels: p.Labels,
				Annotations: p.Annotations, RuntimeHandler: p.Runtime,
			})
		}
	}
	return out, nil
}

// pods are those that can be seen.
func (s *runtimeServer) pods(ctx context.Context) ([]engine.Pod, error) {
	all, err := s.Engine.ListPods(ctx, Namespace)
	if err != nil {
		return nil, err
	}
	var seen []engine.Pod
	for _, p := range all {
		if podVisible(p) {
			seen = append(seen, p)
		}
	}
	return seen, nil
}

func podMatches(p engine.Pod, f *v1.PodSandboxFilter) bool {
	return strings.HasPrefix(p.ID, f.GetId()) && labelsMatch(p.Labels, f.GetLabelSelector()) &&
		(f.GetState() == nil || f.GetState().GetState() == podState(p))
}

// labelsMatch says whether all labels of a selector are there.
func labelsMatch(labels, selector map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
