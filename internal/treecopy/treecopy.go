// Package treecopy copies directory trees as they are: contents, owners, modes, times, extended attributes, hard links,
// devices, holes. Symbolic links are copied and never followed. Who may write to either side meanwhile is the callers'
// business, and so is the disk: nothing is synced.
package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Options change what is copied.
type Options struct {
	// UID and GID say which owner a file gets instead of its own; nil: its own.
	UID, GID func(uint32) uint32
}

type inode struct{ dev, ino uint64 }

// copier copies one tree. Nobody writes to either side meanwhile.
type copier struct {
	ctx      context.Context
	from, to string
	opts     Options
	links    map[inode]string // the first copy of a file that has several names
	dirs     []directory
}

type directory struct {
	path string
	stat unix.Stat_t
}

// Copy makes to, an empty directory, the same as from. Both are real paths of directories, and nobody writes to either
// meanwhile.
func Copy(ctx context.Context, from, to string, opts Options) error {
	c := &copier{ctx: ctx, from: from, to: to, opts: opts, links: map[inode]string{}}
	if err := filepath.WalkDir(from, c.visit); err != nil {
		return err
	}
	// Times of directories last: making something in them changes them.
	for _, d := range c.dirs {
		if err := setTimes(d.path, &d.stat); err != nil {
			return err
		}
	}
	return nil
}

// Entry makes to, which is not there, the same as from: a file of any kind, or a tree.
func Entry(ctx context.Context, from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
	}
	return Copy(ctx, from, to, Options{})
}

// Attributes gives to, a directory, the owner, mode, times and extended attributes of from.
func Attributes(from, to string, opts Options) error {
	var stat unix.Stat_t
	if err := unix.Lstat(from, &stat); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	c := &copier{opts: opts}
	if err := c.attributes(from, to, &stat); err != nil {
		return err
	}
	return setTimes(to, &stat)
}

func (c *copier) visit(path string, _ fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	to := c.to + strings.TrimPrefix(path, c.from)
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if first, again := c.links[inode{stat.Dev, stat.Ino}]; again {
		return os.Link(first, to)
	}
	if err := c.make(path, to, &stat); err != nil {
		return err
	}
	isDir := stat.Mode&unix.S_IFMT == unix.S_IFDIR
	if stat.Nlink > 1 && !isDir {
		c.links[inode{stat.Dev, stat.Ino}] = to
	}
	if err := c.attributes(path, to, &stat); err != nil {
		return err
	}
	if isDir {
		c.dirs = append(c.dirs, directory{to, stat})
		return nil
	}
	return setTimes(to, &stat)
}

func (c *copier) make(path, to string, stat *unix.Stat_t) error {
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if to == c.to {
			return nil
		}
		return os.Mkdir(to, 0o700)
	case unix.S_IFREG:
		return CopyFile(path, to, stat.Size)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := unix.Mknod(to, stat.Mode, int(stat.Rdev)); err != nil {
		return &os.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

// attributes sets the owner, then the mode, then the extended attributes: chown clears set-ID bits and capabilities.
func (c *copier) attributes(path, to string, stat *unix.Stat_t) error {
	uid, gid := stat.Uid, stat.Gid
	if c.opts.UID != nil {
		uid = c.opts.UID(uid)
	}
	if c.opts.GID != nil {
		gid = c.opts.GID(gid)
	}
	if err := os.Lchown(to, int(uid), int(gid)); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, stat.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	return copyXattrs(path, to)
}

func setTimes(path string, stat *unix.Stat_t) error {
	ts := []unix.Timespec{stat.Atim, stat.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

func copyXattrs(from, to string) error {
	size, err := unix.Llistxattr(from, nil)
	if size == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	names := make([]byte, max(size, 0))
	if err == nil {
		size, err = unix.Llistxattr(from, names)
	}
	if err != nil {
		return &os.PathError{Op: "listxattr", Path: from, Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(from, name, nil)
		value := make([]byte, max(size, 0))
		if err == nil && size > 0 {
			size, err = unix.Lgetxattr(from, name, value)
		}
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:size], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s of %s: %w", name, from, err)
		}
	}
	return nil
}

// CopyFile makes a file the same as another. It shares the blocks if the filesystem can, and otherwise lets the kernel copy the parts that are not holes.
func CopyFile(from, to string, size int64) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if size == 0 || unix.IoctlFileClone(int(target.Fd()), int(source.Fd())) == nil {
		return nil
	}
	if err := target.Truncate(size); err != nil {
		return err
	}
	for offset := int64(0); offset < size; {
		start, end, err := extent(source, offset, size)
		if err != nil {
			return err
		}
		if err := copyRange(source, target, start, end); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
		offset = end
	}
	return nil
}

// extent is the next part from offset on that is not a hole; an empty one at the end of the file if there is none.
func extent(f *os.File, offset, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return offset, size, nil // this filesystem does not tell: it is all data
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	return start, end, err
}

func copyRange(from, to *os.File, start, end int64) error {
	in, out := start, start
	for in < end {
		n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(min(end-in, 1<<30)), 0)
		if err != nil || n == 0 {
			return copyBytes(from, to, in, end)
		}
	}
	return nil
}

// copyBytes is for filesystems without copy_file_range(2).
func copyBytes(from, to *os.File, start, end int64) error {
	buf := make([]byte, 256<<10)
	for start < end {
		n, err := from.ReadAt(buf[:min(int64(len(buf)), end-start)], start)
		if n == 0 {
			return fmt.Errorf("at %d of %d: %w", start, end, err)
		}
		if _, err := to.WriteAt(buf[:n], start); err != nil {
			return err
		}
		start += int64(n)
	}
	return nil
}
