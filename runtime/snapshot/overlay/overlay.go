// Package overlay keeps snapshots as directories that overlayfs puts together: a layer is stored once, whoever uses it,
// and a new snapshot takes the making of two directories.
//
// The directory of a snapshot has "fs", its files in overlayfs' own form (whiteouts are character devices 0:0, opaque
// directories have an attribute), and "work", overlayfs' scratch. How such directories are mounted is decided here;
// the records are the ledger's, and the mounting is internal/mount's.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/userns"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

// Name of the snapshotter.
const Name = "overlay"

// Options of Open.
type Options struct {
	Root    string           // absolute; made if it is not there
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
	// MountOptions are given to every overlay: "volatile" (Linux 5.10), …
	MountOptions []string
	// UserXattr makes overlayfs keep its attributes in user.overlay.* (Linux 5.11). In a user namespace, where it cannot
	// write its usual ones, that is so in any case.
	UserXattr bool
	// Packer keeps committed layers in another form than directories of files; nil: it does not.
	Packer Packer
	// Elsewhere are layers of other daemons, which are only read; not with a packer.
	Elsewhere []snapshot.Elsewhere
}

// Packer has a form of its own for committed layers.
type Packer interface {
	// Name is the snapshotter's with this form.
	Name() string
	// Pack makes the packed form of the files dir/fs in dir, durably. It may have been done before; the files go later.
	Pack(ctx context.Context, dir string) error
	// Show gives the directory in which a packed layer's files are seen, until Hide. ErrDataLoss when it is not there.
	Show(dir string) (string, error)
	Hide(dir string) error
	// Usage is what the packed form takes.
	Usage(dir string) (snapshot.Usage, error)
}

// Store is the snapshotter.
type Store struct {
	*snapshot.Directories
	options   []string // of every overlay
	volatile  bool     // the kernel knows the option (Linux 5.10)
	userXattr bool
	packer    Packer // or nil
	elsewhere []snapshot.Elsewhere
}

var (
	_ snapshot.LayerStore = (*Store)(nil)
	_ snapshot.Differ     = (*Store)(nil)
	_ snapshot.Comparer   = (*Store)(nil)
)

// Open opens the store in o.Root, mounts an overlay there to see that it works, and clears away what a crash has left.
// ErrNotImplemented when the kernel, or the filesystem of the directory, cannot do overlays.
func Open(ctx context.Context, o Options) (*Store, error) {
	if !filepath.IsAbs(o.Root) {
		return nil, fmt.Errorf("root of the overlay snapshotter, %q, is not an absolute path: %w", o.Root, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, fmt.Errorf("root of the overlay snapshotter: %w", err)
	}
	s := &Store{userXattr: o.UserXattr || userns.Inside(), packer: o.Packer, elsewhere: o.Elsewhere}
	s.options = append(s.options, defaultOptions(os.ReadFile)...)
	if s.userXattr {
		s.options = append(s.options, "userxattr")
	}
	s.options = append(s.options, o.MountOptions...)
	if err := s.probe(ctx, o.Root); err != nil {
		return nil, fmt.Errorf("overlays do not work in %s: %w: set the default snapshotter to \"native\", or put the root on ext4, xfs, btrfs or tmpfs: %w",
			o.Root, err, errdefs.ErrNotImplemented)
	}
	s.volatile = s.probe(ctx, o.Root, "volatile") == nil
	var clear snapshot.Clear
	if o.Packer != nil {
		clear = o.Packer.Hide
	}
	directories, err := snapshot.OpenDirectories(ctx, o.Root, o.Records, o.Log, clear)
	if err != nil {
		return nil, err
	}
	s.Directories = directories
	return s, nil
}

// defaultOptions turn off what makes an upper directory more than a list of changes, where the kernel was built or told
// to turn it on: redirects and metadata-only copies refer to other layers by name, and the index ties an upper to its
// lowers, which here are put together anew each time.
func defaultOptions(read func(string) ([]byte, error)) []string {
	var out []string
	for _, name := range []string{"index", "redirect_dir", "metacopy"} {
		value, err := read("/sys/module/overlay/parameters/" + name)
		if err == nil && strings.HasPrefix(string(value), "Y") {
			out = append(out, name+"=off")
		}
	}
	return out
}

// probe mounts an overlay and changes something in it. The mount is detached where the kernel can do that, so that a
// crash leaves but a directory.
func (s *Store) probe(ctx context.Context, root string, options ...string) (err error) {
	dir, err := os.MkdirTemp(root, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, name := range []string{"lower", "below", "fs", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lower", "file"), nil, 0o644); err != nil {
		return err
	}
	m := s.overlay([]string{filepath.Join(dir, "lower"), filepath.Join(dir, "below")}, dir)
	m.Options = append(m.Options, options...)
	change := func(root string) error {
		if err := os.Remove(filepath.Join(root, "file")); err != nil {
			return fmt.Errorf("a file of a lower layer cannot be removed: %w", err)
		}
		return nil
	}
	tree, err := mount.Tree(m)
	if errors.Is(err, errdefs.ErrNotImplemented) {
		return mount.Temp(ctx, []mount.Mount{m}, change)
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	return change(fmt.Sprintf("/proc/self/fd/%d", tree.Fd()))
}

// Name implements snapshot.Snapshotter.
func (s *Store) Name() string {
	if s.packer != nil {
		return s.packer.Name()
	}
	return Name
}

// UserXattr implements snapshot.LayerStore.
func (s *Store) UserXattr() bool { return s.userXattr }

// Close implements snapshot.Snapshotter. Packed layers are not shown any more; overlays have them without that.
func (s *Store) Close() error {
	if s.packer == nil {
		return nil
	}
	all, err := s.Directories.Held(context.Background())
	errs := []error{err}
	for _, h := range all {
		errs = append(errs, s.packer.Hide(h.Place))
	}
	return errors.Join(errs...)
}

func (s *Store) fs(dir uint64) string { return filepath.Join(s.Dir(dir), "fs") }

// Prepare implements snapshot.Snapshotter.
func (s *Store) Prepare(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	r, chain, err := s.New(ctx, key, snapshot.Active, parent, opts, func(dir string, _ snapshot.Record, chain []snapshot.Record) error {
		return s.fill(dir, chain, opts)
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain)
}

// View implements snapshot.Snapshotter. Only a view of nothing needs a directory.
func (s *Store) View(ctx context.Context, key snapshot.Key, parent string, opts snapshot.Options) ([]mount.Mount, error) {
	fill := func(dir string, _ snapshot.Record, chain []snapshot.Record) error { return s.fill(dir, chain, opts) }
	if parent != "" {
		fill = nil
	}
	r, chain, err := s.New(ctx, key, snapshot.View, parent, opts, fill)
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain)
}

// fill makes the upper and the work directory. The root of an overlay is what its upper directory is, so that gets what
// the topmost layer's has.
func (s *Store) fill(dir string, chain []snapshot.Record, opts snapshot.Options) error {
	if err := os.Mkdir(filepath.Join(dir, "work"), 0o711); err != nil {
		return err
	}
	upper := filepath.Join(dir, "fs")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	stat := unix.Stat_t{Mode: 0o755}
	if len(chain) > 0 {
		top, err := s.lowers(chain[:1])
		if err != nil {
			return err
		}
		if err := unix.Stat(top[0], &stat); err != nil {
			return fmt.Errorf("topmost layer %s: %w: %w", top[0], err, errdefs.ErrDataLoss)
		}
	}
	uid, gid := snapshot.HostID(stat.Uid, opts.UIDMap), snapshot.HostID(stat.Gid, opts.GIDMap)
	if int(uid) != os.Geteuid() || int(gid) != os.Getegid() {
		if err := os.Chown(upper, int(uid), int(gid)); err != nil {
			return err
		}
	}
	return unix.Chmod(upper, stat.Mode&0o7777)
}

// Mounts implements snapshot.Snapshotter.
func (s *Store) Mounts(_ context.Context, key snapshot.Key) ([]mount.Mount, error) {
	r, chain, err := s.Mountable(key)
	if err != nil {
		return nil, err
	}
	return s.mounts(r, chain)
}

// mounts says how a snapshot is put together. An overlay needs a lower layer, and two of them if there is no upper; with
// fewer, a bind mount shows the same.
func (s *Store) mounts(r snapshot.Record, chain []snapshot.Record) ([]mount.Mount, error) {
	lower, err := s.lowers(chain)
	if err != nil {
		return nil, err
	}
	mapped := mount.IDMapOptions(r.UIDMap, r.GIDMap)
	switch {
	case len(lower) == 0 && r.Kind == snapshot.Active:
		// Its files are made by this snapshot alone, with ids of the host.
		return []mount.Mount{bind(s.fs(r.Dir), "rw")}, nil
	case len(lower) == 0:
		return []mount.Mount{bind(s.fs(r.Dir), "ro")}, nil
	case len(lower) == 1 && r.Kind == snapshot.View:
		m := bind(lower[0], "ro")
		m.Options = append(m.Options, mapped...)
		return []mount.Mount{m}, nil
	}
	m := s.overlay(lower, "")
	if r.Kind == snapshot.Active {
		m = s.overlay(lower, s.Dir(r.Dir))
	}
	if r.Kind == snapshot.Active && r.Volatile && s.volatile {
		// A mount that a power cut has ended leaves this, and the kernel refuses the next one: what was written may be
		// torn. Who said that it does not matter gets what is there (Documentation/filesystems/overlayfs.rst).
		if err := os.RemoveAll(filepath.Join(s.Dir(r.Dir), "work", "work", "incompat")); err != nil {
			return nil, err
		}
		m.Options = append(m.Options, "volatile")
	}
	m.Options = append(m.Options, mapped...)
	return []mount.Mount{m}, nil
}

func bind(dir, mode string) mount.Mount {
	return mount.Mount{Type: "bind", Source: dir, Options: []string{"rbind", mode}}
}

// overlay is the mount of lower layers, the topmost first, with the upper and work directories in dir if there is one.
func (s *Store) overlay(lower []string, dir string) mount.Mount {
	options := []string{"lowerdir=" + mount.LowerDirs(lower)}
	if dir != "" {
		options = append(options, "upperdir="+filepath.Join(dir, "fs"), "workdir="+filepath.Join(dir, "work"))
	}
	return mount.Mount{Type: "overlay", Source: "overlay", Options: append(options, s.options...)}
}

// Commit implements snapshot.Snapshotter.
func (s *Store) Commit(ctx context.Context, ns, name, active string, labels map[string]string) error {
	same := func(r snapshot.Record) string { return r.Parent }
	return s.commit(ctx, ns, name, active, labels, same, func(r snapshot.Record, _ []snapshot.Record) error {
		return snapshot.Uncommittable(r)
	})
}

// commit makes a layer of what is in a snapshot's directory, after finish. A packed form is made before the ledger is
// locked: it may take long.
func (s *Store) commit(ctx context.Context, ns, name, active string, labels map[string]string, parent func(snapshot.Record) string, finish func(snapshot.Record, []snapshot.Record) error) error {
	var packed uint64
	if s.packer != nil {
		var err error
		if packed, err = s.pack(ctx, snapshot.Key{Namespace: ns, Name: active}, parent, finish); err != nil {
			return fmt.Errorf("commit snapshot %s/%s: %w", ns, active, err)
		}
	}
	err := s.Ledger.Commit(ctx, ns, name, active, labels, parent, func(r *snapshot.Record, chain []snapshot.Record) error {
		switch {
		case s.packer == nil:
			if err := finish(*r, chain); err != nil {
				return err
			}
			return s.dropWork(*r)
		case r.Dir != packed:
			return fmt.Errorf("it is another one by now: %w", errdefs.ErrUnavailable)
		}
		return nil
	})
	if err != nil || s.packer == nil {
		return err
	}
	// They are in the packed form. What a crash keeps from being deleted goes when that is shown.
	return errors.Join(os.RemoveAll(s.fs(packed)), os.RemoveAll(filepath.Join(s.Dir(packed), "work")))
}

// pack makes the packed form of an active snapshot; of what cannot be committed, none.
func (s *Store) pack(ctx context.Context, key snapshot.Key, parent func(snapshot.Record) string, finish func(snapshot.Record, []snapshot.Record) error) (uint64, error) {
	r, _, err := s.Get(key)
	if err != nil || r.Kind != snapshot.Active {
		return 0, err
	}
	chain, err := s.Chain(key.Namespace, parent(r))
	if err != nil {
		return 0, err
	}
	if err := finish(r, chain); err != nil {
		return 0, err
	}
	return r.Dir, s.packer.Pack(ctx, s.Dir(r.Dir))
}

// lowers are the directories of committed layers.
func (s *Store) lowers(chain []snapshot.Record) ([]string, error) {
	lower := make([]string, len(chain))
	for i, parent := range chain {
		lower[i] = s.fs(parent.Dir)
		if parent.Elsewhere != "" {
			if err := parent.StillThere(); err != nil {
				return nil, err
			}
			lower[i] = filepath.Join(parent.Elsewhere, "fs")
			continue
		}
		if s.packer == nil {
			continue
		}
		var err error
		if lower[i], err = s.packer.Show(s.Dir(parent.Dir)); err != nil {
			return nil, err
		}
	}
	return lower, nil
}

// dropWork removes overlayfs' scratch, which a committed layer does not need.
func (s *Store) dropWork(r snapshot.Record) error {
	if _, err := os.Stat(s.fs(r.Dir)); err != nil {
		return fmt.Errorf("its files: %w: %w", err, errdefs.ErrDataLoss)
	}
	return os.RemoveAll(filepath.Join(s.Dir(r.Dir), "work"))
}

// PrepareLayer implements snapshot.LayerStore.
func (s *Store) PrepareLayer(ctx context.Context, key snapshot.Key) (string, error) {
	r, _, err := s.New(ctx, key, snapshot.Active, "", snapshot.Options{}, func(dir string, _ snapshot.Record, chain []snapshot.Record) error {
		return s.fill(dir, chain, snapshot.Options{})
	})
	return s.fs(r.Dir), err
}

// CommitLayer implements snapshot.LayerStore.
func (s *Store) CommitLayer(ctx context.Context, ns, chainID, parentChainID string, key snapshot.Key, labels map[string]string) error {
	if ns != key.Namespace {
		return fmt.Errorf("commit layer %s: snapshot %s is not in namespace %s: %w", chainID, key, ns, errdefs.ErrInvalidArgument)
	}
	parent := func(snapshot.Record) string { return parentChainID }
	return s.commit(ctx, ns, chainID, key.Name, labels, parent, func(r snapshot.Record, chain []snapshot.Record) error {
		lower, err := s.lowers(chain)
		if err != nil {
			return err
		}
		return layer.Inherit(s.fs(r.Dir), lower, s.userXattr)
	})
}

// Adopt implements snapshot.Snapshotter: also of other daemons.
func (s *Store) Adopt(ctx context.Context, ns, chainID string) (bool, error) {
	ok, err := s.Directories.Adopt(ctx, ns, chainID)
	for i := 0; i < len(s.elsewhere) && !ok && err == nil; i++ {
		ok, err = s.Borrow(ns, chainID, s.elsewhere[i])
	}
	return ok, err
}

// Usage implements snapshot.Snapshotter.
func (s *Store) Usage(ctx context.Context, key snapshot.Key) (snapshot.Usage, error) {
	if s.packer != nil {
		return s.Counted(key, func(r snapshot.Record) (snapshot.Usage, error) {
			if r.Kind == snapshot.Committed {
				return s.packer.Usage(s.Dir(r.Dir))
			}
			return snapshot.Count(ctx, s.fs(r.Dir))
		})
	}
	return s.Directories.Usage(ctx, key, "fs")
}

// Diff implements snapshot.Differ.
func (s *Store) Diff(ctx context.Context, key snapshot.Key, w io.Writer) error {
	return s.Compare(ctx, key, func(c snapshot.Compared) error { return c.Diff(ctx, w, layer.DiffOptions{}) })
}

// Compare implements snapshot.Comparer: overlayfs has gathered the changes in the upper directory.
func (s *Store) Compare(ctx context.Context, key snapshot.Key, do func(snapshot.Compared) error) error {
	r, chain, err := s.Comparable(key)
	if err != nil {
		return err
	}
	upper := s.fs(r.Dir)
	if r.Kind == snapshot.Committed {
		own, err := s.lowers([]snapshot.Record{r})
		if err != nil {
			return fmt.Errorf("diff of snapshot %s: %w", key, err)
		}
		upper = own[0]
	}
	c := snapshot.Compared{Upper: upper, UpperDirectory: true, UIDMap: r.UIDMap, GIDMap: r.GIDMap}
	if len(chain) == 0 {
		err = do(c)
	} else {
		err = s.onParent(ctx, chain, func(lower string) error {
			c.Lower = lower
			return do(c)
		})
	}
	if err != nil {
		return fmt.Errorf("diff of snapshot %s: %w", key, err)
	}
	return nil
}

// onParent shows the layers below for reading, in a detached mount that nothing outlasts where the kernel can do that.
func (s *Store) onParent(ctx context.Context, chain []snapshot.Record, do func(root string) error) error {
	mounts, err := s.mounts(snapshot.Record{Kind: snapshot.View}, chain)
	if err != nil {
		return err
	}
	tree, err := mount.Tree(mounts[0])
	if errors.Is(err, errdefs.ErrNotImplemented) {
		return mount.Temp(ctx, mounts, do)
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	return do(fmt.Sprintf("/proc/self/fd/%d", tree.Fd()))
}
