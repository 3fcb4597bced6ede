// Package blockfile keeps each snapshot as a file with an ext4 in it, which is mounted by a loop device. A new snapshot is a
// copy of its parent's file, whose blocks are shared where the filesystem can (reflink: xfs, btrfs). It bounds what a
// container can write, and is what virtual machines take as a disk.
package blockfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/treecopy"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

// Name of the snapshotter.
const Name = "blockfile"

// Sizes of the filesystems, in bytes. Files have holes: what is not written takes nothing.
const (
	DefaultSize = 10 << 30
	MinSize     = 16 << 20 // less is not enough for the journal
)

const (
	program    = "mkfs.ext4"
	filesystem = "ext4"
)

// Options of Open.
type Options struct {
	Name    string           // of the snapshotter; empty: Name
	Root    string           // absolute; made if it is not there
	Size    int64            // of the filesystems that have no parent, in bytes; 0: DefaultSize
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
}

// Store is the snapshotter.
type Store struct {
	*snapshot.Directories
	name  string
	empty string // a file with an empty filesystem
}

var (
	_ snapshot.Snapshotter = (*Store)(nil)
	_ snapshot.Differ      = (*Store)(nil)
	_ snapshot.Comparer    = (*Store)(nil)
)

// Open opens the store and clears away what a crash has left. ErrNotImplemented where there are no loop devices, or no
// mkfs.ext4.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	if o.Size < MinSize {
		return nil, fmt.Errorf("size of the filesystems, %d bytes, is less than %d: %w", o.Size, MinSize, errdefs.ErrInvalidArgument)
	}
	s := &Store{name: o.Name, empty: filepath.Join(o.Root, fmt.Sprintf("empty-%d.img", o.Size))}
	if s.name == "" {
		s.name = Name
	}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, err
	}
	if err := s.makeEmpty(ctx, o.Size); err != nil {
		return nil, fmt.Errorf("filesystems in files cannot be used here: %w", err)
	}
	var err error
	s.Directories, err = snapshot.OpenDirectories(ctx, o.Root, o.Records, o.Log, nil)
	return s, err
}

// makeEmpty makes the filesystem that those without a parent are copies of, and mounts it to see that this works.
func (s *Store) makeEmpty(ctx context.Context, size int64) error {
	if _, err := os.Stat(s.empty); err == nil {
		return nil
	}
	mkfs, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: install e2fsprogs: %w", err, errdefs.ErrNotImplemented)
	}
	provisional := s.empty + ".new"
	if err := os.WriteFile(provisional, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(provisional, size); err != nil {
		return err
	}
	// What could be initialised later is: it would be written to each copy anew.
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", provisional).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	err = mount.Temp(ctx, []mount.Mount{disk(provisional, "rw")}, func(root string) error {
		return errors.Join(os.Remove(filepath.Join(root, "lost+found")), os.Chmod(root, 0o755))
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotImplemented)
	}
	return os.Rename(provisional, s.empty)
}

// disk is the mount of a file. What is deleted in it becomes a hole of the file.
func disk(file, mode string) mount.Mount {
	options := []string{"loop", mode}
	if mode == "rw" {
		options = append(options, "discard")
	}
	return mount.Mount{Type: filesystem, Source: file, Options: options}
}

// Name implements snapshot.Snapshotter.
func (s *Store) Name() string { return s.name }

// Close implements snapshot.Snapshotter.
func (s *Store) Close() error { return nil }

func (s *Store) image(dir uint64) string { return filepath.Join(s.Dir(dir), "disk.img") }

// Prepare implements snapshot.Snapshotter.
func (s *Store) Prepare(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	r, chain, err := s.New(ctx, key, snapshot.Active, parent, opts, func(dir string, _ snapshot.Record, chain []snapshot.Record) error {
		return s.fill(ctx, filepath.Join(dir, "disk.img"), chain, opts)
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain), nil
}

// fill copies the parent. A mapping of ids is applied to the copy's owners.
func (s *Store) fill(ctx context.Context, to string, chain []snapshot.Record, opts snapshot.Options) error {
	from := s.empty
	if len(chain) > 0 {
		from = s.image(chain[0].Dir)
	}
	info, err := os.Stat(from)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	if err != nil {
		return err
	}
	if err := treecopy.CopyFile(from, to, info.Size()); err != nil {
		return err
	}
	if len(opts.UIDMap) == 0 {
		return nil
	}
	return mount.Temp(ctx, []mount.Mount{disk(to, "rw")}, func(root string) error { return snapshot.Give(ctx, root, opts) })
}

// View implements snapshot.Snapshotter. A view of a layer is that layer, mounted read-only.
func (s *Store) View(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	fill := func(dir string, _ snapshot.Record, chain []snapshot.Record) error {
		return s.fill(ctx, filepath.Join(dir, "disk.img"), chain, opts)
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
	r, chain, err := s.Get(key)
	if err != nil {
		return nil, err
	}
	if r.Kind == snapshot.Committed {
		return nil, fmt.Errorf("snapshot %s is committed, it is not mounted itself: make a view of it: %w", key, errdefs.ErrInvalidArgument)
	}
	return s.mounts(r, chain), nil
}

func (s *Store) mounts(r snapshot.Record, chain []snapshot.Record) []mount.Mount {
	switch {
	case r.Kind == snapshot.Active:
		return []mount.Mount{disk(s.image(r.Dir), "rw")}
	case len(chain) == 0:
		return []mount.Mount{disk(s.image(r.Dir), "ro")}
	}
	m := disk(s.image(chain[0].Dir), "ro")
	m.Options = append(m.Options, mount.IDMapOptions(r.UIDMap, r.GIDMap)...)
	return []mount.Mount{m}
}

// Commit implements snapshot.Snapshotter.
func (s *Store) Commit(ctx context.Context, ns, name, active string, labels map[string]string) error {
	same := func(r snapshot.Record) string { return r.Parent }
	return s.Ledger.Commit(ctx, ns, name, active, labels, same, func(r *snapshot.Record, _ []snapshot.Record) error {
		if err := snapshot.Uncommittable(*r); err != nil {
			return err
		}
		if _, err := os.Stat(s.image(r.Dir)); err != nil {
			return fmt.Errorf("its files: %w: %w", err, errdefs.ErrDataLoss)
		}
		return nil
	})
}

// Usage implements snapshot.Snapshotter: of the file, shared blocks too.
func (s *Store) Usage(_ context.Context, key snapshot.Key) (snapshot.Usage, error) {
	return s.Counted(key, func(r snapshot.Record) (snapshot.Usage, error) {
		info, err := os.Stat(s.image(r.Dir))
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
		}
		if err != nil {
			return snapshot.Usage{}, err
		}
		return snapshot.Usage{Size: info.Sys().(*syscall.Stat_t).Blocks * 512, Inodes: 1}, nil
	})
}

// Diff implements snapshot.Differ.
func (s *Store) Diff(ctx context.Context, key snapshot.Key, w io.Writer) error {
	return s.Compare(ctx, key, func(c snapshot.Compared) error { return c.Diff(ctx, w, layer.DiffOptions{}) })
}

// Compare implements snapshot.Comparer. What is mounted is seen as it is at the time.
func (s *Store) Compare(ctx context.Context, key snapshot.Key, do func(snapshot.Compared) error) error {
	r, chain, err := s.Get(key)
	if err != nil {
		return err
	}
	if r.Kind == snapshot.View {
		return fmt.Errorf("diff of snapshot %s: a view changes nothing: %w", key, errdefs.ErrInvalidArgument)
	}
	err = mount.Temp(ctx, []mount.Mount{disk(s.image(r.Dir), "ro")}, func(upper string) error {
		c := snapshot.Compared{Upper: upper, UIDMap: r.UIDMap, GIDMap: r.GIDMap}
		if len(chain) == 0 {
			return do(c)
		}
		return mount.Temp(ctx, []mount.Mount{disk(s.image(chain[0].Dir), "ro")}, func(lower string) error {
			c.Lower = lower
			return do(c)
		})
	})
	if err != nil {
		return fmt.Errorf("diff of snapshot %s: %w", key, err)
	}
	return nil
}
