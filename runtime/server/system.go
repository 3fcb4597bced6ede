package server

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
)

type systemServer struct {
	api.UnsafeSystemServer
	Deps
}

func (s *systemServer) Version(context.Context, *api.VersionRequest) (*api.VersionResponse, error) {
	return s.Daemon.Version(), nil
}

func (s *systemServer) Info(ctx context.Context, r *api.InfoRequest) (*api.InfoResponse, error) {
	return s.Daemon.Info(ctx, r)
}

func (s *systemServer) Check(ctx context.Context, r *api.CheckRequest) (*api.CheckResponse, error) {
	problems, checked, err := s.Engine.Check(ctx, r.Repair, r.Quick)
	if err != nil {
		return nil, err
	}
	out := &api.CheckResponse{Checked: int64(checked)}
	for _, p := range problems {
		out.Problems = append(out.Problems, &api.Problem{Kind: p.Kind, Object: p.Object, Problem: p.Problem, Remedy: p.Remedy, Repaired: p.Repaired})
	}
	return out, nil
}

func (s *systemServer) CollectGarbage(ctx context.Context, r *api.CollectGarbageRequest) (*api.CollectGarbageResponse, error) {
	c, err := s.Engine.CollectGarbage(ctx, r.DryRun)
	if err != nil {
		return nil, err
	}
	return &api.CollectGarbageResponse{Blobs: c.Blobs, Snapshots: c.Snapshots, Bytes: c.Bytes}, nil
}

func (s *systemServer) UpgradeSupervisor(ctx context.Context, _ *api.UpgradeSupervisorRequest) (*api.UpgradeSupervisorResponse, error) {
	if err := s.Engine.Upgrade(ctx); err != nil {
		return nil, err
	}
	return &api.UpgradeSupervisorResponse{Supervisors: s.Daemon.Supervisors(ctx)}, nil
}

func (s *systemServer) Reload(ctx context.Context, _ *api.ReloadRequest) (*api.ReloadResponse, error) {
	changed, needRestart, err := s.Daemon.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return &api.ReloadResponse{Changed: changed, NeedRestart: needRestart}, nil
}

func (s *systemServer) Subscribe(r *api.SubscribeRequest, stream grpc.ServerStreamingServer[api.Event]) error {
	filter, err := events.ParseFilter(r.Filters)
	if err != nil {
		return err
	}
	sub := s.Events.Subscribe(events.Options{Namespace: r.Namespace, Filter: filter, Since: moment(r.Since), Until: moment(r.Until)})
	defer sub.Close()
	// The header tells the client that from here on it misses nothing.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		e, err := sub.Next(stream.Context())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(eventOf(e)); err != nil {
			return err
		}
	}
}

func eventOf(e events.Event) *api.Event {
	return &api.Event{Time: nanos(e.Time), Namespace: e.Namespace, Type: e.Type, Action: e.Action, Id: e.ID, Attributes: e.Attributes}
}
