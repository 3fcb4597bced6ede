package proxy

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
)

// server serves a snapshotter of ours as containerd's snapshots service: a small one of somebody else's.
type server struct {
	snapshots.UnimplementedSnapshotsServer
	store snapshot.Snapshotter
	// remote are the layers that it can have by itself: what is in the file "remote" of each, by chain ID.
	remote map[string]string

	mu     sync.Mutex
	labels []map[string]string // of each Prepare
}

const serverSpace = "theirs"

func keyOf(name string) snapshot.Key { return snapshot.Key{Namespace: serverSpace, Name: name} }

// serve serves s on a socket until the returned function is called.
func serve(t testing.TB, s *server, socket string) (stop func()) {
	t.Helper()
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: slog.New(slog.DiscardHandler)}, nil)...)
	snapshots.RegisterSnapshotsServer(g, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l) // ends with the stop
	}()
	return sync.OnceFunc(func() { g.Stop(); <-done })
}

func (s *server) Prepare(ctx context.Context, r *snapshots.PrepareSnapshotRequest) (*snapshots.PrepareSnapshotResponse, error) {
	s.mu.Lock()
	s.labels = append(s.labels, maps.Clone(r.Labels))
	s.mu.Unlock()
	m, err := s.store.Prepare(ctx, keyOf(r.Key), r.Parent, snapshot.Options{Labels: r.Labels})
	if err != nil {
		return nil, err
	}
	target := r.Labels[targetLabel]
	if text, has := s.remote[target]; has {
		err := mount.Temp(ctx, m, func(root string) error { return os.WriteFile(root+"/remote", []byte(text), 0o644) })
		if err == nil {
			err = s.store.Commit(ctx, serverSpace, target, r.Key, r.Labels)
		}
		if err == nil {
			err = errdefs.ErrAlreadyExists
		}
		return nil, err
	}
	return &snapshots.PrepareSnapshotResponse{Mounts: typesOf(m)}, nil
}

func (s *server) View(ctx context.Context, r *snapshots.ViewSnapshotRequest) (*snapshots.ViewSnapshotResponse, error) {
	m, err := s.store.View(ctx, keyOf(r.Key), r.Parent, snapshot.Options{Labels: r.Labels})
	return &snapshots.ViewSnapshotResponse{Mounts: typesOf(m)}, err
}

func (s *server) Mounts(ctx context.Context, r *snapshots.MountsRequest) (*snapshots.MountsResponse, error) {
	m, err := s.store.Mounts(ctx, keyOf(r.Key))
	return &snapshots.MountsResponse{Mounts: typesOf(m)}, err
}

func (s *server) Commit(ctx context.Context, r *snapshots.CommitSnapshotRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.store.Commit(ctx, serverSpace, r.Name, r.Key, r.Labels)
}

func (s *server) Remove(ctx context.Context, r *snapshots.RemoveSnapshotRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.store.Remove(ctx, keyOf(r.Key))
}

func (s *server) Stat(ctx context.Context, r *snapshots.StatSnapshotRequest) (*snapshots.StatSnapshotResponse, error) {
	i, err := s.store.Info(ctx, keyOf(r.Key))
	return &snapshots.StatSnapshotResponse{Info: infoOf(i)}, err
}

func (s *server) Usage(ctx context.Context, r *snapshots.UsageRequest) (*snapshots.UsageResponse, error) {
	u, err := s.store.Usage(ctx, keyOf(r.Key))
	return &snapshots.UsageResponse{Size: u.Size, Inodes: u.Inodes}, err
}

func (s *server) List(_ *snapshots.ListSnapshotsRequest, stream snapshots.Snapshots_ListServer) error {
	all, err := s.store.List(stream.Context(), serverSpace)
	if err != nil {
		return err
	}
	for _, i := range all { // one at a time, and no filters, as some programs do
		if err := stream.Send(&snapshots.ListSnapshotsResponse{Info: []*snapshots.Info{infoOf(i)}}); err != nil {
			return err
		}
	}
	return nil
}

func infoOf(i snapshot.Info) *snapshots.Info {
	kinds := map[snapshot.Kind]snapshots.Kind{
		snapshot.Active: snapshots.Kind_ACTIVE, snapshot.View: snapshots.Kind_VIEW, snapshot.Committed: snapshots.Kind_COMMITTED,
	}
	return &snapshots.Info{Name: i.Name, Parent: i.Parent, Kind: kinds[i.Kind], Labels: i.Labels}
}

func typesOf(in []mount.Mount) []*types.Mount {
	out := make([]*types.Mount, len(in))
	for i, m := range in {
		out[i] = &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// names are those of the program's snapshots that begin with prefix.
func (s *server) names(t testing.TB, prefix string) []string {
	t.Helper()
	all, err := s.store.List(context.Background(), serverSpace)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		if strings.HasPrefix(i.Name, prefix) {
			names = append(names, i.Name)
		}
	}
	return names
}

func socketOf(root string) string { return filepath.Join(root, "s.sock") }
