package server

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
)

func (s *containersServer) Checkpoint(ctx context.Context, r *api.CheckpointRequest) (*api.CheckpointResponse, error) {
	if r.Image != "" || r.Rw {
		return nil, fmt.Errorf("checkpoint of container %s: it is written to a directory, not to an image: name a path instead: %w",
			r.Id, errdefs.ErrInvalidArgument)
	}
	o := engine.CheckpointOptions{
		Path: r.Path, WorkPath: r.WorkPath, LeaveRunning: r.LeaveRunning, TCPEstablished: r.TcpEstablished, FileLocks: r.FileLocks,
	}
	if err := s.Engine.Checkpoint(ctx, namespace(r), r.Id, o); err != nil {
		return nil, err
	}
	return &api.CheckpointResponse{Path: r.Path}, nil
}
