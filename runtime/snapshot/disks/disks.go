// Package disks is what snapshotters have in common that give each snapshot a disk of its own with a whole filesystem,
// which begins as a copy of its parent's. How a disk is made and where it is, a Device knows.
package disks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

const (
	program    = "mkfs.ext4"
	filesystem = "ext4"
)

// Sizes of the filesystems, in bytes. What is not written takes nothing.
const (
	DefaultSize = 10 << 30
	MinSize     = 16 << 20 // less is not enough for the journal
)

// Options are those of every snapshotter of disks.
type Options struct {
	Name    string           // of the snapshotter; empty: that of its type
	Root    string           // absolute; made if it is not there
	Size    int64            // of the filesystems that have no parent, in bytes; 0: DefaultSize
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
}

// Complete fills in what is empty. ErrInvalidArgument for a size that is too small.
func (o Options) Complete(name string) (Options, error) {
	o.Name, o.Size = cmp.Or(o.Name, name), cmp.Or(o.Size, DefaultSize)
	if o.Size < MinSize {
		return o, fmt.Errorf("size of the filesystems, %d bytes, is less than %d: %w", o.Size, MinSize, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

// Disk is that of a snapshot: its number, and the directory for what is kept of it.
type Disk struct {
	Number uint64
	Dir    string
}

// Device makes disks.
type Device interface {
	// Make makes a disk as a copy of another one, or with an empty filesystem for nil. ErrDataLoss when that is gone.
	Make(ctx context.Context, d Disk, from *Disk) error
	// Grow makes a disk larger, before it is used. ErrInvalidArgument when it is larger than that already.
	Grow(ctx context.Context, d Disk, size int64) error
	// Source is what is mounted of it, and the options that this needs. ErrDataLoss when it is gone.
	Source(ctx context.Context, d Disk) (source string, options []string, err error)
	// Rest comes after the last write.
	Rest(ctx context.Context, d Disk) error
	Usage(ctx context.Context, d Disk) (snapshot.Usage, error)
}

// Store is a snapshotter of disks.
type Store struct {
	*snapshot.Directories
	name   string
	device Device
}

var (
	_ snapshot.Snapshotter = (*Store)(nil)
	_ snapshot.Differ      = (*Store)(nil)
	_ snapshot.Comparer    = (*Store)(nil)
	_ snapshot.Bounded     = (*Store)(nil)
)

// Bounded implements snapshot.Bounded.
func (*Store) Bounded() {}

// New makes the snapshotter of that name.
func New(name string, directories *snapshot.Directories, device Device) *Store {
	return &Store{directories, name, device}
}

// Format makes the filesystem on a disk, or in a file, that is all zeros, and mounts it to see that this works; options are
// those of the mount. ErrNotImplemented without mkfs.ext4, and where it cannot be mounted.
func Format(ctx context.Context, source string, options ...string) error {
	mkfs, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: install e2fsprogs: %w", err, errdefs.ErrNotImplemented)
	}
	// What could be initialised later is: it would be written to each copy anew.
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	m := mount.Mount{Type: filesystem, Source: source, Options: append([]string{"rw"}, options...)}
	err = mount.Temp(ctx, []mount.Mount{m}, func(root string) error {
		return errors.Join(os.Remove(filepath.Join(root, "lost+found")), os.Chmod(root, 0o755))
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotImplemented)
	}
	return nil
}

// Name implements snapshot.Snapshotter.
func (s *Store) Name() string { return s.name }

// Close implements snapshot.Snapshotter.
func (s *Store) Close() error { return nil }

func (s *Store) disk(n uint64) Disk { return Disk{n, s.Dir(n)} }

// mounted is the mount of a disk. What is deleted in it is given back to what it lies on.
func (s *Store) mounted(ctx context.Context, d Disk, mode string, more ...string) (mount.Mount, error) {
	source, options, err := s.device.Source(ctx, d)
	if err != nil {
		return mount.Mount{}, err
	}
	options = append(options, mode)
	if mode == "rw" {
		options = append(options, "discard")
	}
	return mount.Mount{Type: filesystem, Source: source, Options: append(options, more...)}, nil
}

// Prepare implements snapshot.Snapshotter.
func (s *Store) Prepare(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	return s.make(ctx, key, snapshot.Active, parent, opts, s.fill(ctx, opts))
}

// View implements snapshot.Snapshotter. A view of a layer is that layer, mounted read-only.
func (s *Store) View(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	fill := s.fill(ctx, opts)
	if parent != "" {
		fill = nil
	}
	return s.make(ctx, key, snapshot.View, parent, opts, fill)
}

func (s *Store) make(ctx context.Context, key snapshot.Key, kind snapshot.Kind, parent string, opts snapshot.Options, fill snapshot.Fill) ([]mount.Mount, error) {
	r, chain, err := s.New(ctx, key, kind, parent, opts, fill)
	if err != nil {
		return nil, err
	}
	return s.mounts(ctx, r, chain)
}

// fill copies the parent. A mapping of ids is applied to the copy's owners.
func (s *Store) fill(ctx context.Context, opts snapshot.Options) snapshot.Fill {
	return func(at string, r snapshot.Record, chain []snapshot.Record) error {
		to := Disk{r.Dir, at}
		var from *Disk
		if len(chain) > 0 {
			parent := s.disk(chain[0].Dir)
			from = &parent
		}
		if err := s.device.Make(ctx, to, from); err != nil {
			return err
		}
		if opts.Size > 0 {
			if err := s.grow(ctx, to, opts.Size); err != nil {
				return err
			}
		}
		if len(opts.UIDMap) == 0 {
			return nil
		}
		m, err := s.mounted(ctx, to, "rw")
		if err != nil {
			return err
		}
		return mount.Temp(ctx, []mount.Mount{m}, func(root string) error { return snapshot.Give(ctx, root, opts) })
	}
}

// grow makes a disk larger, and the filesystem on it.
func (s *Store) grow(ctx context.Context, d Disk, size int64) error {
	if err := s.device.Grow(ctx, d, size); err != nil {
		return err
	}
	source, _, err := s.device.Source(ctx, d)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "resize2fs", "-f", source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("resize2fs: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// TooSmall is the error of a Grow to less than there is.
func TooSmall(size, has int64) error {
	return fmt.Errorf("a filesystem of %d bytes: that of the image has %d, and can only be made larger: %w", size, has, errdefs.ErrInvalidArgument)
}

// Mounts implements snapshot.Snapshotter.
func (s *Store) Mounts(ctx context.Context, key snapshot.Key) ([]mount.Mount, error) {
	r, chain, err := s.Mountable(key)
	if err != nil {
		return nil, err
	}
	return s.mounts(ctx, r, chain)
}

func (s *Store) mounts(ctx context.Context, r snapshot.Record, chain []snapshot.Record) ([]mount.Mount, error) {
	of, mode, mapped := r.Dir, "ro", []string(nil)
	switch {
	case r.Kind == snapshot.Active:
		mode = "rw"
	case len(chain) > 0:
		of, mapped = chain[0].Dir, mount.IDMapOptions(r.UIDMap, r.GIDMap)
	}
	m, err := s.mounted(ctx, s.disk(of), mode, mapped...)
	return []mount.Mount{m}, err
}

// Commit implements snapshot.Snapshotter.
func (s *Store) Commit(ctx context.Context, ns, name, active string, labels map[string]string) error {
	same := func(r snapshot.Record) string { return r.Parent }
	return s.Ledger.Commit(ctx, ns, name, active, labels, same, func(r *snapshot.Record, _ []snapshot.Record) error {
		if err := snapshot.Uncommittable(*r); err != nil {
			return err
		}
		if err := s.device.Rest(ctx, s.disk(r.Dir)); err != nil {
			return fmt.Errorf("its files: %w", err)
		}
		return nil
	})
}

// Usage implements snapshot.Snapshotter: of the disk, shared blocks too.
func (s *Store) Usage(ctx context.Context, key snapshot.Key) (snapshot.Usage, error) {
	return s.Counted(key, func(r snapshot.Record) (snapshot.Usage, error) { return s.device.Usage(ctx, s.disk(r.Dir)) })
}

// Diff implements snapshot.Differ.
func (s *Store) Diff(ctx context.Context, key snapshot.Key, w io.Writer) error {
	return s.Compare(ctx, key, func(c snapshot.Compared) error { return c.Diff(ctx, w, layer.DiffOptions{}) })
}

// Compare implements snapshot.Comparer. What is mounted is seen as it is at the time.
func (s *Store) Compare(ctx context.Context, key snapshot.Key, do func(snapshot.Compared) error) error {
	r, chain, err := s.Comparable(key)
	if err != nil {
		return err
	}
	err = s.show(ctx, s.disk(r.Dir), func(upper string) error {
		c := snapshot.Compared{Upper: upper, UIDMap: r.UIDMap, GIDMap: r.GIDMap}
		if len(chain) == 0 {
			return do(c)
		}
		return s.show(ctx, s.disk(chain[0].Dir), func(lower string) error {
			c.Lower = lower
			return do(c)
		})
	})
	if err != nil {
		return fmt.Errorf("diff of snapshot %s: %w", key, err)
	}
	return nil
}

func (s *Store) show(ctx context.Context, d Disk, do func(root string) error) error {
	m, err := s.mounted(ctx, d, "ro")
	if err != nil {
		return err
	}
	return mount.Temp(ctx, []mount.Mount{m}, do)
}
