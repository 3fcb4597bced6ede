package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/minirt/mini/internal/inroot"
	"github.com/minirt/mini/internal/osthread"
	"golang.org/x/sys/unix"
)

// OfProcess mounts at target what a process sees at source, with all that is mounted below.
func OfProcess(pid int, source, target string) error {
	tree, err := TreeOfProcess(pid, source)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s of process %d at %s: %w", source, pid, target, class(err))
	}
	return nil
}

// TreeOfProcess clones what a process sees at source, with all that is mounted below, as a detached mount: see Tree. The
// kernel refuses to bind a mount of another mount namespace (EINVAL), so a thread goes into that of the process, clones
// the tree there, and ends; threads that share their directory with others cannot change the namespace.
func TreeOfProcess(pid int, source string) (*os.File, error) {
	tree, err := -1, error(nil)
	osthread.Run(func() bool {
		tree, err = cloneOf(pid, source)
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s of process %d: %w", source, pid, err)
	}
	return os.NewFile(uintptr(tree), fmt.Sprintf("%s of process %d", source, pid)), nil
}

// cloneOf leaves its thread in the other namespace. The source is looked up below the process's root.
func cloneOf(pid int, source string) (int, error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	ns, err := os.Open(proc + "/ns/mnt")
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("its root: %w", class(err))
	}
	defer unix.Close(root)
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)); err != nil {
		return -1, fmt.Errorf("enter its mount namespace: %w", class(err))
	}
	at, err := inroot.Open(root, "./"+filepath.Clean(source), unix.O_PATH, unix.RESOLVE_IN_ROOT)
	if err != nil {
		return -1, class(err)
	}
	defer unix.Close(at)
	tree, err := unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	return tree, class(err)
}
