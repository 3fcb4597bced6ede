package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
)

// dataDir, in a volume's directory, is what containers see of it; the others are a copy being made, and one that is whole
// and being moved in (fill.go).
const (
	dataDir   = "_data"
	copyDir   = "_copy"
	filledDir = "_filled"
)

// Local are the volumes of the local driver.
type Local struct {
	root string

	mu    sync.Mutex
	users map[string]map[string]bool // who has a volume with options mounted, by its directory
}

// NewLocal makes the driver for volumes below a directory, which need not be there.
func NewLocal(root string) *Local {
	return &Local{root: root, users: map[string]map[string]bool{}}
}

func (l *Local) dir(r Record) string { return filepath.Join(l.root, r.Namespace, r.Name) }

// Path is where the files of a volume are: while somebody has it mounted, where that matters.
func (l *Local) Path(r Record) string { return filepath.Join(l.dir(r), dataDir) }

// Make makes a volume's directory, unless it is there. Who is not root finds none of them on the host.
func (l *Local) Make(r Record) error {
	if _, err := os.Lstat(l.Path(r)); err == nil {
		return nil
	}
	l.mu.Lock() // the directory of the namespace may be going
	defer l.mu.Unlock()
	if err := os.MkdirAll(l.Path(r), 0o755); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{l.root: 0o700, filepath.Dir(l.dir(r)): 0o711, l.dir(r): 0o711, l.Path(r): 0o755} {
		if err := os.Chmod(dir, mode); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}

// Remove deletes a volume's files. Nothing is deleted of what is mounted on it: while something is, and cannot be taken
// away, that is ErrFailedPrecondition.
func (l *Local) Remove(r Record) error {
	dir := l.dir(r)
	if err := l.free(r); err != nil {
		return err
	}
	if err := mount.Unmount(l.Path(r)); err != nil {
		return err
	}
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("something is mounted on %s: unmount it first: %w", below[0], errdefs.ErrFailedPrecondition)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func (l *Local) free(r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.users[l.dir(r)]); n > 0 {
		return fmt.Errorf("it is mounted for %d containers: stop them first: %w", n, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Mount makes the files of a volume be at its path, until user unmounts it, and says whether that took a mount. A volume
// without options is its path; of the others all users have the same mount.
func (l *Local) Mount(ctx context.Context, r Record, user string) (mounted bool, err error) {
	if len(r.Options) == 0 {
		return false, nil
	}
	is, err := l.mounted(r)
	if err != nil {
		return false, err
	}
	if !is {
		m, err := mountOf(ctx, r.Options)
		if err != nil {
			return false, err
		}
		if err := mount.All([]mount.Mount{m}, l.Path(r)); err != nil {
			return false, fmt.Errorf("error while mounting volume '%s': %w", l.Path(r), err)
		}
	}
	l.Hold(r, user)
	return !is, nil
}

// Hold is Mount for a volume that the last daemon has mounted for the user.
func (l *Local) Hold(r Record, user string) {
	if len(r.Options) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[l.dir(r)] == nil {
		l.users[l.dir(r)] = map[string]bool{}
	}
	l.users[l.dir(r)][user] = true
}

// Unmount is the end of Mount: the last user takes the mount away, and whoever is none when there are none.
func (l *Local) Unmount(r Record, user string) (unmounted bool, err error) {
	if len(r.Options) == 0 || l.drop(r, user) > 0 {
		return false, nil
	}
	is, err := l.mounted(r)
	if err != nil || !is {
		return false, err
	}
	return true, mount.Unmount(l.Path(r))
}

// drop forgets a user, and returns how many others there are.
func (l *Local) drop(r Record, user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	users := l.users[l.dir(r)]
	delete(users, user)
	if len(users) == 0 {
		delete(l.users, l.dir(r))
	}
	return len(users)
}

// mounted reads the table of mounts: to ask a file server that is gone would have no end.
func (l *Local) mounted(r Record) (bool, error) {
	points, err := mount.Below(l.dir(r))
	return slices.ContainsFunc(points, func(p string) bool { return strings.HasSuffix(p, "/"+r.Namespace+"/"+r.Name+"/"+dataDir) }), err
}

// InUse says whether somebody has a volume with options mounted.
func (l *Local) InUse(r Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.users[l.dir(r)]) > 0
}

// Unowned are the volumes that have files and that nobody knows, with Namespace and Name alone.
func (l *Local) Unowned(known func(ns, name string) bool) ([]Record, error) {
	spaces, err := os.ReadDir(l.root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Record
	for _, ns := range spaces {
		names, err := os.ReadDir(filepath.Join(l.root, ns.Name()))
		if err != nil {
			return found, err
		}
		for _, n := range names {
			if !known(ns.Name(), n.Name()) {
				found = append(found, Record{Namespace: ns.Name(), Name: n.Name()})
			}
		}
	}
	return found, nil
}

// Empty says whether a volume has no files.
func (l *Local) Empty(r Record) (bool, error) { return isEmpty(l.Path(r)) }

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	return true, nil
}
