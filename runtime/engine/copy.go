package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
	"github.com/minirt/mini/oci/layer"
)

// PathInfo describes a file of a container.
type PathInfo struct {
	Name       string // the last element of the path asked for
	Size       int64  // bytes
	Mode       uint32 // as st_mode of stat(2)
	ModTime    time.Time
	LinkTarget string // of a symbolic link: where it leads in the container, from its root
}

// spot is a file of a tree: a name in an open directory, or the directory itself for "".
type spot struct {
	dir  *os.File
	base string
	as   string // the last element of the path asked for: "." for the contents of a directory
}

// find resolves a path in a tree, whose links it never leaves. The last element is not followed, unless the path ends as
// that of a directory does: with a slash, or with /. for its contents.
func (t *tree) find(name string) (spot, error) {
	if name == "" {
		return spot{}, fmt.Errorf("bad parameter: path cannot be empty: %w", errdefs.ErrInvalidArgument)
	}
	clean := path.Clean("/" + name)
	s := spot{as: path.Base(clean)}
	if strings.HasSuffix(name, "/.") || name == "." {
		s.as = "."
	}
	dir := clean
	if clean != "/" && s.as != "." && !strings.HasSuffix(name, "/") {
		dir, s.base = path.Dir(clean), s.as
	}
	fd, err := t.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return spot{}, err
	}
	s.dir = fd
	return s, nil
}

func (t *tree) open(name string, flags uint64) (*os.File, error) {
	fd, err := inroot.Open(int(t.Fd()), name, flags, inroot.Root)
	if err != nil {
		return nil, pathError(name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pathError says what is wrong with a path of a container.
func pathError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("could not find the file %s: %w", name, errdefs.ErrNotFound)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s: not a directory: %w", name, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("%s: too many symbolic links: %w", name, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// info describes the file at a spot.
func (t *tree) info(name string, s spot) (PathInfo, error) {
	var stat unix.Stat_t
	flags, base := unix.AT_SYMLINK_NOFOLLOW, s.base
	if base == "" {
		flags = unix.AT_EMPTY_PATH
	}
	if err := unix.Fstatat(int(s.dir.Fd()), base, &stat, flags); err != nil {
		return PathInfo{}, pathError(name, err)
	}
	i := PathInfo{Name: s.as, Size: stat.Size, Mode: stat.Mode, ModTime: time.Unix(stat.Mtim.Unix())}
	if stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(s.dir.Fd()), base, buf)
		if err != nil {
			return PathInfo{}, pathError(name, err)
		}
		i.LinkTarget = t.target(name, string(buf[:n]))
	}
	return i, nil
}

// target is where a link leads: as far as that is there, with all links resolved.
func (t *tree) target(name, text string) string {
	if f, err := t.open(name, unix.O_PATH); err == nil {
		defer f.Close()
		if real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil && path.IsAbs(real) {
			return real
		}
	}
	if !path.IsAbs(text) {
		text = path.Join(path.Dir(path.Clean("/"+name)), text)
	}
	return path.Clean(text)
}

// StatPath describes a file of a container, running or not. ErrNotFound when there is none.
func (e *Engine) StatPath(ctx context.Context, ns, id, name string) (PathInfo, error) {
	t, err := e.filesOf(ctx, ns, id)
	if err != nil {
		return PathInfo{}, err
	}
	defer t.Close()
	s, err := t.find(name)
	if err != nil {
		return PathInfo{}, inContainer(id, err)
	}
	defer s.dir.Close()
	i, err := t.info(name, s)
	return i, inContainer(id, err)
}

func inContainer(id string, err error) error {
	if err == nil {
		return nil
	}
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%s in container %s: %w", strings.TrimSuffix(err.Error(), ": "+errdefs.ErrNotFound.Error()), id, errdefs.ErrNotFound)
	}
	return fmt.Errorf("container %s: %w", id, err)
}

// CopyFrom archives a file of a container, or a directory with all below it. begin is told what it is before anything is
// written. The archive calls it as is asked for, or by the last element of the path.
func (e *Engine) CopyFrom(ctx context.Context, ns, id, name, as string, begin func(PathInfo) error, w io.Writer) error {
	t, err := e.filesOf(ctx, ns, id)
	if err != nil {
		return err
	}
	defer t.Close()
	s, err := t.find(name)
	if err != nil {
		return inContainer(id, err)
	}
	defer s.dir.Close()
	i, err := t.info(name, s)
	if err != nil {
		return inContainer(id, err)
	}
	if err := begin(i); err != nil {
		return err
	}
	err = layer.Pack(ctx, w, fmt.Sprintf("/proc/self/fd/%d", s.dir.Fd()), s.base, layer.PackOptions{
		As: cmp.Or(as, s.as), UIDMap: t.uid, GIDMap: t.gid, Enter: t.enter,
		Skipped: func(name string) { e.Log.Debug("a socket is not copied", "container", id, "name", name) },
	})
	if err != nil {
		return fmt.Errorf("copy %s of container %s: %w", name, id, err)
	}
	return nil
}

// CopyToOptions say how an archive is put into a container.
type CopyToOptions struct {
	// OwnedByUser gives all files to the user that the container runs as, if it names one; otherwise they have the archive's
	// owners.
	OwnedByUser bool
}

// CopyTo unpacks an archive into a directory of a container, running or not. ErrNotFound when there is no such directory,
// ErrFailedPrecondition when it cannot be written to; ErrAlreadyExists for a directory in place of a file, or a file in place
// of one.
func (e *Engine) CopyTo(ctx context.Context, ns, id, name string, r io.Reader, o CopyToOptions) error {
	t, err := e.filesOf(ctx, ns, id)
	if err != nil {
		return err
	}
	defer t.Close()
	if name == "" {
		return inContainer(id, fmt.Errorf("bad parameter: path cannot be empty: %w", errdefs.ErrInvalidArgument))
	}
	if err := t.writable(name); err != nil {
		return inContainer(id, err)
	}
	x := layer.ExtractOptions{Below: name, UIDMap: t.uid, GIDMap: t.gid}
	if o.OwnedByUser {
		x.Owner = t.user
	}
	result, err := layer.Extract(ctx, t.path(), r, x)
	if err != nil {
		return fmt.Errorf("copy to %s of container %s: %w", name, id, err)
	}
	for _, d := range result.Dropped {
		e.Log.Debug("not copied into a container", "container", id, "what", d)
	}
	return nil
}

// writable refuses what is no directory, or is on a file system that is read-only for the container.
func (t *tree) writable(name string) error {
	dir, err := t.open(path.Clean("/"+name), unix.O_PATH)
	if err != nil {
		return err
	}
	defer dir.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &stat); err != nil {
		return pathError(name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("extraction point is not a directory: %s: %w", name, errdefs.ErrInvalidArgument)
	}
	var mounted unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &mounted); err != nil {
		return pathError(name, err)
	}
	if mounted.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	at, _ := mountID(dir)
	if top, ok := mountID(t.File); ok && at == top {
		return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("mounted volume is marked read-only: %w", errdefs.ErrFailedPrecondition)
}
