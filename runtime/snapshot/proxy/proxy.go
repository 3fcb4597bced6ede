// Package proxy keeps snapshots in a snapshotter of somebody else, a program that serves containerd's snapshots service
// on a Unix socket: stargz, SOCI, Nydus, overlaybd. Such a program may have layers without their bytes being brought,
// and fetch what is read when it is read.
//
// Which snapshots there are is in records here, as for every snapshotter; the program's names for them are made of their
// numbers, and their labels say whose they are, so that it can be shared. Only the names of layers that it has by itself
// are its own: their chain IDs.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"time"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

// Options of Open.
type Options struct {
	Name    string // of the snapshotter, as the configuration calls it
	Address string // the Unix socket's absolute path
	// Owner is different for each daemon, and the same after its restart.
	Owner   string
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
}

// Store is the snapshotter.
type Store struct {
	*snapshot.Ledger
	program program
	conn    *grpc.ClientConn
	mu      sync.Mutex
	written map[string]struct{} // directories whose filesystems may have to be synced
}

var (
	_ snapshot.Lazy     = (*Store)(nil)
	_ snapshot.Differ   = (*Store)(nil)
	_ snapshot.Comparer = (*Store)(nil)
)

// openTimeout bounds the clean-up at the start: a program that hangs must not keep the daemon from starting.
const openTimeout = 5 * time.Second

// Open opens the store. The program need not run: what needs it is ErrUnavailable until it does.
func Open(ctx context.Context, o Options) (*Store, error) {
	if !filepath.IsAbs(o.Address) {
		return nil, fmt.Errorf("address of snapshotter %s, %q, is not the absolute path of a Unix socket: %w", o.Name, o.Address, errdefs.ErrInvalidArgument)
	}
	pause := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	var dialer net.Dialer
	conn, err := grpc.NewClient("passthrough:///"+o.Name,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.Address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: openTimeout}), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("snapshotter %s: %w", o.Name, err)
	}
	s := &Store{conn: conn, written: map[string]struct{}{},
		program: program{api: snapshots.NewSnapshotsClient(conn), name: o.Name, address: o.Address, owner: o.Owner}}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	// The records may have lost what a power cut took, and the program may not answer: a number that it knows is avoided by
	// the time.
	s.Ledger, err = snapshot.OpenLedger(ctx, s.program, uint64(time.Now().UnixMilli())<<10, o.Records, o.Log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// Name implements snapshot.Snapshotter.
func (s *Store) Name() string { return s.program.name }

// Close implements snapshot.Snapshotter.
func (s *Store) Close() error { return s.conn.Close() }

// Check asks the program for anything.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := s.program.stat(ctx, s.program.prefix()); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// Prepare implements snapshot.Snapshotter.
func (s *Store) Prepare(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	var mounts []mount.Mount
	_, _, err := s.New(ctx, key, snapshot.Active, parent, opts, func(_ string, r snapshot.Record, chain []snapshot.Record) error {
		made, err := s.program.api.Prepare(outgoing(ctx), &snapshots.PrepareSnapshotRequest{
			Key: s.program.active(r), Parent: s.program.parent(chain), Labels: s.program.labels(r, opts.Labels),
		})
		if err != nil {
			return s.program.explain(err)
		}
		mounts = mountsOf(made.Mounts)
		return giveTo(mounts, opts)
	})
	if err != nil {
		return nil, err
	}
	s.note(mounts)
	return mapped(mounts, opts.UIDMap, opts.GIDMap)
}

// View implements snapshot.Snapshotter.
func (s *Store) View(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	var mounts []mount.Mount
	_, _, err := s.New(ctx, key, snapshot.View, parent, opts, func(_ string, r snapshot.Record, chain []snapshot.Record) error {
		made, err := s.program.api.View(outgoing(ctx), &snapshots.ViewSnapshotRequest{
			Key: s.program.active(r), Parent: s.program.parent(chain), Labels: s.program.labels(r, opts.Labels),
		})
		if err == nil {
			mounts = mountsOf(made.Mounts)
		}
		return s.program.explain(err)
	})
	if err != nil {
		return nil, err
	}
	return mapped(mounts, opts.UIDMap, opts.GIDMap)
}

// Mounts implements snapshot.Snapshotter.
func (s *Store) Mounts(ctx context.Context, key snapshot.Key) ([]mount.Mount, error) {
	r, _, err := s.Mountable(key)
	if err != nil {
		return nil, err
	}
	mounts, err := s.program.mounts(ctx, s.program.active(r))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", key, lost(err))
	}
	return mapped(mounts, r.UIDMap, r.GIDMap)
}

// Commit implements snapshot.Snapshotter. A crash between the program's commit and the record is made good by another one.
func (s *Store) Commit(ctx context.Context, ns, name, active string, labels map[string]string) error {
	same := func(r snapshot.Record) string { return r.Parent }
	return s.Ledger.Commit(ctx, ns, name, active, labels, same, func(r *snapshot.Record, _ []snapshot.Record) error {
		if err := snapshot.Uncommittable(*r); err != nil {
			return err
		}
		_, err := s.program.api.Commit(outgoing(ctx), &snapshots.CommitSnapshotRequest{Name: s.program.layer(*r), Key: s.program.active(*r), Labels: s.program.labels(*r, labels)})
		if err = s.program.explain(err); errdefs.IsNotFound(err) || errdefs.IsAlreadyExists(err) {
			if info, statErr := s.program.stat(ctx, s.program.layer(*r)); statErr == nil && info.Kind == snapshots.Kind_COMMITTED {
				return nil
			}
		}
		return lost(err)
	})
}

// Offer implements snapshot.Lazy: a Prepare that names its target, which containerd calls a remote snapshot. The program
// answers ErrAlreadyExists when it has made the layer.
func (s *Store) Offer(ctx context.Context, key snapshot.Key, chainID, parentChainID string, wanted, labels map[string]string) (bool, error) {
	asked := map[string]string{targetLabel: chainID}
	maps.Copy(asked, wanted)
	has := false
	_, _, err := s.New(ctx, key, snapshot.Active, parentChainID, snapshot.Options{}, func(_ string, r snapshot.Record, chain []snapshot.Record) error {
		_, err := s.program.api.Prepare(outgoing(ctx), &snapshots.PrepareSnapshotRequest{
			Key: s.program.active(r), Parent: s.program.parent(chain), Labels: s.program.labels(r, asked),
		})
		err = s.program.explain(err)
		if has = errdefs.IsAlreadyExists(err); has {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("offer of layer %s: %w", chainID, err)
	}
	if has {
		if err = s.take(ctx, key, chainID, parentChainID, labels); err == nil {
			return true, nil
		}
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTimeout)
	defer cancel()
	if left := s.Remove(undo, key); left != nil && !errdefs.IsNotFound(left) {
		return false, errors.Join(err, left)
	}
	if errdefs.IsAlreadyExists(err) {
		return true, nil // somebody else has had it offered meanwhile
	}
	return false, err
}

// take gives the record of an offer that was accepted the program's name for the layer.
func (s *Store) take(ctx context.Context, key snapshot.Key, chainID, parent string, labels map[string]string) error {
	info, err := s.program.stat(ctx, chainID)
	if err != nil {
		return fmt.Errorf("snapshotter %s says that it has layer %s, and does not know it: %w", s.Name(), chainID, err)
	}
	if info.Kind != snapshots.Kind_COMMITTED {
		return fmt.Errorf("snapshotter %s has layer %s as %s: %w", s.Name(), chainID, info.Kind, errdefs.ErrFailedPrecondition)
	}
	kept := map[string]string{snapshot.LazyLabel: "true"}
	maps.Copy(kept, labels)
	on := func(snapshot.Record) string { return parent }
	return s.Ledger.Commit(ctx, key.Namespace, chainID, key.Name, kept, on, func(r *snapshot.Record, _ []snapshot.Record) error {
		r.Backend = chainID
		return nil
	})
}

// Usage implements snapshot.Snapshotter: what the program says. Of layers that it fetches as they are read that may be
// nothing.
func (s *Store) Usage(ctx context.Context, key snapshot.Key) (snapshot.Usage, error) {
	return s.Counted(key, func(r snapshot.Record) (snapshot.Usage, error) {
		if r.Kind == snapshot.View {
			return snapshot.Usage{}, nil
		}
		u, err := s.program.api.Usage(outgoing(ctx), &snapshots.UsageRequest{Key: s.program.key(r)})
		if err != nil {
			return snapshot.Usage{}, lost(s.program.explain(err))
		}
		return snapshot.Usage{Size: u.Size, Inodes: u.Inodes}, nil
	})
}

// Sync implements snapshot.Snapshotter: of the filesystems of what was prepared since the last time.
func (s *Store) Sync(ctx context.Context) error {
	s.mu.Lock()
	dirs := s.written
	s.written = map[string]struct{}{}
	s.mu.Unlock()
	for dir := range dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := snapshot.SyncFilesystem(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// note remembers where the writes of a snapshot go.
func (s *Store) note(mounts []mount.Mount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range mounts {
		if dir := writable(m); dir != "" {
			s.written[dir] = struct{}{}
		}
	}
}

// Cleanup implements snapshot.Snapshotter. Programs delete the files of what was removed when they are asked to clean up.
func (s *Store) Cleanup(ctx context.Context) (int, error) {
	freed, err := s.Ledger.Cleanup(ctx)
	if err != nil {
		return freed, err
	}
	_, err = s.program.api.Cleanup(outgoing(ctx), &snapshots.CleanupRequest{})
	if err = s.program.explain(err); errdefs.IsNotImplemented(err) || errdefs.IsNotFound(err) { // so SOCI calls a store that is empty
		return freed, nil
	}
	return freed, err
}

// Diff implements snapshot.Differ.
func (s *Store) Diff(ctx context.Context, key snapshot.Key, w io.Writer) error {
	return s.Compare(ctx, key, func(c snapshot.Compared) error { return c.Diff(ctx, w, layer.DiffOptions{}) })
}

// Compare implements snapshot.Comparer.
func (s *Store) Compare(ctx context.Context, key snapshot.Key, do func(snapshot.Compared) error) error {
	r, chain, err := s.Comparable(key)
	if err != nil {
		return err
	}
	err = s.lookAt(ctx, r, func(upper string, overlay bool) error {
		c := snapshot.Compared{Upper: upper, UpperDirectory: overlay, UIDMap: r.UIDMap, GIDMap: r.GIDMap}
		if len(chain) == 0 {
			return do(c)
		}
		return s.look(ctx, s.program.parent(chain), func(lower string) error {
			c.Lower = lower
			return do(c)
		})
	})
	if err != nil {
		return fmt.Errorf("diff of snapshot %s: %w", key, err)
	}
	return nil
}

// lookAt shows a snapshot's files: those of an overlay's upper directory alone, where it has one, else the whole tree.
func (s *Store) lookAt(ctx context.Context, r snapshot.Record, do func(dir string, overlay bool) error) error {
	if r.Kind == snapshot.Committed {
		return s.look(ctx, s.program.key(r), func(root string) error { return do(root, false) })
	}
	mounts, err := s.program.mounts(ctx, s.program.active(r))
	if err != nil {
		return lost(err)
	}
	if len(mounts) == 1 && mounts[0].Type == "overlay" {
		return do(writable(mounts[0]), true)
	}
	return mount.Temp(ctx, mount.ReadOnly(mounts), func(root string) error { return do(root, false) })
}

// look shows a committed snapshot of the program's through a view, which goes afterwards.
func (s *Store) look(ctx context.Context, name string, do func(root string) error) error {
	return s.Temporary(func(n uint64) error {
		r := snapshot.Record{Kind: snapshot.View, Dir: n}
		made, err := s.program.api.View(outgoing(ctx), &snapshots.ViewSnapshotRequest{
			Key: s.program.active(r), Parent: name, Labels: s.program.labels(r, nil),
		})
		if err != nil {
			return lost(s.program.explain(err))
		}
		err = mount.Temp(ctx, mountsOf(made.Mounts), do)
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTimeout)
		defer cancel()
		return errors.Join(err, s.program.drop(after, s.program.active(r)))
	})
}
