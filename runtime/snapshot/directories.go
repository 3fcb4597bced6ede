package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Directories is a ledger whose snapshots are directories:
//
//	root/snapshots/N           a directory, whole
//	root/snapshots/N.new       one being made
//	root/snapshots/N.removing  one being deleted
type Directories struct {
	*Ledger
	files directories
}

// Dir is the path of a directory by its number.
func (d *Directories) Dir(n uint64) string { return d.files.Dir(n) }

// Clear makes a directory ready to be deleted with all in it; not needed where that is files alone.
type Clear func(dir string) error

// OpenDirectories opens the directory, which it makes if need be, and clears away what a crash has left. clear may be nil.
func OpenDirectories(ctx context.Context, root string, records Records, log *slog.Logger, clear Clear) (*Directories, error) {
	d := directories{filepath.Join(root, "snapshots"), clear}
	// Others must not read layers: they contain set-user-ID programs of images.
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	all, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	last := uint64(0)
	for _, h := range all {
		last = max(last, h.Dir)
	}
	l, err := OpenLedger(ctx, d, last, records, log)
	if err != nil {
		return nil, err
	}
	return &Directories{l, d}, nil
}

// Held are the directories, whatever their state.
func (d *Directories) Held(ctx context.Context) ([]Held, error) { return d.files.List(ctx) }

// Sync is Snapshotter.Sync.
func (d *Directories) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return SyncFilesystem(d.files.dir)
}

// SyncFilesystem writes what is in the memory of the filesystem of a path to its disk.
func SyncFilesystem(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync snapshots: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync snapshots in %s: %w", path, err)
	}
	return nil
}

// Usage is Snapshotter.Usage; sub is where in the snapshot's directory its files are.
func (d *Directories) Usage(ctx context.Context, key Key, sub string) (Usage, error) {
	return d.Counted(key, func(r Record) (Usage, error) { return Count(ctx, filepath.Join(d.Dir(r.Dir), sub)) })
}

const (
	newSuffix      = ".new"
	removingSuffix = ".removing"
)

// directories is the backing.
type directories struct {
	dir   string
	clear Clear
}

func (d directories) String() string { return d.dir }

// Dir is the path of a directory by its number.
func (d directories) Dir(n uint64) string { return filepath.Join(d.dir, strconv.FormatUint(n, 10)) }

// List implements Backing.
func (d directories) List(context.Context) ([]Held, error) {
	dir, err := os.Open(d.dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	var all []Held
	for _, name := range names {
		if n, suffix, ok := parseDir(name); ok {
			all = append(all, Held{Dir: n, Place: filepath.Join(d.dir, name), Whole: suffix == ""})
		}
	}
	return all, nil
}

// parseDir takes a directory's name apart.
func parseDir(name string) (n uint64, suffix string, ok bool) {
	number, suffix := name, ""
	if i := strings.IndexByte(name, '.'); i >= 0 {
		number, suffix = name[:i], name[i:]
	}
	n, err := strconv.ParseUint(number, 10, 64)
	ok = err == nil && n > 0 && strconv.FormatUint(n, 10) == number && (suffix == "" || suffix == newSuffix || suffix == removingSuffix)
	return n, suffix, ok
}

// Make implements Backing: under a provisional name, which is the place.
func (d directories) Make(_ context.Context, r Record, do func(at string) error) error {
	provisional := d.Dir(r.Dir) + newSuffix
	if err := os.Mkdir(provisional, 0o700); err != nil {
		return err
	}
	if err := do(provisional); err != nil {
		return err
	}
	return os.Rename(provisional, d.Dir(r.Dir))
}

// Doom implements Backing: by another name.
func (d directories) Doom(_ context.Context, r Record) error {
	err := os.Rename(d.Dir(r.Dir), d.Dir(r.Dir)+removingSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a removal that stopped half way
	}
	return err
}

// Delete implements Backing: under whatever name it has.
func (d directories) Delete(_ context.Context, r Record) error {
	var errs []error
	for _, suffix := range []string{removingSuffix, newSuffix, ""} {
		errs = append(errs, d.remove(d.Dir(r.Dir)+suffix))
	}
	return errors.Join(errs...)
}

// Discard implements Backing.
func (d directories) Discard(_ context.Context, h Held) error { return d.remove(h.Place) }

// remove deletes a directory, whose name says by then that it is not whole.
func (d directories) remove(dir string) error {
	if d.clear != nil {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err := d.clear(dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Uncommittable refuses what cannot become a layer: its files have the ids of a user namespace.
func Uncommittable(r Record) error {
	if len(r.UIDMap) > 0 {
		return fmt.Errorf("its files belong to the ids of a user namespace; use the layer that Diff makes of it: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
