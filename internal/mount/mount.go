// Package mount attaches and detaches filesystems: overlays with any number of layers, bind mounts, idmapped mounts,
// and whatever else mount(8) knows, from the options as fstab and the runtime spec write them. Nothing is executed.
//
// It uses the mount API of Linux 5.2 (fsopen, fsconfig, fsmount, open_tree, move_mount; mount_setattr since 5.12), in
// which a mount is first built detached, referred to by a descriptor alone, and attached when it is whole. A mistake
// half way thus leaves nothing behind, and the kernel says in words what it did not like. Where the kernel is too old
// for what is asked, mount(2) does it. What to mount, and where, is decided by the callers.
package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
)

// Mount is one mount. It is plain data, so that it can be sent to whoever does the mounting.
type Mount struct {
	// Type is a filesystem ("overlay", "tmpfs", …), or "bind". It may be empty when the options have bind or rbind.
	Type string `json:"type,omitempty"`
	// Source is what to mount: a directory or file (bind), a device, or a name.
	Source string `json:"source,omitempty"`
	// Target is relative to the root that the mount is attached below; empty is the root itself.
	Target string `json:"target,omitempty"`
	// Options are as in fstab: ro, nosuid, noexec, rbind, rslave, size=64m, lowerdir=a:b, … Those with an r in front of
	// an attribute (rro, rnosuid, …) hold for the whole tree (Linux 5.12). uidmap=C:H:N and gidmap=C:H:N, repeated or
	// separated by commas, make a bind mount or an overlay's lower layers idmapped (Linux 5.12, overlay 5.19);
	// idmap and ridmap say whether that holds for the tree below a bind mount.
	Options []string `json:"options,omitempty"`
}

// String is the mount in the style of mount(8), for messages.
func (m Mount) String() string {
	options := strings.Join(m.Options, ",")
	if len(options) > 200 {
		options = options[:200] + "…"
	}
	return fmt.Sprintf("%s %s on %q (%s)", m.Type, m.Source, "/"+m.Target, options)
}

// ReadOnly returns the mounts with ro added to those that lack it; an overlay loses its upper and work directories, so
// that nothing is written to them. The argument is not changed.
func ReadOnly(mounts []Mount) []Mount {
	out := make([]Mount, len(mounts))
	for i, m := range mounts {
		options := make([]string, 0, len(m.Options)+1)
		lower, upper := -1, ""
		for _, o := range m.Options {
			key, value, _ := strings.Cut(o, "=")
			switch {
			case o == "ro", o == "rw":
				continue
			case m.Type == overlayType && key == "workdir":
				continue
			case m.Type == overlayType && key == "upperdir":
				upper = value
				continue
			case m.Type == overlayType && key == "lowerdir":
				lower = len(options)
			}
			options = append(options, o)
		}
		if upper != "" && lower >= 0 {
			options[lower] = "lowerdir=" + escapeLower(upper) + ":" + strings.TrimPrefix(options[lower], "lowerdir=")
		}
		m.Options = append(options, "ro")
		out[i] = m
	}
	return out
}

// All attaches the mounts in their order, each on its target below root. Targets must exist and are resolved inside
// root, whatever symbolic links it has. When one of them cannot be mounted, those before it are taken away again.
func All(mounts []Mount, root string) error {
	for i, m := range mounts {
		if err := one(m, root); err != nil {
			for j := i - 1; j >= 0; j-- {
				err = errors.Join(err, detachTarget(mounts[j], root))
			}
			return fmt.Errorf("mount %s below %s: %w", m, root, err)
		}
	}
	return nil
}

// Temp mounts on a temporary directory, calls do with it, and takes the mounts away again.
func Temp(ctx context.Context, mounts []Mount, do func(root string) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "mini-mount-")
	if err != nil {
		return fmt.Errorf("directory to mount on: %w", err)
	}
	// os.Remove, not RemoveAll: if a mount were left, its files would be deleted.
	defer func() { err = errors.Join(err, os.Remove(root)) }()
	if err := All(mounts, root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Unmount(root)) }()
	return do(root)
}

func one(m Mount, root string) error {
	p, err := parse(m)
	if err != nil {
		return err
	}
	target, err := openTarget(root, m.Target)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if p.remount {
		return remount(p, target)
	}
	tree, err := build(p)
	switch {
	case errors.Is(err, errTooOld):
		return legacy(p, target)
	case err != nil:
		return err
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", class(err))
	}
	// The kind of propagation comes last: attaching to a shared mount makes every mount attached shared as well.
	for _, propagation := range p.propagation {
		attr := unix.MountAttr{Propagation: propagation.kind}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|recursive(propagation.recursive), &attr); err != nil {
			return errors.Join(fmt.Errorf("set the propagation: %w", class(err)), detachTarget(m, root))
		}
	}
	return nil
}

// openTarget resolves target inside root without following links out of it.
func openTarget(root, target string) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("root: %w", class(err))
	}
	if target == "" || target == "/" || target == "." {
		return dir, nil
	}
	defer unix.Close(dir)
	fd, err := inroot.Open(dir, target, unix.O_PATH, inroot.Root)
	if err != nil {
		return -1, fmt.Errorf("target %s in the root: %w", target, class(err))
	}
	return fd, nil
}

// detachTarget undoes one mount; its target is resolved again, which now ends on top of the mount.
func detachTarget(m Mount, root string) error {
	fd, err := openTarget(root, m.Target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	path, err := os.Readlink(procFD(fd))
	if err != nil {
		return err
	}
	// Only this mount, not what was there before it; lazily, because nobody can have started to rely on it.
	return class(unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
}

func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func recursive(yes bool) uint {
	if yes {
		return unix.AT_RECURSIVE
	}
	return 0
}

// class gives an errno of the mount system calls its error class; the errno stays visible to errors.Is.
func class(err error) error {
	var to error
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		to = errdefs.ErrNotFound
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ELOOP):
		to = errdefs.ErrInvalidArgument
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		to = errdefs.ErrPermissionDenied
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		to = errdefs.ErrNotImplemented
	case errors.Is(err, unix.EBUSY):
		to = errdefs.ErrUnavailable
	default:
		return err
	}
	return fmt.Errorf("%w (%w)", err, to)
}
