package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
)

// Rootfs reads files of a container's root filesystem as the container itself would see them: every symlink, absolute
// ones included, is resolved below the root (openat2 with RESOLVE_IN_ROOT, Linux 5.6), so that an image cannot make the
// daemon read a file of the host. os.Root does not fit: it refuses absolute links, and images have them.
type Rootfs struct{ dir *os.File }

var _ fs.FS = (*Rootfs)(nil)

// OpenRootfs opens a directory, for example /proc/PID/root of a running container.
func OpenRootfs(dir string) (*Rootfs, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root filesystem %s: %w", dir, err)
	}
	return &Rootfs{dir: f}, nil
}

// Close releases the directory.
func (r *Rootfs) Close() error { return r.dir.Close() }

// Open opens a regular file for reading. Anything else is refused: a named pipe would block, a device would do worse.
func (r *Rootfs) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	fd, err := inroot.Open(int(r.dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, inroot.Root)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("is not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
