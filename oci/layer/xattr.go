package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func hasXattrs(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, paxXattr) {
			return true
		}
	}
	return false
}

// keepXattr says whether an attribute belongs to an image.
//
// overlayfs' own would let a layer steer the overlay it becomes a part of (redirect it to another directory, borrow
// another file's contents). Labels (security.selinux) and measurements (security.ima, security.evm) belong to the host.
func keepXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, trustedOverlay), strings.HasPrefix(name, userOverlay):
		return false
	case strings.HasPrefix(name, "security."):
		return name == "security.capability"
	case strings.HasPrefix(name, "system."):
		return strings.HasPrefix(name, "system.posix_acl_")
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
}

// xattrs sets an entry's extended attributes on an open file.
func (a *applier) xattrs(h *tar.Header, fd int) error {
	return a.eachXattr(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
}

// xattrsAt sets them on what cannot be opened: a symbolic link, a device, a pipe.
func (a *applier) xattrsAt(h *tar.Header, at place) error {
	return a.eachXattr(h, func(name string, value []byte) error { return unix.Lsetxattr(at.path(), name, value, 0) })
}

// path names a file through its directory's descriptor, for the calls that have no *at form. Only the directory's link
// is followed, which leads to the directory whatever has happened to its name.
func (p place) path() string {
	return "/proc/self/fd/" + strconv.Itoa(p.parent) + "/" + p.base
}

func (a *applier) eachXattr(h *tar.Header, set func(name string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if !keepXattr(name) {
			a.drop("%s: attribute %s is not an image's to set", h.Name, name)
			continue
		}
		err := set(name, []byte(value))
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM) && a.mayLose(h, name):
			a.drop("%s: attribute %s: %v", h.Name, name, err)
		default:
			return fmt.Errorf("set the attribute %s: %w", name, err)
		}
	}
	return nil
}

// dropXattrs takes away what a directory had and its new entry does not say: an entry describes all of it.
func dropXattrs(fd int, h *tar.Header) error {
	path := "/proc/self/fd/" + strconv.Itoa(fd) + "/."
	names, err := listXattrs(path)
	for _, name := range names {
		if _, stays := h.PAXRecords[paxXattr+name]; stays || !keepXattr(name) {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove the attribute %s: %w", name, err)
		}
	}
	return err
}

// mayLose says whether a refusal is to be expected: without privileges for all but user.*, and for user.* on what is
// neither a file nor a directory (xattr(7)).
func (a *applier) mayLose(h *tar.Header, name string) bool {
	if strings.HasPrefix(name, "user.") {
		return h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir
	}
	return a.euid != 0 || a.o.UserXattr
}

func hasXattr(path, name string) bool {
	_, err := unix.Lgetxattr(path, name, nil)
	return err == nil
}

// readXattrs gets the attributes of a file that belong to an image.
func readXattrs(path string) (map[string]string, error) {
	names, err := listXattrs(path)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		if !keepXattr(name) {
			continue
		}
		value, err := getXattr(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: attribute %s: %w", path, name, err)
		}
		out[name] = string(value)
	}
	return out, nil
}

func listXattrs(path string) ([]string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Llistxattr(path, buf)
		switch {
		case errors.Is(err, unix.ERANGE):
			buf = make([]byte, 4*len(buf))
			continue
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("%s: list the attributes: %w", path, err)
		case n == 0:
			return nil, nil
		}
		return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
	}
}

func getXattr(path, name string) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Lgetxattr(path, name, buf)
		if errors.Is(err, unix.ERANGE) {
			buf = make([]byte, 4*len(buf))
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
