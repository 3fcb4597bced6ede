package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
)

// place is where an entry goes: a name in an open directory. The name has no slash and is neither "." nor "..", so no
// *at call can leave the directory by it.
type place struct {
	parent    int
	dir, base string
}

func (p place) name() string { return join(p.dir, p.base) }

// dirCacheSize bounds the descriptors held. Layers are in the order of a tree walk, so a few are enough.
const dirCacheSize = 64

// dirCache holds open directories of the tree by the name the archive uses for them. What it holds was inside the root
// when it was opened and is not moved by anything Apply does, so it needs no second look; it is emptied when a directory
// or a symbolic link is taken away, after which a name can lead elsewhere.
type dirCache struct {
	root    int
	resolve uint64
	fds     map[string]int
	order   []string
}

func newDirCache(root int, crossMounts bool) *dirCache {
	resolve := uint64(inroot.Root)
	if !crossMounts {
		resolve |= unix.RESOLVE_NO_XDEV
	}
	return &dirCache{root: root, resolve: resolve, fds: make(map[string]int, dirCacheSize)}
}

// open gives the directory; the descriptor is the cache's, and good until the next trim or flush.
func (c *dirCache) open(dir string) (int, error) {
	if dir == "" {
		return c.root, nil
	}
	if fd, ok := c.fds[dir]; ok {
		return fd, nil
	}
	fd, err := inroot.Open(c.root, dir, unix.O_RDONLY|unix.O_DIRECTORY, c.resolve)
	if errors.Is(err, unix.EXDEV) {
		return -1, fmt.Errorf("directory %s is in another mount: %w: %w", dir, err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return -1, err
	}
	c.fds[dir] = fd
	c.order = append(c.order, dir)
	return fd, nil
}

// trim closes what is too much; it is called between entries, when no descriptor is in use.
func (c *dirCache) trim() {
	for len(c.order) > dirCacheSize {
		unix.Close(c.fds[c.order[0]])
		delete(c.fds, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *dirCache) flush() {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
	clear(c.fds)
	c.order = c.order[:0]
}

// parent opens the directory of an entry, and makes it if the layer did not.
func (a *applier) parent(dir string) (int, error) {
	fd, err := a.dirs.open(dir)
	if err == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return fd, err
	}
	above, base := split(dir)
	parent, err := a.parent(above)
	if err != nil {
		return -1, err
	}
	if err := a.imply(place{parent, above, base}); err != nil {
		return -1, fmt.Errorf("directory %s: %w", dir, err)
	}
	return a.dirs.open(dir)
}

// imply makes a directory that the layer has no entry for. In a tree of this layer alone it is marked: it has the
// attributes of the same directory in the layers below, see Inherit.
func (a *applier) imply(to place) error {
	opaque := false
	err := unix.Mkdirat(to.parent, to.base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		if !a.isWhiteout(to) {
			return fmt.Errorf("something else has its name: %w", errdefs.ErrInvalidArgument)
		}
		opaque = true
		if err := unix.Unlinkat(to.parent, to.base, 0); err != nil {
			return err
		}
		err = unix.Mkdirat(to.parent, to.base, 0o755)
	}
	if err != nil {
		return err
	}
	fd, err := openDir(to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if a.o.files != nil {
		if err := a.ownImplied(fd); err != nil {
			return err
		}
	}
	if a.o.Whiteouts != Overlay {
		return unix.Fchmod(fd, 0o755)
	}
	if opaque {
		return a.setOpaque(fd, to.name())
	}
	a.marks[to.name()] |= implied
	return nil
}

// openDir opens what was just made or found to be a directory, and nothing that has taken its place.
func openDir(at place) (int, error) {
	return unix.Openat(at.parent, at.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func (a *applier) directory(to place, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	create, lastMode := mode&0o777, uint32(0)
	if a.euid != 0 && mode&0o700 != 0o700 {
		// Without privileges nothing could be put into it; it gets its mode when it is full.
		create |= 0o700
		lastMode = mode
	}
	existed, opaque := false, false
	err := unix.Mkdirat(to.parent, to.base, create)
	if errors.Is(err, unix.EEXIST) {
		existed, opaque, err = a.reuse(to, create)
	}
	if err != nil {
		return fmt.Errorf("mkdir: %w", err)
	}
	a.notePlain(h)
	delete(a.marks, to.name())
	if err := a.dirAttributes(to, h, existed, opaque, lastMode != 0); err != nil {
		return err
	}
	a.later = append(a.later, directory{name: to.name(), mtime: h.ModTime, mode: lastMode})
	return nil
}

// reuse is for a directory whose name is taken: a directory stays and only gets new attributes, all else goes.
func (a *applier) reuse(to place, mode uint32) (existed, opaque bool, err error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(to.parent, to.base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, false, err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, false, nil
	}
	if a.o.files != nil {
		return false, false, fmt.Errorf("cannot overwrite non-directory %q with directory: %w", "/"+to.name(), errdefs.ErrAlreadyExists)
	}
	// A whiteout of this layer hides a directory of the layers below, which must not shine through the new one.
	opaque = a.isWhiteout(to)
	if err := a.clear(to); err != nil {
		return false, false, err
	}
	return false, opaque, unix.Mkdirat(to.parent, to.base, mode)
}

// dirAttributes sets owner, mode and extended attributes, in this order: chown takes set-ID bits and capabilities away.
func (a *applier) dirAttributes(to place, h *tar.Header, existed, opaque, modeLater bool) error {
	mode := uint32(h.Mode & 0o7777)
	needsMode := (existed || a.needsChmod(mode)) && !modeLater
	needsXattr := existed || opaque || hasXattrs(h)
	needsOwner := existed && !a.o.NoChown || a.needsChown(h)
	if needsOwner {
		if err := unix.Fchownat(to.parent, to.base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if !needsMode && !needsXattr {
		return nil
	}
	fd, err := openDir(to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if needsMode {
		if err := unix.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if opaque {
		if err := a.setOpaque(fd, to.name()); err != nil {
			return err
		}
	}
	if existed && a.o.files == nil {
		if err := dropXattrs(fd, h); err != nil {
			return err
		}
	}
	return a.xattrs(h, fd)
}

// forget drops what was to be done last with a directory that is no more, and with those below it.
func (a *applier) forget(name string) {
	a.later = slices.DeleteFunc(a.later, func(d directory) bool {
		return d.name == name || strings.HasPrefix(d.name, name+"/")
	})
}

// clear removes what is in an entry's place.
func (a *applier) clear(at place) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(at.parent, at.base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if a.o.files != nil {
			return fmt.Errorf("cannot overwrite directory %q with non-directory: %w", "/"+at.name(), errdefs.ErrAlreadyExists)
		}
		if err := removeTree(at.parent, at.base); err != nil {
			return fmt.Errorf("replace the directory: %w", err)
		}
		a.forget(at.name())
		a.reopen(at)
		return nil
	case unix.S_IFLNK:
		if err := unix.Unlinkat(at.parent, at.base, 0); err != nil {
			return err
		}
		a.reopen(at)
		return nil
	}
	return unix.Unlinkat(at.parent, at.base, 0)
}

// reopen empties the cache but for the directory in use.
func (a *applier) reopen(at place) {
	if at.parent == a.root {
		a.dirs.flush()
		return
	}
	delete(a.dirs.fds, at.dir)
	a.dirs.flush()
	a.dirs.fds[at.dir] = at.parent
	a.dirs.order = append(a.dirs.order, at.dir)
}

// removeTree deletes a file or a directory with all below it. It does not enter other mounts.
func removeTree(parent int, base string) error {
	err := unix.Unlinkat(parent, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// A directory: EISDIR says Linux, EPERM says POSIX.
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, openErr := inroot.Open(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, inroot.Plain|unix.RESOLVE_NO_XDEV)
	if errors.Is(openErr, unix.ENOTDIR) {
		return err
	}
	if openErr != nil {
		return openErr
	}
	defer unix.Close(fd)
	names, err := childNames(fd, -1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(fd, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
}

// childNames lists an open directory, at most n names, or all for -1. The descriptor stays open and its position where
// it was.
func childNames(fd, n int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	names, err := dir.Readdirnames(n)
	if n > 0 && len(names) == 0 {
		return nil, nil
	}
	return names, err
}
