package server

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/snapshot"
)

type snapshotsServer struct {
	api.UnsafeSnapshotsServer
	Deps
}

func (s *snapshotsServer) List(ctx context.Context, r *api.ListSnapshotsRequest) (*api.ListSnapshotsResponse, error) {
	filter, err := events.ParseFilterOf(r.Filters, "name", "parent", "kind", "labels.")
	if err != nil {
		return nil, err
	}
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	list, err := sn.List(ctx, namespace(r))
	if err != nil {
		return nil, err
	}
	out := &api.ListSnapshotsResponse{}
	for _, i := range list {
		if filter.Match(snapshotKey(i)) {
			out.Snapshots = append(out.Snapshots, snapshotOf(i))
		}
	}
	return out, nil
}

func snapshotKey(i snapshot.Info) func(string) (string, bool) {
	return func(key string) (string, bool) {
		switch key {
		case "name":
			return i.Name, true
		case "parent":
			return i.Parent, i.Parent != ""
		case "kind":
			return string(i.Kind), true
		}
		return label(i.Labels, key)
	}
}

func (s *snapshotsServer) Info(ctx context.Context, r *api.SnapshotRequest) (*api.Snapshot, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return snapshotInfo(sn.Info(ctx, snapshot.Key{Namespace: namespace(r), Name: r.Name}))
}

func (s *snapshotsServer) Prepare(ctx context.Context, r *api.PrepareSnapshotRequest) (*api.MountsResponse, error) {
	return s.prepare(ctx, r, snapshot.Snapshotter.Prepare)
}

func (s *snapshotsServer) View(ctx context.Context, r *api.PrepareSnapshotRequest) (*api.MountsResponse, error) {
	return s.prepare(ctx, r, snapshot.Snapshotter.View)
}

type preparer func(snapshot.Snapshotter, context.Context, snapshot.Key, string, snapshot.Options) ([]mount.Mount, error)

func (s *snapshotsServer) prepare(ctx context.Context, r *api.PrepareSnapshotRequest, prepare preparer) (*api.MountsResponse, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	ns := namespace(r)
	if err := s.Namespaces.Ensure(ns); err != nil {
		return nil, err
	}
	mounts, err := prepare(sn, ctx, snapshot.Key{Namespace: ns, Name: r.Name}, r.Parent, snapshot.Options{Labels: r.Labels})
	if err != nil {
		return nil, err
	}
	s.publish(ns, "create", r.Name)
	return mountsOf(mounts, r.Name), nil
}

func (s *snapshotsServer) Mounts(ctx context.Context, r *api.SnapshotRequest) (*api.MountsResponse, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	mounts, err := sn.Mounts(ctx, snapshot.Key{Namespace: namespace(r), Name: r.Name})
	if err != nil {
		return nil, err
	}
	return mountsOf(mounts, r.Name), nil
}

func (s *snapshotsServer) Commit(ctx context.Context, r *api.CommitSnapshotRequest) (*api.Snapshot, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	ns := namespace(r)
	if err := sn.Sync(ctx); err != nil {
		return nil, err
	}
	if err := sn.Commit(ctx, ns, r.Name, r.Active, r.Labels); err != nil {
		return nil, err
	}
	s.publish(ns, "commit", r.Name)
	return snapshotInfo(sn.Info(ctx, snapshot.Key{Namespace: ns, Name: r.Name}))
}

func (s *snapshotsServer) Remove(ctx context.Context, r *api.SnapshotRequest) (*api.RemoveSnapshotResponse, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	if err := s.unused(ctx, namespace(r), sn.Name(), r.Name); err != nil {
		return nil, err
	}
	if err := sn.Remove(ctx, snapshot.Key{Namespace: namespace(r), Name: r.Name}); err != nil {
		return nil, err
	}
	s.publish(namespace(r), "delete", r.Name)
	return &api.RemoveSnapshotResponse{}, nil
}

// unused refuses what is the root filesystem of a container, which would lose its files while it runs.
func (s *snapshotsServer) unused(ctx context.Context, ns, snapshotter, name string) error {
	all, err := s.Engine.List(ctx, ns)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Snapshotter == snapshotter && c.Snapshot == name {
			return fmt.Errorf("snapshot %s is the root filesystem of container %s: remove that first: %w", name, c.ID, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

func (s *snapshotsServer) Usage(ctx context.Context, r *api.SnapshotRequest) (*api.SnapshotUsage, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	u, err := sn.Usage(ctx, snapshot.Key{Namespace: namespace(r), Name: r.Name})
	if err != nil {
		return nil, err
	}
	return &api.SnapshotUsage{Size: u.Size, Inodes: u.Inodes}, nil
}

func (s *snapshotsServer) SetLabels(ctx context.Context, r *api.SetSnapshotLabelsRequest) (*api.Snapshot, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return snapshotInfo(sn.SetLabels(ctx, snapshot.Key{Namespace: namespace(r), Name: r.Name}, r.Labels, r.Replace))
}

func (s *snapshotsServer) publish(ns, action, name string) {
	s.Events.Publish(events.Event{Namespace: ns, Type: "snapshot", Action: action, ID: name})
}

func snapshotInfo(i snapshot.Info, err error) (*api.Snapshot, error) {
	if err != nil {
		return nil, err
	}
	return snapshotOf(i), nil
}

func snapshotOf(i snapshot.Info) *api.Snapshot {
	return &api.Snapshot{
		Name: i.Name, Parent: i.Parent, Kind: string(i.Kind), Labels: i.Labels, CreatedAt: nanos(i.CreatedAt), UpdatedAt: nanos(i.UpdatedAt),
	}
}

func mountsOf(mounts []mount.Mount, key string) *api.MountsResponse {
	out := &api.MountsResponse{Key: key}
	for _, m := range mounts {
		out.Mounts = append(out.Mounts, &api.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}
