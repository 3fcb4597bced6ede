package server

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
)

func (s *containersServer) Checkpoint(ctx context.Context, r *api.CheckpointRequest) (*api.CheckpointResponse, error) {
	if r.Image != "" {
		return s.checkpointImage(ctx, r)
	}
	if r.Rw || r.Base || r.Processes {
		return nil, fmt.Errorf("checkpoint of container %s: a directory gets its processes alone: name an image instead: %w", r.Id, errdefs.ErrInvalidArgument)
	}
	if r.Name != "" && r.Path != "" {
		return nil, fmt.Errorf("checkpoint of container %s: a name or a path, not both: %w", r.Id, errdefs.ErrInvalidArgument)
	}
	o := engine.CheckpointOptions{
		Path: r.Path, WorkPath: r.WorkPath, LeaveRunning: r.LeaveRunning, TCPEstablished: r.TcpEstablished, FileLocks: r.FileLocks,
	}
	if r.Name != "" {
		path, err := s.Engine.CheckpointNamed(ctx, namespace(r), r.Id, r.Name, r.Dir, o)
		if err != nil {
			return nil, err
		}
		return &api.CheckpointResponse{Path: path}, nil
	}
	if err := s.Engine.Checkpoint(ctx, namespace(r), r.Id, o); err != nil {
		return nil, err
	}
	return &api.CheckpointResponse{Path: r.Path}, nil
}

func (s *containersServer) checkpointImage(ctx context.Context, r *api.CheckpointRequest) (*api.CheckpointResponse, error) {
	if r.Path != "" || r.WorkPath != "" {
		return nil, fmt.Errorf("checkpoint of container %s: an image or directories, not both: %w", r.Id, errdefs.ErrInvalidArgument)
	}
	img, err := s.Engine.CheckpointImage(ctx, namespace(r), r.Id, engine.CheckpointImageOptions{
		Name: r.Image, Base: r.Base, Changes: r.Rw, Processes: r.Processes,
		LeaveRunning: r.LeaveRunning, TCPEstablished: r.TcpEstablished, FileLocks: r.FileLocks,
	})
	if err != nil {
		return nil, err
	}
	return &api.CheckpointResponse{Image: s.Deps.view(ctx, namespace(r), img)}, nil
}

func (s *containersServer) Restore(ctx context.Context, r *api.RestoreRequest) (*api.StartResponse, error) {
	if r.Name != "" && r.Path == "" {
		path, err := s.Engine.CheckpointPath(ctx, namespace(r), r.Id, r.Name, r.Dir)
		if err != nil {
			return nil, err
		}
		r.Path = path
	}
	switch {
	case (r.Path == "") == (r.Image == ""):
		return nil, fmt.Errorf("restore of container %s: name the directory of a checkpoint, or an image: %w", r.Id, errdefs.ErrInvalidArgument)
	case r.Path != "":
		return started(s.Engine.Start(ctx, namespace(r), r.Id, engine.StartOptions{Restore: r.Path, TCPEstablished: r.TcpEstablished}))
	}
	c, err := s.Engine.RestoreImage(ctx, namespace(r), engine.RestoreOptions{Image: r.Image, ID: r.Id, Live: r.Live, TCPEstablished: r.TcpEstablished})
	if err != nil {
		return nil, err
	}
	return &api.StartResponse{Pid: int64(c.PID), Warnings: c.Warnings}, nil
}

func (s *containersServer) ListCheckpoints(ctx context.Context, r *api.ListCheckpointsRequest) (*api.ListCheckpointsResponse, error) {
	names, err := s.Engine.ListCheckpoints(ctx, namespace(r), r.Id, r.Dir)
	if err != nil {
		return nil, err
	}
	return &api.ListCheckpointsResponse{Names: names}, nil
}

func (s *containersServer) RemoveCheckpoint(ctx context.Context, r *api.RemoveCheckpointRequest) (*api.RemoveCheckpointResponse, error) {
	return &api.RemoveCheckpointResponse{}, s.Engine.RemoveCheckpoint(ctx, namespace(r), r.Id, r.Name, r.Dir)
}
