package layer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// whiteout obeys an entry whose name begins with .wh.
func (a *applier) whiteout(dir, base string) error {
	if base == opaqueMarker {
		return a.opaque(dir)
	}
	if strings.HasPrefix(base, reservedPrefix) {
		a.drop("%s: a file of aufs", join(dir, base))
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("whiteout of %q: %w", hidden, errdefs.ErrInvalidArgument)
	}
	if a.o.Whiteouts == Overlay {
		return a.overlayWhiteout(dir, hidden)
	}
	parent, err := a.dirs.open(dir)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // nothing to remove, and no reason to make the directory
	}
	if err != nil {
		return err
	}
	return a.hide(place{parent, dir, hidden})
}

// hide removes what the lower layers have at a name, and keeps what this one has put there: a whiteout has no say in its
// own layer, wherever in the archive it stands.
func (a *applier) hide(at place) error {
	if _, mine := a.made[at.name()]; mine {
		return a.prune(at)
	}
	err := a.clear(at)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// prune removes from a directory everything that is not this layer's.
func (a *applier) prune(at place) error {
	return ifDir(at, func(fd int) error { return a.pruneIn(fd, at.name()) })
}

// ifDir acts on a directory, and on nothing else.
func ifDir(at place, act func(fd int) error) error {
	fd, err := openDir(at)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return act(fd)
}

func (a *applier) pruneIn(fd int, dir string) error {
	names, err := childNames(fd, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		at := place{fd, dir, name}
		if _, mine := a.made[at.name()]; mine {
			if err := a.prune(at); err != nil {
				return err
			}
			continue
		}
		if err := removeTree(fd, name); err != nil {
			return fmt.Errorf("remove %s: %w", at.name(), err)
		}
		a.forget(at.name())
		a.dirs.flush()
	}
	return nil
}

// opaque hides all that lower layers have in a directory.
func (a *applier) opaque(dir string) error {
	fd, err := a.parent(dir)
	if err != nil {
		return err
	}
	if a.o.Whiteouts == Overlay {
		return a.setOpaque(fd, dir)
	}
	// The directory's descriptor may be the cache's, which pruneIn empties.
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	a.mark(dir, opaqueMarker)
	return a.pruneIn(own, dir)
}

func (a *applier) setOpaque(fd int, dir string) error {
	a.opaques[dir] = struct{}{}
	name := overlayXattr(a.o.UserXattr, xattrOpaque)
	if err := unix.Fsetxattr(fd, name, []byte("y"), 0); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// overlayWhiteout makes overlayfs' whiteout: a character device 0:0, which needs no privilege since Linux 5.8; where it is
// still refused, an empty file with an attribute (Linux 6.7), if the overlay will look for those.
func (a *applier) overlayWhiteout(dir, hidden string) error {
	parent, err := a.parent(dir)
	if err != nil {
		return err
	}
	at := place{parent, dir, hidden}
	a.whiteouts = append(a.whiteouts, at)
	err = unix.Mknodat(parent, hidden, unix.S_IFCHR, 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		return a.whiteoutOfOwn(at)
	case errors.Is(err, unix.EPERM) && a.o.UserXattr:
		return xattrWhiteoutAt(at)
	case err != nil:
		return fmt.Errorf("whiteout of %s: %w", hidden, err)
	}
	return nil
}

// whiteoutOfOwn: the layer has the name itself. A file hides what is below anyway; a directory has to be made to.
func (a *applier) whiteoutOfOwn(at place) error {
	return ifDir(at, func(fd int) error { return a.setOpaque(fd, at.name()) })
}

func xattrWhiteoutAt(at place) error {
	fd, err := unix.Openat(at.parent, at.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("whiteout of %s: %w", at.base, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, userOverlay+xattrWhiteout, []byte("y"), 0); err != nil {
		return fmt.Errorf("whiteout of %s: %w", at.base, err)
	}
	// "x" tells overlayfs that the directory has such whiteouts and is worth looking through.
	err = unix.Fsetxattr(at.parent, userOverlay+xattrOpaque, []byte("x"), unix.XATTR_CREATE)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("whiteout of %s: %w", at.base, err)
	}
	return nil
}

// isWhiteout says whether what is there is a whiteout made by this run.
func (a *applier) isWhiteout(at place) bool {
	if a.o.Whiteouts != Overlay {
		return false
	}
	var stat unix.Stat_t
	if err := unix.Fstatat(at.parent, at.base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	if isWhiteoutDevice(&stat) {
		return true
	}
	return a.o.UserXattr && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Size == 0 && hasXattr(at.path(), userOverlay+xattrWhiteout)
}

func isWhiteoutDevice(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}
