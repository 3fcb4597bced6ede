package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// listing asks with a streaming call, which knows no limit of size, and with the older one where the runtime does not
// have it: Kubernetes 1.36 has brought the streaming ones into the CRI.
type listing[T, M any] struct {
	name   string
	stream func(context.Context) (grpc.ServerStreamingClient[M], error)
	unary  func(context.Context) ([]T, error)
	items  func(*M) []T
}

func (l listing[T, M]) ask(ctx context.Context, r *runtime) ([]T, error) {
	if r.lacks[l.name] {
		return l.unary(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, r.AnswerTime)
	defer cancel()
	var all []T
	err := repeat(limited, r.MaxRetries, func() (err error) {
		all, err = l.collect(limited)
		return err
	}, unavailable)
	if unimplemented(err) {
		r.lacks[l.name] = true
		return l.unary(ctx)
	}
	return all, err
}

func (l listing[T, M]) collect(ctx context.Context) ([]T, error) {
	s, err := l.stream(ctx)
	if err != nil {
		return nil, err
	}
	var all []T
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, l.items(m)...)
	}
}

func (r *runtime) containers(ctx context.Context, f *cri.ContainerFilter) ([]*cri.Container, error) {
	return listing[*cri.Container, cri.StreamContainersResponse]{
		name: "StreamContainers", items: (*cri.StreamContainersResponse).GetContainers,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamContainersResponse], error) {
			return r.StreamContainers(ctx, &cri.StreamContainersRequest{Filter: f})
		},
		unary: func(ctx context.Context) ([]*cri.Container, error) {
			m, err := r.ListContainers(ctx, &cri.ListContainersRequest{Filter: f})
			return m.GetContainers(), err
		},
	}.ask(ctx, r)
}

func (r *runtime) pods(ctx context.Context, f *cri.PodSandboxFilter) ([]*cri.PodSandbox, error) {
	return listing[*cri.PodSandbox, cri.StreamPodSandboxesResponse]{
		name: "StreamPodSandboxes", items: (*cri.StreamPodSandboxesResponse).GetPodSandboxes,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamPodSandboxesResponse], error) {
			return r.StreamPodSandboxes(ctx, &cri.StreamPodSandboxesRequest{Filter: f})
		},
		unary: func(ctx context.Context) ([]*cri.PodSandbox, error) {
			m, err := r.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: f})
			return m.GetItems(), err
		},
	}.ask(ctx, r)
}

func (r *runtime) imageList(ctx context.Context, f *cri.ImageFilter) ([]*cri.Image, error) {
	return listing[*cri.Image, cri.StreamImagesResponse]{
		name: "StreamImages", items: (*cri.StreamImagesResponse).GetImages,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamImagesResponse], error) {
			return r.images.StreamImages(ctx, &cri.StreamImagesRequest{Filter: f})
		},
		unary: func(ctx context.Context) ([]*cri.Image, error) {
			m, err := r.images.ListImages(ctx, &cri.ListImagesRequest{Filter: f})
			return m.GetImages(), err
		},
	}.ask(ctx, r)
}

func (r *runtime) containerStats(ctx context.Context, f *cri.ContainerStatsFilter) ([]*cri.ContainerStats, error) {
	return listing[*cri.ContainerStats, cri.StreamContainerStatsResponse]{
		name: "StreamContainerStats", items: (*cri.StreamContainerStatsResponse).GetContainerStats,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamContainerStatsResponse], error) {
			return r.StreamContainerStats(ctx, &cri.StreamContainerStatsRequest{Filter: f})
		},
		unary: func(ctx context.Context) ([]*cri.ContainerStats, error) {
			m, err := r.ListContainerStats(ctx, &cri.ListContainerStatsRequest{Filter: f})
			return m.GetStats(), err
		},
	}.ask(ctx, r)
}

func (r *runtime) podStats(ctx context.Context, f *cri.PodSandboxStatsFilter) ([]*cri.PodSandboxStats, error) {
	return listing[*cri.PodSandboxStats, cri.StreamPodSandboxStatsResponse]{
		name: "StreamPodSandboxStats", items: (*cri.StreamPodSandboxStatsResponse).GetPodSandboxStats,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamPodSandboxStatsResponse], error) {
			return r.StreamPodSandboxStats(ctx, &cri.StreamPodSandboxStatsRequest{Filter: f})
		},
		unary: func(ctx context.Context) ([]*cri.PodSandboxStats, error) {
			m, err := r.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{Filter: f})
			return m.GetStats(), err
		},
	}.ask(ctx, r)
}

func (r *runtime) podMetrics(ctx context.Context) ([]*cri.PodSandboxMetrics, error) {
	return listing[*cri.PodSandboxMetrics, cri.StreamPodSandboxMetricsResponse]{
		name: "StreamPodSandboxMetrics", items: (*cri.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics,
		stream: func(ctx context.Context) (grpc.ServerStreamingClient[cri.StreamPodSandboxMetricsResponse], error) {
			return r.StreamPodSandboxMetrics(ctx, &cri.StreamPodSandboxMetricsRequest{})
		},
		unary: func(ctx context.Context) ([]*cri.PodSandboxMetrics, error) {
			m, err := r.ListPodSandboxMetrics(ctx, &cri.ListPodSandboxMetricsRequest{})
			return m.GetPodMetrics(), err
		},
	}.ask(ctx, r)
}
