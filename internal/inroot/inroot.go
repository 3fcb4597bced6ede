// Package inroot opens names inside a directory that somebody else may be changing: a container's root filesystem, a
// volume, a layer that is being applied. The kernel resolves each name (openat2(2), Linux 5.6), so that no symbolic link
// and no renaming leads out of the directory.
package inroot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Root resolves as a process would whose root the directory is: an absolute link and ".." end there. Links of /proc are
// not followed.
const Root = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Plain resolves names that have no link on their way and do not leave the directory.
const Plain = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS

// attempts bounds how often a name is resolved again: who renames all the time can make a name busy, not an opener wait
// without an end.
const attempts = 128

// Open opens a name in the directory dir, by flags of open(2), close-on-exec added, and openat2(2)'s resolve. It tries
// again when something was renamed or mounted meanwhile (EAGAIN), and gives that error up to the caller after 128 times.
// The error is an errno.
func Open(dir int, name string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for attempt := 1; ; attempt++ {
		fd, err := unix.Openat2(dir, name, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) && attempt < attempts {
			continue
		}
		return fd, err
	}
}

// Find opens what is at a path in a directory for naming it only (O_PATH), its links followed inside the directory.
func Find(dir, path string) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	fd, err := Open(root, path, unix.O_PATH, Root)
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Path names an open descriptor for the system calls of this process.
func Path(fd uintptr) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
