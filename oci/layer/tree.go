package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a directory tree that is read. It may be changed while that happens, by a container whose programs are not
// trusted; so what is opened is opened below the root without following any link.
type tree struct {
	root int
	path string
}

// file is all that a layer says about a file but its name and contents.
type file struct {
	stat   unix.Stat_t
	target string // of a symbolic link
	xattrs map[string]string
	all    []string // the names of all its attributes
}

func (f file) kind() uint32 { return f.stat.Mode & unix.S_IFMT }
func (f file) inode() inode { return inode{f.stat.Dev, f.stat.Ino} }

func openTree(path string) (*tree, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tree to compare: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return &tree{root: fd, path: path}, nil
}

func (t *tree) close() { unix.Close(t.root) }

func (t *tree) open(name string, flags uint64) (*os.File, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat2(t.root, name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, t.wrap("open", name, err)
	}
	return os.NewFile(uintptr(fd), t.path+"/"+name), nil
}

func (t *tree) wrap(op, name string, err error) error {
	return &os.PathError{Op: op, Path: t.path + "/" + name, Err: err}
}

// procPath names a file for the calls that want a path.
func (t *tree) procPath(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(t.root) + "/" + name
}

// names are those in a directory, in byte order.
func (t *tree) names(dir string) ([]string, error) {
	f, err := t.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (t *tree) file(name string) (file, error) {
	var f file
	at, flags := name, unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	if err := unix.Fstatat(t.root, at, &f.stat, flags); err != nil {
		return f, t.wrap("stat", name, err)
	}
	if f.kind() == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(t.root, name, buf)
		if err != nil {
			return f, t.wrap("readlink", name, err)
		}
		f.target = string(buf[:n])
	}
	var err error
	if f.all, err = listXattrs(t.procPath(name)); err != nil {
		return f, err
	}
	if slices.ContainsFunc(f.all, keepXattr) {
		f.xattrs, err = readXattrs(t.procPath(name))
	}
	return f, err
}

// isOpaque says whether an overlay's upper directory hides those below it. ("x" only says that there are whiteouts in it.)
func (t *tree) isOpaque(name string) (bool, error) {
	for _, prefix := range []string{trustedOverlay, userOverlay} {
		if hasXattr(t.procPath(name), prefix+xattrRedirect) {
			return false, refuseOverlayOnly(name, prefix+xattrRedirect)
		}
		value, err := getXattr(t.procPath(name), prefix+xattrOpaque)
		if err == nil && string(value) == "y" {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return false, t.wrap("getxattr", name, err)
		}
	}
	return false, nil
}

func (t *tree) isWhiteout(name string, f file) (bool, error) {
	if isWhiteoutDevice(&f.stat) {
		return true, nil
	}
	for _, attribute := range f.all {
		short, ok := strings.CutPrefix(attribute, userOverlay)
		if !ok {
			short, ok = strings.CutPrefix(attribute, trustedOverlay)
		}
		switch {
		case !ok:
		case short == xattrWhiteout && f.kind() == unix.S_IFREG && f.stat.Size == 0:
			return true, nil
		case short == xattrMetacopy:
			return false, refuseOverlayOnly(name, attribute)
		}
	}
	return false, nil
}

// sameContents compares a file that has the same size in both trees.
func (d *differ) sameContents(name string, size int64) (bool, error) {
	if size == 0 {
		return true, nil
	}
	a, err := d.upper.open(name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := d.lower.open(name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer b.Close()
	x, y := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	defer buffers.Put(x)
	defer buffers.Put(y)
	for {
		if err := d.ctx.Err(); err != nil {
			return false, err
		}
		n, errA := io.ReadFull(a, *x)
		m, errB := io.ReadFull(b, *y)
		if n != m || !bytes.Equal((*x)[:n], (*y)[:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if errA != nil {
			return true, nil
		}
	}
}
