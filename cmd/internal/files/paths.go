package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Place is one side of a copy.
type Place struct {
	Container string // empty: this machine
	Path      string
}

// ParsePlace reads CONTAINER:PATH; what has a slash before the first colon is a path of this machine.
func ParsePlace(text string) Place {
	if id, path, ok := strings.Cut(text, ":"); ok && id != "" && !strings.Contains(id, "/") && !strings.HasPrefix(id, ".") {
		return Place{id, path}
	}
	return Place{Path: text}
}

// openDir opens a directory below a root, which no link leads out of (openat2(2), Linux 5.6). An empty root is this
// machine's, with links as usual.
func openDir(root, path string) (*os.Root, error) {
	if root == "" {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
		}
		return os.OpenRoot(path)
	}
	top, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// split is a path's directory and last name. A path that ends in /. is a directory's contents.
func split(path string) (dir, name string, contents bool) {
	contents = strings.HasSuffix(path, "/.")
	path = filepath.Clean(path)
	if last := filepath.Base(path); last == "/" || last == "." || last == ".." {
		return path, ".", true
	}
	return filepath.Dir(path), filepath.Base(path), contents
}

// CopyPath copies what a path below one root is to a path below another: into it when that is a directory, or else as it.
// An empty root is this machine's. A path that ends in /. is a directory's contents.
func (k Copier) CopyPath(fromRoot, from, toRoot, to string) error {
	dir, name, contents := split(from)
	source, err := openDir(fromRoot, dir)
	if err != nil {
		return err
	}
	defer source.Close()
	into, err := openDir(toRoot, filepath.Clean(to))
	switch {
	case err == nil && contents:
		defer into.Close()
		return k.copy(source, name, into, ".")
	case err == nil:
		defer into.Close()
		return k.copy(source, name, into, name)
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return err
	case strings.HasSuffix(to, "/"):
		return fmt.Errorf("%s is no directory: %w", to, errdefs.ErrNotFound)
	}
	dir, target, _ := split(to)
	beside, err := openDir(toRoot, dir)
	if err != nil {
		return err
	}
	defer beside.Close()
	return k.copy(source, name, beside, target)
}
