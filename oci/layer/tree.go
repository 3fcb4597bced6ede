package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
)

// tree is a directory tree that is read. It may be changed while that happens, by a container whose programs are not
// trusted; so what is opened is opened below the root without following any link, and what is asked by name is asked of a
// directory that was opened so. It is not for several goroutines at once.
type tree struct {
	root int
	path string

	dir   string // of what was looked at last
	dirFD int    // the root's own for ""
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
	return &tree{root: fd, path: path, dirFD: fd}, nil
}

func (t *tree) close() {
	t.leave()
	unix.Close(t.root)
}

// leave closes the directory of what was looked at last.
func (t *tree) leave() {
	if t.dirFD != t.root {
		unix.Close(t.dirFD)
	}
	t.dir, t.dirFD = "", t.root
}

// at is where a name is: in an open directory, which is kept, for names come in the order of a walk. The root is "." in
// itself.
func (t *tree) at(name string) (place, error) {
	dir, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i], name[i+1:]
	}
	if base == "" {
		base = "."
	}
	if dir != t.dir {
		t.leave()
		if dir != "" {
			fd, err := t.openat(dir, unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return place{}, err
			}
			t.dir, t.dirFD = dir, fd
		}
	}
	return place{t.dirFD, dir, base}, nil
}

func (t *tree) open(name string, flags uint64) (*os.File, error) {
	fd, err := t.openat(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), t.path+"/"+name), nil
}

func (t *tree) openat(name string, flags uint64) (int, error) {
	if name == "" {
		name = "."
	}
	fd, err := inroot.Open(t.root, name, flags|unix.O_NOFOLLOW, inroot.Plain)
	if err != nil {
		return -1, t.wrap("open", name, err)
	}
	return fd, nil
}

func (t *tree) wrap(op, name string, err error) error {
	return &os.PathError{Op: op, Path: t.path + "/" + name, Err: err}
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
	at, err := t.at(name)
	if err != nil {
		return f, err
	}
	if err := unix.Fstatat(at.parent, at.base, &f.stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return f, t.wrap("stat", name, err)
	}
	if f.kind() == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(at.parent, at.base, buf)
		if errors.Is(err, unix.EINVAL) {
			err = unix.ENOENT // it is no link any more: what was there is gone
		}
		if err != nil {
			return f, t.wrap("readlink", name, err)
		}
		f.target = string(buf[:n])
	}
	if f.all, err = listXattrs(at.path()); err != nil {
		return f, err
	}
	if slices.ContainsFunc(f.all, keepXattr) {
		f.xattrs, err = readXattrs(at.path())
	}
	return f, err
}

// isOpaque says whether an overlay's upper directory hides those below it. ("x" only says that there are whiteouts in it.)
func (t *tree) isOpaque(name string) (bool, error) {
	at, err := t.at(name)
	if err != nil {
		return false, err
	}
	for _, prefix := range []string{trustedOverlay, userOverlay} {
		if hasXattr(at.path(), prefix+xattrRedirect) {
			return false, refuseOverlayOnly(name, prefix+xattrRedirect)
		}
		value, err := getXattr(at.path(), prefix+xattrOpaque)
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
