// Package files is about the files of containers, as this machine sees them: where they are, and copies from and to them.
// It wants root, on the daemon's machine.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// Copier copies trees of files between two directories, neither of which it leaves.
type Copier struct {
	Owners  bool              // keep the numbers of users and groups
	Skipped func(name string) // told of what is neither file, directory nor link
}

// copy copies one entry; a directory with all that is in it, into one that is there already.
func (k Copier) copy(from *os.Root, source string, to *os.Root, target string) error {
	info, err := from.Lstat(source)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		err = k.directory(from, source, to, target)
	case 0:
		err = k.file(from, source, to, target)
	case fs.ModeSymlink:
		return k.link(from, source, to, target, info)
	default:
		k.Skipped(source)
		return nil
	}
	if err == nil && target != "." {
		err = k.attributes(to, target, info)
	}
	return err
}

func (k Copier) directory(from *os.Root, source string, to *os.Root, target string) error {
	if target != "." {
		if err := to.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, err := to.Lstat(target); err != nil || !info.IsDir() {
			return errors.Join(err, fmt.Errorf("%s is there, and is no directory", target))
		}
	}
	d, err := from.Open(source)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := k.copy(from, path.Join(source, e.Name()), to, path.Join(target, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (k Copier) file(from *os.Root, source string, to *os.Root, target string) error {
	// A file that has become a pipe meanwhile does not hold the program up.
	in, err := from.OpenFile(source, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is no file any more", source))
	}
	// What is there is replaced, not written through: it may be a link.
	if err := to.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := to.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (k Copier) link(from *os.Root, source string, to *os.Root, target string, info fs.FileInfo) error {
	text, err := from.Readlink(source)
	if err != nil {
		return err
	}
	if err := to.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := to.Symlink(text, target); err != nil || !k.Owners {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return to.Lchown(target, int(st.Uid), int(st.Gid))
}

// attributes sets owner, mode and time; the owner first, because a change of owner takes the set-user-id bit away.
func (k Copier) attributes(to *os.Root, target string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && k.Owners {
		if err := to.Lchown(target, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := to.Chmod(target, info.Mode()); err != nil {
		return err
	}
	return to.Chtimes(target, info.ModTime(), info.ModTime())
}
