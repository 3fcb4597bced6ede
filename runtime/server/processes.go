package server

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

type processesServer struct {
	api.UnsafeProcessesServer
	Deps
}

func (s *processesServer) Exec(ctx context.Context, r *api.ExecRequest) (*api.ExecResponse, error) {
	o, err := execOf(r)
	if err != nil {
		return nil, err
	}
	p, err := s.Engine.Exec(ctx, namespace(r), r.Id, o)
	if err != nil {
		return nil, err
	}
	return &api.ExecResponse{ExecId: p.ExecID, Pid: int64(p.PID)}, nil
}

func execOf(r *api.ExecRequest) (engine.ExecOptions, error) {
	o := engine.ExecOptions{ExecID: r.ExecId, Stdin: r.Stdin, Log: logOf(r.Log)}
	return o, decode("process", r.Process, &o.Process)
}

func (s *processesServer) List(ctx context.Context, r *api.ListProcessesRequest) (*api.ListProcessesResponse, error) {
	list, err := s.Engine.Processes(ctx, namespace(r), r.Id)
	if err != nil {
		return nil, err
	}
	out := &api.ListProcessesResponse{}
	for _, p := range list {
		out.Processes = append(out.Processes, &api.Process{
			ExecId: p.ExecID, Pid: int64(p.PID), State: string(p.State), Exit: exitOf(p.Exit), Terminal: p.Terminal, Args: p.Args,
		})
	}
	return out, nil
}

func (s *processesServer) Signal(ctx context.Context, r *api.SignalRequest) (*api.SignalResponse, error) {
	return &api.SignalResponse{}, s.Engine.Signal(ctx, namespace(r), r.Id, r.ExecId, int(r.Signal), r.All)
}

func (s *processesServer) Resize(ctx context.Context, r *api.ResizeRequest) (*api.ResizeResponse, error) {
	w, h := size(r.Width, r.Height)
	return &api.ResizeResponse{}, s.Engine.Resize(ctx, namespace(r), r.Id, r.ExecId, w, h)
}

// size fits a terminal's size into what the kernel keeps.
func size(width, height uint32) (w, h uint16) {
	return uint16(min(width, math.MaxUint16)), uint16(min(height, math.MaxUint16))
}

func (s *processesServer) CloseStdin(ctx context.Context, r *api.ProcessRequest) (*api.CloseStdinResponse, error) {
	return &api.CloseStdinResponse{}, s.Engine.CloseStdin(ctx, namespace(r), r.Id, r.ExecId)
}

func (s *processesServer) Wait(ctx context.Context, r *api.ProcessRequest) (*api.Exit, error) {
	ctx, cancel := s.whileServing(ctx)
	defer cancel()
	exit, err := s.Engine.Wait(ctx, namespace(r), r.Id, r.ExecId)
	return exited(exit, orStopping(ctx, err))
}

func (s *processesServer) Delete(ctx context.Context, r *api.ProcessRequest) (*api.Exit, error) {
	return exited(s.Engine.DeleteProcess(ctx, namespace(r), r.Id, r.ExecId))
}

func exited(e wire.Exit, err error) (*api.Exit, error) {
	if err != nil {
		return nil, err
	}
	return exitOf(&e), nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
