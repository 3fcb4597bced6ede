package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A layer may have an entry a/b and none for a. Where the layers below have a, it keeps its owner, mode, times and
// attributes. Applied on its own, a layer does not know them; but in an overlay the uppermost a is the one that counts.
// So Apply marks the directories it had to make up, and the root if the layer has no entry for it: the root's mark is
// "r" for itself, "d" for others, so that in the usual case one look tells that there is nothing to walk for.

func setMark(fd int, user bool, value string) error {
	err := unix.Fsetxattr(fd, overlayXattr(user, xattrImplied), []byte(value), 0)
	if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mark the directory as implied: %w", err)
	}
	return nil
}

func clearMark(fd int, user bool) {
	_ = unix.Fremovexattr(fd, overlayXattr(user, xattrImplied)) // usually there is none
}

func (a *applier) noteImplied() error {
	mark := ""
	if !a.hasRoot {
		mark = "r"
	}
	if a.implied {
		mark += "d"
	}
	if mark == "" {
		return nil
	}
	return setMark(a.root, a.o.UserXattr, mark)
}

// Inherit completes a layer that was applied on its own (Overlay): directories it has but does not describe get what
// they are in the layers below, the topmost first. Call it when those are known, before the layer is used.
func Inherit(upper string, lowers []string, userXattr bool) error {
	name := overlayXattr(userXattr, xattrImplied)
	mark, err := getXattr(upper, name)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", upper, err)
	}
	deep := false
	for _, c := range mark {
		deep = deep || c == 'd'
	}
	err = filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if path != upper && !hasXattr(path, name) || path == upper && mark[0] != 'r' {
			return nil
		}
		rel, err := filepath.Rel(upper, path)
		if err != nil {
			return err
		}
		if err := inherit(path, rel, lowers, userXattr); err != nil {
			return fmt.Errorf("layer %s: directory %s: %w", upper, rel, err)
		}
		if path != upper {
			if err := unix.Lremovexattr(path, name); err != nil {
				return err
			}
		} else if !deep {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Last, so that an interrupted run is repeated.
	return unix.Lremovexattr(upper, name)
}

// inherit copies what a directory is from the first layer that has it.
func inherit(path, rel string, lowers []string, userXattr bool) error {
	for _, lower := range lowers {
		from, hidden, err := find(lower, rel, userXattr)
		if err != nil || hidden {
			return err
		}
		if from != nil {
			defer from.Close()
			return copyDirectory(from, path)
		}
	}
	return nil
}

// find looks for a directory in one layer; hidden says that the layers below it are not to be asked. Links are not
// followed: overlayfs does not either when it puts layers together.
func find(lower, rel string, userXattr bool) (dir *os.File, hidden bool, err error) {
	at, err := unix.Open(lower, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, fmt.Errorf("layer below, %s: %w", lower, err)
	}
	opaqueName := overlayXattr(userXattr, xattrOpaque)
	buf := make([]byte, 1)
	for part := range filepathParts(rel) {
		n, err := unix.Fgetxattr(at, opaqueName, buf)
		hidden = hidden || err == nil && n == 1 && buf[0] == 'y'
		next, err := unix.Openat(at, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(at)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil, hidden, nil
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil, true, nil // a whiteout, or a file
		case err != nil:
			return nil, false, err
		}
		at = next
	}
	return os.NewFile(uintptr(at), rel), hidden, nil
}

func copyDirectory(from *os.File, to string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &stat); err != nil {
		return err
	}
	if err := os.Lchown(to, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, stat.Mode&0o7777); err != nil {
		return err
	}
	attributes, err := readXattrs(place{parent: int(from.Fd()), base: "."}.path())
	if err != nil {
		return err
	}
	for name, value := range attributes {
		if err := unix.Lsetxattr(to, name, []byte(value), 0); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	mtime := time.Unix(stat.Mtim.Unix())
	return utimens(unix.AT_FDCWD, to, mtime)
}

// filepathParts are the components of a relative path; "." has none.
func filepathParts(rel string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for rel != "" && rel != "." {
			part, rest, _ := strings.Cut(rel, "/")
			if !yield(part) {
				return
			}
			rel = rest
		}
	}
}
