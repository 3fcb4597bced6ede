package server

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
)

const defaultStopTimeout = 10 * time.Second

func (s *containersServer) Stop(ctx context.Context, r *api.StopRequest) (*api.ContainerActionResponse, error) {
	o := engine.StopOptions{Signal: r.Signal, Timeout: defaultStopTimeout}
	if r.Timeout != nil {
		o.Timeout = time.Duration(*r.Timeout)
	}
	return &api.ContainerActionResponse{}, s.Engine.Stop(ctx, namespace(r), r.Id, o)
}

func (s *containersServer) Restart(ctx context.Context, r *api.StopRequest) (*api.StartResponse, error) {
	if _, err := s.Stop(ctx, r); err != nil {
		return nil, err
	}
	return started(s.Engine.Start(ctx, namespace(r), r.Id, engine.StartOptions{}))
}

func (s *containersServer) Rename(context.Context, *api.RenameRequest) (*api.Container, error) {
	return nil, fmt.Errorf("rename a container: %w", errdefs.ErrNotImplemented)
}

func (s *containersServer) Connect(context.Context, *api.ConnectRequest) (*api.Container, error) {
	return nil, fmt.Errorf("connect a container to a network: %w", errdefs.ErrNotImplemented)
}

func (s *containersServer) Disconnect(context.Context, *api.ConnectRequest) (*api.Container, error) {
	return nil, fmt.Errorf("disconnect a container from a network: %w", errdefs.ErrNotImplemented)
}
