package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ExtractOptions say how an archive of files is unpacked.
type ExtractOptions struct {
	// Below is the directory that the entries are put into, from the root; it must exist. Links on the way to it are
	// followed, and those that it has are resolved, as if the root were the host's.
	Below string
	// NoChown leaves every file to the caller's user; otherwise it has the archive's owner, or this one.
	NoChown bool
	Owner   *Owner
	// UIDMap and GIDMap are those of the user namespace that the tree belongs to: the archive's owners are those seen in it.
	UIDMap, GIDMap []IDMap
}

// Owner is whom all files are given to.
type Owner struct{ UID, GID int }

// Extract unpacks an archive of files, which is no layer, into a tree that others may use and change meanwhile, with what
// is mounted in it. As Apply, it does not leave the root. Other than with a layer, names that begin with .wh. are names; a
// directory is not replaced by anything else, nor anything else by a directory; the directory itself keeps its
// attributes; zeros become holes; and a file appears, in place of one there may be, when it is whole, so that what ends
// under way leaves no half of one.
//
// Errors are Apply's, and ErrAlreadyExists for what is not replaced.
func Extract(ctx context.Context, root string, r io.Reader, o ExtractOptions) (ApplyResult, error) {
	o.Below = strings.TrimPrefix(path.Clean("/"+o.Below), "/")
	return Apply(ctx, root, r, ApplyOptions{NoChown: o.NoChown, CrossMounts: true, files: &o})
}

// kind is what is unpacked, for messages.
func (a *applier) kind() string {
	if a.o.files != nil {
		return "archive"
	}
	return "layer"
}

// fileEntry makes of an entry of files one of the tree. The directory itself is left as it is.
func (a *applier) fileEntry(h *tar.Header) (done bool, err error) {
	o := a.o.files
	name := path.Clean("/" + h.Name)
	if name == "/" {
		if h.Typeflag != tar.TypeDir {
			return true, a.rootEntry(h) // refuses it
		}
		return true, nil
	}
	h.Name = join(o.Below, name[1:])
	if h.Typeflag == tar.TypeLink {
		h.Linkname = join(o.Below, strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"))
	}
	if o.Owner != nil {
		h.Uid, h.Gid = o.Owner.UID, o.Owner.GID
	}
	h.Uid, h.Gid = int(outside(uint32(h.Uid), o.UIDMap)), int(outside(uint32(h.Gid), o.GIDMap))
	return false, nil
}

// ownImplied gives a directory that the archive has no entry for to the tree's root user.
func (a *applier) ownImplied(fd int) error {
	o := a.o.files
	if o.NoChown {
		return nil
	}
	owner := Owner{}
	if o.Owner != nil {
		owner = *o.Owner
	}
	return unix.Fchown(fd, int(outside(uint32(owner.UID), o.UIDMap)), int(outside(uint32(owner.GID), o.GIDMap)))
}

// outside is the reverse of inside: what is not mapped stays as it is.
func outside(id uint32, maps []IDMap) uint32 {
	for _, m := range maps {
		if id >= m.Inside && id-m.Inside < m.Size {
			return m.Outside + (id - m.Inside)
		}
	}
	return id
}

// whole makes a file without a name (O_TMPFILE, Linux 3.11; overlayfs 6.1), and gives it one when all is in it. Where the
// file system cannot, it has done nothing.
func (a *applier) whole(to place, h *tar.Header, contents io.Reader) (done bool, err error) {
	if err := a.replaceable(to); err != nil {
		return false, err
	}
	fd, err := unix.Openat(to.parent, ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("create: %w", err)
	}
	defer func() {
		if closeErr := unix.Close(fd); err == nil && closeErr != nil {
			err = fmt.Errorf("close: %w", closeErr)
		}
	}()
	if err := a.fill(fd, h, contents); err != nil {
		return true, err
	}
	err = a.again(to, func() error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), to.parent, to.base, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return true, fmt.Errorf("create: %w", err)
	}
	return true, nil
}

// replaceable refuses what a file cannot take the place of, before anything is written. What something is mounted on is
// among that: in a mount namespace that is not this thread's, the kernel would let it be removed, and take the mount away
// from who uses it (Linux 3.18).
func (a *applier) replaceable(to place) error {
	var stat unix.Statx_t
	err := unix.Statx(to.parent, to.base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &stat)
	switch {
	case err != nil: // there is nothing, or it says itself what is wrong
		return nil
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return a.clear(to) // refuses it
	case stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return fmt.Errorf("something is mounted there: %w", unix.EBUSY)
	}
	return nil
}
