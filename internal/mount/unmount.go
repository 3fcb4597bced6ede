package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Unmount takes away every mount at path and below it. A path that is not mounted, or does not exist, is no error. What
// is busy is detached lazily: it leaves the tree at once, and ends when its last user does.
//
// The usual case, one mount with nothing below, takes a few system calls; the mount table is only read when something is
// busy or the directory left behind is not empty.
func Unmount(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	busy, err := peel(path)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if !busy && isEmpty(path) {
		return nil
	}
	// A mount can hide others that were made before it, so the table is read again until nothing more comes off.
	for left := -1; ; {
		below, err := Below(path)
		if err != nil || len(below) == 0 {
			return err
		}
		if len(below) == left {
			return fmt.Errorf("unmount %s: %d mounts cannot be reached, the first at %s: %w", path, left, below[0], errdefs.ErrUnavailable)
		}
		left = len(below)
		if err := takeAway(below); err != nil {
			return err
		}
	}
}

// Detach is Unmount without waiting for the end of the filesystem at the path, which comes when the file is closed; nil
// when nothing was mounted. The last unmount of an overlay, or of a disk, waits until everything is written back (of an
// overlay, what anybody has written to the filesystem of its upper directory), and so does that close.
func Detach(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Unmount(path)
	}
	held := os.NewFile(uintptr(fd), path)
	switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
	case errors.Is(err, unix.EINVAL): // not a mount
		return nil, errors.Join(held.Close(), Unmount(path))
	case err != nil:
		return nil, errors.Join(fmt.Errorf("unmount %s: %w", path, class(err)), held.Close())
	}
	return held, Unmount(path) // what was below it
}

// takeAway unmounts the mount points, the last first.
func takeAway(points []string) error {
	var errs []error
	for _, at := range slices.Backward(points) {
		busy, err := peel(at)
		for err == nil && busy {
			if err = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
				busy, err = peel(at)
			}
		}
		if err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", at, class(err)))
		}
	}
	return errors.Join(errs...)
}

// peel unmounts what is stacked at the path until nothing is, or something is busy.
func peel(path string) (busy bool, err error) {
	for {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return false, nil // not a mount (any more)
		case errors.Is(err, unix.EBUSY):
			return true, nil
		default:
			return false, class(err)
		}
	}
}

// isEmpty says that there can be no mount below: it is not a directory, or one without entries.
func isEmpty(path string) bool {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return !errors.Is(err, unix.EACCES)
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(1)
	return len(names) == 0
}

// Below lists the mount points at the directory and below it, parents before children, one entry for each mount.
func Below(dir string) ([]string, error) {
	if real, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(real, filepath.Base(dir))
	}
	prefix := strings.TrimSuffix(dir, "/") + "/"
	all, err := mountPoints()
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	var points []string
	for _, point := range all {
		if point == dir || strings.HasPrefix(point, prefix) {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	return points, nil
}

// Mounted says whether path itself is the root of a mount; ErrNotFound if there is no such file. It asks the kernel
// (statx, Linux 5.8), so bind mounts of one filesystem on itself are seen too.
func Mounted(path string) (bool, error) {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &stat)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, class(err))
	}
	if stat.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	return mountinfo.Mounted(path)
}
