package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// pageLimit is what mount(2) takes of options: a page, with the final zero.
func pageLimit() int { return os.Getpagesize() - 1 }

// legacy mounts with mount(2), in the two or three calls that it needs for one mount.
func legacy(p parsed, target int) error {
	if len(p.uid) > 0 && p.Type != overlayType {
		return fmt.Errorf("idmapped mounts need Linux 5.12: %w", errdefs.ErrNotImplemented)
	}
	if !p.tree.zero() {
		return fmt.Errorf("recursive mount attributes (rro, …) need Linux 5.12: %w", errdefs.ErrNotImplemented)
	}
	path := procFD(target)
	var err error
	flags := msFlags(p.attr) | superblockFlags(p.superblock)
	switch {
	case p.bind:
		err = unix.Mount(p.Source, path, "", unix.MS_BIND|recursiveMS(p.rbind), "")
	case p.Type == overlayType:
		err = legacyOverlay(p, splitOverlay(p.data), path, flags)
	default:
		err = unix.Mount(p.Source, path, p.Type, flags, pageOptions(p.data))
	}
	if err != nil {
		return class(err)
	}
	// The target's descriptor is below the new mount; its name now leads to the top.
	at, err := os.Readlink(path)
	if err != nil {
		return err
	}
	// A bind mount ignores all flags in the call that makes it and takes them in a second one (mount(2), "Bind mounts").
	if p.bind && !p.attr.zero() {
		if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
			return fmt.Errorf("set the attributes: %w", class(err))
		}
	}
	for _, propagation := range p.propagation {
		if err := unix.Mount("", at, "", uintptr(propagation.kind)|recursiveMS(propagation.recursive), ""); err != nil {
			return fmt.Errorf("set the propagation: %w", class(err))
		}
	}
	return nil
}

// legacyOverlay mounts an overlay; its lower layers are mapped first where that is asked (Linux 5.19).
func legacyOverlay(p parsed, s stack, target string, flags uintptr) error {
	if len(p.uid) == 0 {
		return mountStack(p, s, target, flags)
	}
	ns, err := UserNamespace(p.uid, p.gid)
	if err != nil {
		return err
	}
	defer ns.Close()
	clones, err := mapLayers(s.lower, ns)
	defer closeAll(clones)
	if err != nil {
		return err
	}
	return attachLayers(s, clones, func(attached stack) error { return mountStack(p, attached, target, flags) })
}

// mountStack makes the options fit the page: the lower directories are named relative to the directory they have in
// common, and that is made the working directory of a thread of its own, which ends with the goroutine.
func mountStack(p parsed, s stack, target string, flags uintptr) error {
	base, lower := relativeTo(s.lower)
	data := pageOptions(append(s.options(lower), s.rest...))
	if len(data) > pageLimit() {
		return fmt.Errorf("overlay of %d layers: their names take %d bytes, mount(2) takes %d and this kernel has no lowerdir+ (Linux 6.7): %w",
			len(s.lower), len(data), pageLimit(), errdefs.ErrFailedPrecondition)
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread has a working directory of its own and must not run anything else.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(base)
		}
		if err == nil {
			err = unix.Mount(p.Source, target, p.Type, flags, data)
		}
		result <- err
	}()
	return <-result
}

// pageOptions are options as mount(2) takes them. The value of a label has commas, and stands in quotes.
func pageOptions(options []string) string {
	out := slices.Clone(options)
	for i, o := range out {
		if label, ok := strings.CutPrefix(o, "context="); ok {
			out[i] = fmt.Sprintf(`context="%s"`, label)
		}
	}
	return strings.Join(out, ",")
}

func (s stack) options(lower []string) []string {
	value := LowerDirs(lower)
	for _, dir := range s.data {
		value += "::" + escapeLower(dir)
	}
	out := []string{"lowerdir=" + value}
	if s.upper != "" {
		out = append(out, "upperdir="+s.upper, "workdir="+s.work)
	}
	return out
}

// relativeTo finds the deepest directory that all have in common, and the names relative to it.
func relativeTo(dirs []string) (base string, names []string) {
	if len(dirs) == 0 {
		return "/", nil
	}
	base = filepath.Dir(dirs[0])
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			return ".", dirs
		}
		for base != "/" && !strings.HasPrefix(dir, base+"/") {
			base = filepath.Dir(base)
		}
	}
	prefix := strings.TrimSuffix(base, "/") + "/"
	for _, dir := range dirs {
		names = append(names, strings.TrimPrefix(dir, prefix))
	}
	return base, names
}

// remount changes the attributes of the mount at the target; a bind remount leaves its filesystem alone.
func remount(p parsed, target int) error {
	if p.bind {
		attr := unix.MountAttr{Attr_set: p.attr.set, Attr_clr: p.attr.clear}
		if p.attr.set&unix.MOUNT_ATTR_RDONLY == 0 {
			attr.Attr_clr |= unix.MOUNT_ATTR_RDONLY
		}
		return class(unix.MountSetattr(target, "", unix.AT_EMPTY_PATH, &attr))
	}
	flags := unix.MS_REMOUNT | msFlags(p.attr) | superblockFlags(p.superblock)
	return class(unix.Mount(p.Source, procFD(target), p.Type, flags, strings.Join(p.data, ",")))
}

func recursiveMS(yes bool) uintptr {
	if yes {
		return unix.MS_REC
	}
	return 0
}

func msFlags(c change) uintptr {
	var flags uintptr
	for _, pair := range [][2]uint64{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY}, {unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV}, {unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME}, {unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
		{unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME}, {unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW},
	} {
		if c.set&pair[0] != 0 {
			flags |= uintptr(pair[1])
		}
	}
	return flags
}

func superblockFlags(names []string) uintptr {
	var flags uintptr
	for _, name := range names {
		switch name {
		case "ro":
			flags |= unix.MS_RDONLY
		case "sync":
			flags |= unix.MS_SYNCHRONOUS
		case "dirsync":
			flags |= unix.MS_DIRSYNC
		case "lazytime":
			flags |= unix.MS_LAZYTIME
		case "mand":
			flags |= unix.MS_MANDLOCK
		case "iversion":
			flags |= unix.MS_I_VERSION
		}
	}
	return flags
}
