package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ToFile writes a file that is whole or as it was before; - is the standard output. What is neither a file nor absent, as a
// device or a pipe, is written to.
func ToFile(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(os.Stdout)
	}
	if leads, err := filepath.EvalSymlinks(name); err == nil {
		name = leads
	}
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, named, err := nameless(name)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil && !named {
		err = giveName(f, name)
	}
	if err = errors.Join(err, f.Close()); !named {
		return err
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), name)
}

// nameless makes a file in the directory of another that has no name yet (O_TMPFILE, Linux 3.11): whatever becomes of this
// program, nothing is left of it. Where the file system has none of these, it is named.
func nameless(beside string) (f *os.File, named bool, err error) {
	dir := filepath.Dir(beside)
	fd, err := unix.Open(dir, unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o666)
	if err == nil {
		return os.NewFile(uintptr(fd), beside), false, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
		return nil, false, &os.PathError{Op: "create", Path: beside, Err: err}
	}
	f, err = os.CreateTemp(dir, "."+filepath.Base(beside)+"-*")
	if err == nil {
		err = f.Chmod(0o644)
	}
	return f, true, err
}

// giveName puts a nameless file in the place of what has its name, if anything has: linkat(2) does not replace.
func giveName(f *os.File, name string) error {
	link := func(name string) error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	}
	err := link(name)
	if !errors.Is(err, unix.EEXIST) {
		return os.NewSyscallError("linkat", err)
	}
	other := fmt.Sprintf("%s.part-%d", name, os.Getpid())
	if err := link(other); err != nil {
		return os.NewSyscallError("linkat", err)
	}
	return os.Rename(other, name)
}
