package server

import (
	"context"
	"time"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
)

func (s *containersServer) Stop(ctx context.Context, r *api.StopRequest) (*api.ContainerActionResponse, error) {
	return &api.ContainerActionResponse{}, s.Engine.StopLike(ctx, namespace(r), r.Id, r.Signal, durationOf(r.Timeout))
}

func durationOf(nanos *int64) *time.Duration {
	if nanos == nil {
		return nil
	}
	d := time.Duration(*nanos)
	return &d
}

func (s *containersServer) Restart(ctx context.Context, r *api.StopRequest) (*api.StartResponse, error) {
	if _, err := s.Stop(ctx, r); err != nil {
		return nil, err
	}
	return started(s.Engine.Start(ctx, namespace(r), r.Id, engine.StartOptions{}))
}

func (s *containersServer) Rename(ctx context.Context, r *api.RenameRequest) (*api.Container, error) {
	c, err := s.Engine.Rename(ctx, namespace(r), r.Id, r.Name)
	if err != nil {
		return nil, err
	}
	return s.view(c), nil
}

func (s *containersServer) Connect(ctx context.Context, r *api.ConnectRequest) (*api.Container, error) {
	wanted, err := attachmentOf(r.Network)
	if err != nil {
		return nil, err
	}
	c, err := s.Engine.Connect(ctx, namespace(r), r.Id, wanted)
	if err != nil {
		return nil, err
	}
	return s.view(c), nil
}

func (s *containersServer) Disconnect(ctx context.Context, r *api.ConnectRequest) (*api.Container, error) {
	c, err := s.Engine.Disconnect(ctx, namespace(r), r.Id, r.Network.GetNetwork())
	if err != nil {
		return nil, err
	}
	return s.view(c), nil
}
