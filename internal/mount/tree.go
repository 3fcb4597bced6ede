package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// errTooOld says that this kernel lacks the system call or the parameter, and mount(2) has to do it.
var errTooOld = errors.New("not known to this kernel")

// fsconfigMax is the longest value of a parameter: fsconfig(2) copies at most 256 bytes with the final zero.
const fsconfigMax = 255

// Tree builds the mount detached: it is nowhere in the file system and disappears when the descriptor, and every one
// opened through it, is closed. The file is good for the *at system calls and as a path /proc/self/fd/N of this process.
// Propagation options have no effect. ErrNotImplemented where the kernel cannot (before Linux 5.12).
func Tree(m Mount) (*os.File, error) {
	p, err := parse(m)
	if err != nil {
		return nil, err
	}
	fd, err := build(p)
	if errors.Is(err, errTooOld) {
		err = fmt.Errorf("detached mount: %w: %w", err, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", m, err)
	}
	return os.NewFile(uintptr(fd), m.String()), nil
}

// build makes the detached mount, or errTooOld.
func build(p parsed) (int, error) {
	switch {
	case p.bind:
		return bind(p)
	case p.Type == overlayType:
		return overlay(p)
	}
	if p.loop {
		return looped(p)
	}
	return filesystem(p, p.data, nil)
}

// bind clones the mount at the source, with all below it for rbind, and changes the clone.
func bind(p parsed) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC) | recursive(p.rbind)
	fd, err := unix.OpenTree(unix.AT_FDCWD, p.Source, flags)
	if err != nil {
		return -1, fmt.Errorf("bind source: %w", tooOld(err))
	}
	if err := setattr(fd, p); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// setattr changes a detached mount's attributes and ids.
func setattr(fd int, p parsed) error {
	attr := unix.MountAttr{Attr_set: p.attr.set, Attr_clr: p.attr.clear}
	tree := unix.MountAttr{Attr_set: p.tree.set, Attr_clr: p.tree.clear}
	if len(p.uid) > 0 && (p.bind || p.loop) {
		ns, err := UserNamespace(p.uid, p.gid)
		if err != nil {
			return err
		}
		defer ns.Close()
		mapped := &attr
		if p.mapTree {
			mapped = &tree
		}
		mapped.Attr_set |= unix.MOUNT_ATTR_IDMAP
		mapped.Userns_fd = uint64(ns.Fd())
	}
	for i, a := range []*unix.MountAttr{&tree, &attr} {
		if a.Attr_set == 0 && a.Attr_clr == 0 {
			continue
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|recursive(i == 0), a); err != nil {
			if errors.Is(err, unix.EINVAL) && a.Userns_fd != 0 {
				return fmt.Errorf("the filesystem of %s does not support idmapped mounts: %w: %w", p.Source, err, errdefs.ErrNotImplemented)
			}
			return fmt.Errorf("set the attributes: %w", tooOld(err))
		}
	}
	return nil
}

// filesystem makes a new instance of a filesystem from its parameters. configure, if any, gives it more of them.
func filesystem(p parsed, data []string, configure func(fs int) error) (int, error) {
	for _, o := range data {
		if _, value, _ := strings.Cut(o, "="); len(value) > fsconfigMax {
			return -1, fmt.Errorf("option of %d bytes: %w", len(o), errTooOld)
		}
	}
	fs, err := unix.Fsopen(p.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return -1, fmt.Errorf("filesystem %q is not known to this kernel: %w (%w)", p.Type, err, errdefs.ErrNotImplemented)
		}
		return -1, fmt.Errorf("open the filesystem: %w", tooOld(err))
	}
	defer unix.Close(fs)
	if err := parameters(fs, p, data); err != nil {
		return -1, explain(fs, err)
	}
	if configure != nil {
		if err := configure(fs); err != nil {
			return -1, explain(fs, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, explain(fs, fmt.Errorf("create: %w", class(err)))
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(p.attr.set|p.tree.set))
	if err != nil {
		return -1, explain(fs, class(err))
	}
	return mnt, nil
}

func parameters(fs int, p parsed, data []string) error {
	if p.Source != "" {
		if err := unix.FsconfigSetString(fs, "source", p.Source); err != nil {
			return fmt.Errorf("source: %w", class(err))
		}
	}
	for _, flag := range p.superblock {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return fmt.Errorf("option %s: %w", flag, class(err))
		}
	}
	for _, o := range data {
		key, value, isString := strings.Cut(o, "=")
		var err error
		if isString {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", o, class(err))
		}
	}
	return nil
}

// explain adds what the kernel logged about the filesystem being made: each read of the descriptor gives one line with
// its severity in front ("e ", "w ", "i ").
func explain(fs int, err error) error {
	if errors.Is(err, errTooOld) {
		return err
	}
	var lines []string
	buf := make([]byte, 1024)
	for len(lines) < 8 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break
		}
		line := strings.TrimSpace(string(buf[:n]))
		if severity, text, ok := strings.Cut(line, " "); ok && len(severity) == 1 {
			line = text
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: the kernel says: %s", err, strings.Join(lines, "; "))
}

// tooOld turns the errno of a missing system call into errTooOld. EPERM is not among them: a seccomp filter that says
// EPERM for the new calls says it for mount(2) too.
func tooOld(err error) error {
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", err, errTooOld)
	}
	return class(err)
}
