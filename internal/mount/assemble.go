package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
	"github.com/minirt/mini/internal/osthread"
)

// Assemble builds, as a detached mount, the tree at root with other mounts on it, in their order: see Tree. A target that
// the tree does not have is made. The tree itself is read-only if that is asked for; what is mounted on it says so itself.
//
// A thread does it in a mount namespace of its own, which ends with it: nobody else sees the mounts, and whatever happens
// to the program, none stays. (To mount on a detached mount itself needs Linux 6.15.)
func Assemble(root string, readOnly bool, mounts []Mount) (*os.File, error) {
	tree, err := -1, error(nil)
	osthread.Run(func() bool {
		tree, err = assemble(root, readOnly, mounts)
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("tree of %s: %w", root, err)
	}
	return os.NewFile(uintptr(tree), "tree of "+root), nil
}

// assemble leaves its thread in the namespace.
func assemble(root string, readOnly bool, mounts []Mount) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("new mount namespace: %w", class(err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("private mount namespace: %w", class(err))
	}
	for _, m := range mounts {
		if err := makeTarget(root, m); err != nil {
			return -1, fmt.Errorf("mount %s: %w", m, err)
		}
		if err := one(m, root); err != nil {
			return -1, fmt.Errorf("mount %s: %w", m, err)
		}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, class(err)
	}
	if !readOnly {
		return tree, nil
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		unix.Close(tree)
		return -1, fmt.Errorf("make it read-only: %w", class(err))
	}
	return tree, nil
}

// makeTarget makes the target of a mount below root where it is missing: a file for a file, or else a directory. Links in
// the root lead nowhere out of it.
func makeTarget(root string, m Mount) error {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("root: %w", class(err))
	}
	defer unix.Close(top)
	mode := uint32(unix.S_IFDIR)
	if info, err := os.Stat(m.Source); err == nil && !info.IsDir() {
		mode = unix.S_IFREG
	}
	done := "."
	parts := strings.Split(strings.Trim(path.Clean("/"+m.Target), "/"), "/")
	for i, part := range parts {
		next, kind := done+"/"+part, mode
		if i < len(parts)-1 {
			kind = unix.S_IFDIR
		}
		if err := makePart(top, done, next, part, kind); err != nil {
			return fmt.Errorf("make its target: %w", err)
		}
		done = next
	}
	return nil
}

func makePart(top int, dir, name, base string, kind uint32) error {
	fd, err := inroot.Open(top, name, unix.O_PATH, inroot.Root)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) {
		return class(err)
	}
	parent, err := inroot.Open(top, dir, unix.O_PATH|unix.O_DIRECTORY, inroot.Root)
	if err != nil {
		return class(err)
	}
	defer unix.Close(parent)
	if kind == unix.S_IFDIR {
		return class(unix.Mkdirat(parent, base, 0o755))
	}
	return class(unix.Mknodat(parent, base, kind|0o644, 0))
}
