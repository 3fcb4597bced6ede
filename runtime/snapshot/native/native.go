// Package native keeps snapshots as whole directory trees: each is a copy of its parent. It works on every filesystem,
// costs the time and, where the filesystem cannot share blocks between files (reflink: xfs, btrfs), the space of the copy,
// and is for hosts whose kernel or filesystem cannot do overlays.
package native

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/treecopy"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

// Name of the snapshotter.
const Name = "native"

// Options of Open.
type Options struct {
	Root    string           // absolute; made if it is not there
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
	Trees   Trees // nil: ordinary directories
}

// Trees are how whole trees are made.
type Trees interface {
	// Name is the snapshotter's with these trees.
	Name() string
	// New makes an empty one.
	New(dir string) error
	// Copy makes one that is as from, with the owners' ids mapped.
	Copy(ctx context.Context, from, to string, opts snapshot.Options) error
	// Clear makes a directory with a tree in it, in any state, ready to be deleted.
	Clear(dir string) error
	// Usage is what a tree has for itself; parent is empty, or what it was copied of.
	Usage(ctx context.Context, parent, dir string) (snapshot.Usage, error)
}

// Store is the snapshotter.
type Store struct {
	*snapshot.Directories
	trees Trees
}

// directories are ordinary trees.
type directories struct{}

func (directories) Name() string         { return Name }
func (directories) New(dir string) error { return os.Mkdir(dir, 0o755) }
func (directories) Clear(string) error   { return nil }

func (directories) Copy(ctx context.Context, from, to string, opts snapshot.Options) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	err := treecopy.Copy(ctx, from, to, treecopy.Options{
		UID: func(id uint32) uint32 { return snapshot.HostID(id, opts.UIDMap) },
		GID: func(id uint32) uint32 { return snapshot.HostID(id, opts.GIDMap) },
	})
	if err != nil {
		return fmt.Errorf("copy the parent: %w", err)
	}
	return nil
}

// Usage counts whole, shared blocks too.
func (directories) Usage(ctx context.Context, _, dir string) (snapshot.Usage, error) {
	return snapshot.Count(ctx, dir)
}

var (
	_ snapshot.Snapshotter = (*Store)(nil)
	_ snapshot.Differ      = (*Store)(nil)
	_ snapshot.Comparer    = (*Store)(nil)
)

// Open opens the store and clears away what a crash has left.
func Open(ctx context.Context, o Options) (*Store, error) {
	if !filepath.IsAbs(o.Root) {
		return nil, fmt.Errorf("root of the native snapshotter, %q, is not an absolute path: %w", o.Root, errdefs.ErrInvalidArgument)
	}
	if o.Trees == nil {
		o.Trees = directories{}
	}
	ledger, err := snapshot.OpenDirectories(ctx, o.Root, o.Records, o.Log, o.Trees.Clear)
	if err != nil {
		return nil, err
	}
	return &Store{ledger, o.Trees}, nil
}

// Name implements snapshot.Snapshotter.
func (s *Store) Name() string { return s.trees.Name() }

// Close implements snapshot.Snapshotter.
func (s *Store) Close() error { return nil }

func (s *Store) fs(dir uint64) string { return filepath.Join(s.Dir(dir), "fs") }

// Prepare implements snapshot.Snapshotter.
func (s *Store) Prepare(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	r, _, err := s.New(ctx, key, snapshot.Active, parent, opts, func(dir string, _ snapshot.Record, chain []snapshot.Record) error {
		return s.fill(ctx, filepath.Join(dir, "fs"), chain, opts)
	})
	if err != nil {
		return nil, err
	}
	return bind(s.fs(r.Dir), "rw"), nil
}

// fill copies the parent. A mapping of ids is applied to the copy's owners.
func (s *Store) fill(ctx context.Context, root string, chain []snapshot.Record, opts snapshot.Options) error {
	if len(chain) > 0 {
		return s.trees.Copy(ctx, s.fs(chain[0].Dir), root, opts)
	}
	if err := s.trees.New(root); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o755); err != nil { // whatever the umask
		return err
	}
	uid, gid := snapshot.HostID(0, opts.UIDMap), snapshot.HostID(0, opts.GIDMap)
	if uid == 0 && gid == 0 {
		return nil
	}
	return os.Chown(root, int(uid), int(gid))
}

// View implements snapshot.Snapshotter. A view of a layer is that layer, mounted read-only.
func (s *Store) View(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	fill := func(dir string, _ snapshot.Record, _ []snapshot.Record) error {
		return s.trees.New(filepath.Join(dir, "fs"))
	}
	if parent != "" {
		fill = nil
	}
	r, chain, err := s.New(ctx, key, snapshot.View, parent, opts, fill)
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain), nil
}

// Mounts implements snapshot.Snapshotter.
func (s *Store) Mounts(_ context.Context, key snapshot.Key) ([]mount.Mount, error) {
	r, chain, err := s.Mountable(key)
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain), nil
}

func (s *Store) mounts(r snapshot.Record, chain []snapshot.Record) []mount.Mount {
	switch {
	case r.Kind == snapshot.Active:
		return bind(s.fs(r.Dir), "rw")
	case len(chain) == 0:
		return bind(s.fs(r.Dir), "ro")
	}
	return bind(s.fs(chain[0].Dir), "ro", mount.IDMapOptions(r.UIDMap, r.GIDMap)...)
}

func bind(dir, mode string, more ...string) []mount.Mount {
	return []mount.Mount{{Type: "bind", Source: dir, Options: append([]string{"rbind", mode}, more...)}}
}

// Commit implements snapshot.Snapshotter.
func (s *Store) Commit(ctx context.Context, ns, name, active string, labels map[string]string) error {
	same := func(r snapshot.Record) string { return r.Parent }
	return s.Ledger.Commit(ctx, ns, name, active, labels, same, func(r *snapshot.Record, _ []snapshot.Record) error {
		if err := snapshot.Uncommittable(*r); err != nil {
			return err
		}
		if _, err := os.Stat(s.fs(r.Dir)); err != nil {
			return fmt.Errorf("its files: %w: %w", err, errdefs.ErrDataLoss)
		}
		return nil
	})
}

// Usage implements snapshot.Snapshotter.
func (s *Store) Usage(ctx context.Context, key snapshot.Key) (snapshot.Usage, error) {
	return s.Counted(key, func(r snapshot.Record) (snapshot.Usage, error) {
		parent := ""
		if r.Parent != "" {
			_, chain, err := s.Get(key)
			if err != nil {
				return snapshot.Usage{}, err
			}
			parent = s.fs(chain[0].Dir)
		}
		return s.trees.Usage(ctx, parent, s.fs(r.Dir))
	})
}

// Diff implements snapshot.Differ.
func (s *Store) Diff(ctx context.Context, key snapshot.Key, w io.Writer) error {
	return s.Compare(ctx, key, func(c snapshot.Compared) error { return c.Diff(ctx, w, layer.DiffOptions{}) })
}

// Compare implements snapshot.Comparer.
func (s *Store) Compare(_ context.Context, key snapshot.Key, do func(snapshot.Compared) error) error {
	r, chain, err := s.Comparable(key)
	if err != nil {
		return err
	}
	c := snapshot.Compared{Upper: s.fs(r.Dir), UIDMap: r.UIDMap, GIDMap: r.GIDMap}
	if len(chain) > 0 {
		c.Lower = s.fs(chain[0].Dir)
	}
	if err := do(c); err != nil {
		return fmt.Errorf("diff of snapshot %s: %w", key, err)
	}
	return nil
}
