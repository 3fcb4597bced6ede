package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const overlayType = "overlay"

// stack is an overlay's directories, taken out of its options.
type stack struct {
	lower, data []string // top first; data: layers behind "::" that only hold contents (Linux 6.5)
	upper, work string
	rest        []string
}

// splitOverlay reads the directory options. A colon or backslash in a lower directory's name is written with a
// backslash before it.
func splitOverlay(options []string) stack {
	var s stack
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			s.addLower(value)
		case "lowerdir+":
			s.lower = append(s.lower, value)
		case "datadir+":
			s.data = append(s.data, value)
		case "upperdir":
			s.upper = value
		case "workdir":
			s.work = value
		default:
			s.rest = append(s.rest, o)
		}
	}
	return s
}

func (s *stack) addLower(value string) {
	var part strings.Builder
	to, empty := &s.lower, true
	flush := func() {
		if part.Len() > 0 {
			*to = append(*to, part.String())
			part.Reset()
		} else if !empty {
			to = &s.data
		}
		empty = false
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value):
			i++
			part.WriteByte(value[i])
		case c == ':':
			flush()
		default:
			part.WriteByte(c)
		}
	}
	flush()
}

// escapeLower writes a directory so that it can stand in lowerdir.
func escapeLower(dir string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(dir)
}

// LowerDirs is the value of an overlay's lowerdir option for these directories, the top one first.
func LowerDirs(dirs []string) string {
	escaped := make([]string, len(dirs))
	for i, d := range dirs {
		escaped[i] = escapeLower(d)
	}
	return strings.Join(escaped, ":")
}

// overlay makes a detached overlay. mount(2) passes all options in one page, which ends near 50 layers; here each layer
// is a parameter of its own, lowerdir+ (Linux 6.7), and the limit is the kernel's own of 500 layers. A name longer
// than a parameter may be is given as a descriptor (Linux 6.13), or as /proc/self/fd/N, which resolves to it.
func overlay(p parsed) (int, error) {
	if !knowsParameters() {
		return -1, fmt.Errorf("overlay: layers one by one: %w", errTooOld)
	}
	s := splitOverlay(p.data)
	if len(p.uid) > 0 {
		return overlayMapped(p, s)
	}
	return filesystem(p, s.rest, func(fs int) error { return s.configure(fs) })
}

// knowsParameters tells whether overlays take parameters one by one, as they do since Linux 6.5. Before that the kernel
// collects any parameter for mount(2)'s page, and says only in the end, and in its log, that it does not know one.
func knowsParameters() bool {
	fs, err := unix.Fsopen(overlayType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return true // what is wrong shows when it is asked in earnest
	}
	defer unix.Close(fs)
	return unix.FsconfigSetFlag(fs, "no-such-parameter") != nil
}

func (s stack) configure(fs int) error {
	for _, dir := range s.lower {
		if err := layer(fs, "lowerdir+", dir); err != nil {
			return err
		}
	}
	for _, dir := range s.data {
		if err := layer(fs, "datadir+", dir); err != nil {
			return err
		}
	}
	if s.upper != "" {
		if err := layer(fs, "upperdir", s.upper); err != nil {
			return err
		}
		return layer(fs, "workdir", s.work)
	}
	return nil
}

func layer(fs int, key, dir string) error {
	var err error
	if len(dir) <= fsconfigMax {
		err = unix.FsconfigSetString(fs, key, dir)
	} else {
		var fd int
		// Not O_PATH: before Linux 6.15 FSCONFIG_SET_FD refuses such descriptors.
		if fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("%s=%s: %w", key, dir, class(err))
		}
		defer unix.Close(fd)
		if err = unix.FsconfigSetFd(fs, key, fd); errors.Is(err, unix.EINVAL) {
			err = unix.FsconfigSetString(fs, key, procFD(fd))
		}
	}
	return layerError(key, dir, err)
}

// layerError tells a kernel that does not know the parameter (EINVAL) from a layer that is missing.
func layerError(key, dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL) && strings.HasSuffix(key, "+") && exists(dir):
		return fmt.Errorf("%s: %w", key, errTooOld)
	}
	return fmt.Errorf("%s=%s: %w", key, dir, class(err))
}

func exists(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// overlayMapped makes an overlay whose lower layers are seen through a mapping of ids: each is cloned as a detached
// mount and mapped. Layers as descriptors are known since Linux 6.13, and detached mounts as layers since 6.15; before
// that the clones have to be attached somewhere while the overlay is made. It keeps private clones of its own, so they
// may be detached right after.
func overlayMapped(p parsed, s stack) (int, error) {
	ns, err := UserNamespace(p.uid, p.gid)
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	clones, err := mapLayers(s.lower, ns)
	defer closeAll(clones)
	if err != nil {
		return -1, err
	}
	upper := stack{upper: s.upper, work: s.work}
	fd, err := filesystem(p, s.rest, func(fs int) error {
		for i, clone := range clones {
			if err := detachedLayer(fs, clone); err != nil {
				return fmt.Errorf("idmapped lowerdir %s: %w", s.lower[i], err)
			}
		}
		return upper.configure(fs)
	})
	if err != nil && errors.Is(err, unix.EINVAL) {
		return overlayAttached(p, s, clones)
	}
	return fd, err
}

func detachedLayer(fs, clone int) error {
	// A descriptor of open_tree is an O_PATH one, see layer.
	fd, err := unix.Openat(clone, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return class(err)
	}
	defer unix.Close(fd)
	return unix.FsconfigSetFd(fs, "lowerdir+", fd)
}

func mapLayers(dirs []string, ns *os.File) ([]int, error) {
	clones := make([]int, 0, len(dirs))
	for _, dir := range dirs {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return clones, fmt.Errorf("lowerdir %s: %w", dir, class(err))
		}
		clones = append(clones, fd)
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return clones, fmt.Errorf("lowerdir %s: its filesystem does not support idmapped mounts (use the native snapshotter): %w", dir, class(err))
		}
	}
	return clones, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// overlayAttached is overlayMapped for kernels before 6.15.
func overlayAttached(p parsed, s stack, clones []int) (fd int, err error) {
	err = attachLayers(s, clones, func(attached stack) error {
		fd, err = filesystem(p, s.rest, func(fs int) error { return attached.configure(fs) })
		return err
	})
	return fd, err
}

// attachLayers has the mapped lower layers attached somewhere while do makes an overlay of them.
func attachLayers(s stack, clones []int, do func(stack) error) (err error) {
	dir, err := os.MkdirTemp("", "mini-idmap-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	attached := s
	attached.lower = nil
	for i, clone := range clones {
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, Unmount(at), os.Remove(at)) }()
		if err := unix.MoveMount(clone, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach the idmapped lowerdir %s: %w", s.lower[i], class(err))
		}
		attached.lower = append(attached.lower, at)
	}
	return do(attached)
}
