package layer

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Two things of a layer depend on the layers below it, which need not be there when it is applied by itself (Overlay):
//
//   - It may have an entry a/b and none for a. Where the layers below have a, it keeps its owner, mode, times and
//     attributes; but in an overlay the uppermost a is the one that counts, so it has to get them.
//   - A whiteout in a directory that no layer below has means nothing, and must not be there: overlayfs lists a directory
//     that has nothing to merge with as it is, whiteouts included, and then denies that they exist.
//
// Apply marks such directories, and those on the way to them, so that Inherit finds them without a walk.
type mark byte

const (
	implied   mark = 1 << iota // the layer does not describe it
	whitened                   // it has whiteouts
	onTheWay                   // to a directory with a mark
	markBits  = 3
	markStart = 'A'
)

// letter is the value of the attribute.
func (m mark) letter() []byte { return []byte{byte(m) + markStart} }

func readMark(path, name string) (mark, error) {
	value, err := getXattr(path, name)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(value) != 1 || value[0] < markStart || value[0] >= markStart+1<<markBits {
		return 0, fmt.Errorf("attribute %s is %q: %w", name, value, errdefs.ErrDataLoss)
	}
	return mark(value[0] - markStart), nil
}

// writeMarks says what is left to be done.
func (a *applier) writeMarks() error {
	for _, name := range slices.Collect(maps.Keys(a.marks)) {
		for name != "" {
			name, _ = split(name)
			if a.marks[name]&onTheWay != 0 {
				break
			}
			a.marks[name] |= onTheWay
		}
	}
	attribute := overlayXattr(a.o.UserXattr, xattrImplied)
	for name, m := range a.marks {
		fd, err := a.dirs.open(name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // it was replaced
		}
		if err == nil {
			err = unix.Fsetxattr(fd, attribute, m.letter(), 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("mark directory %q: %w", name, err)
		}
		a.dirs.trim()
	}
	return nil
}

// settleWhiteout removes one in an opaque directory, which has nothing below it that could be hidden.
func (a *applier) settleWhiteout(at place) error {
	for dir := at.dir; ; dir, _ = split(dir) {
		if _, ok := a.opaques[dir]; ok {
			break
		}
		if dir == "" {
			a.marks[at.dir] |= whitened
			return nil
		}
	}
	parent, err := a.dirs.open(at.dir)
	if err != nil {
		return nil // it was replaced
	}
	at.parent = parent
	if a.isWhiteout(at) {
		return unix.Unlinkat(parent, at.base, 0)
	}
	return nil
}

// Inherit completes a layer that was applied on its own (Overlay): directories it has but does not describe get what
// they are in the layers below, the topmost first, and whiteouts of nothing go. Call it when the layers below are
// known, before the layer is used. It can be repeated.
func Inherit(upper string, lowers []string, userXattr bool) error {
	i := inheritor{upper: upper, lowers: lowers, userXattr: userXattr, attribute: overlayXattr(userXattr, xattrImplied)}
	if err := i.directory("."); err != nil {
		return fmt.Errorf("layer %s: %w", upper, err)
	}
	return nil
}

type inheritor struct {
	upper     string
	lowers    []string
	userXattr bool
	attribute string
}

// directory does one and those below it that are marked; its own mark goes last, so that an interrupted run is repeated.
func (i inheritor) directory(rel string) error {
	path := filepath.Join(i.upper, rel)
	m, err := readMark(path, i.attribute)
	if err != nil || m == 0 {
		return err
	}
	if m&(whitened|onTheWay) != 0 {
		if err := i.children(path, rel, m); err != nil {
			return err
		}
	}
	if m&implied != 0 {
		if err := i.inherit(path, rel); err != nil {
			return fmt.Errorf("directory %s: %w", rel, err)
		}
	}
	return unix.Lremovexattr(path, i.attribute)
}

func (i inheritor) children(path, rel string, m mark) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if m&whitened != 0 {
		from, err := i.below(rel)
		if err != nil {
			return err
		}
		if from == nil {
			err = dropWhiteouts(path, entries)
		} else {
			from.Close()
		}
		if err != nil {
			return err
		}
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := i.directory(filepath.Join(rel, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropWhiteouts removes those in a directory, whose time stays.
func dropWhiteouts(path string, entries []os.DirEntry) error {
	at, err := openTree(path)
	if err != nil {
		return err
	}
	defer at.close()
	dir, err := at.file("")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		f, err := at.file(e.Name())
		if err != nil {
			return err
		}
		if white, err := at.isWhiteout(e.Name(), f); err != nil || !white {
			continue
		}
		if err := unix.Unlinkat(at.root, e.Name(), 0); err != nil {
			return err
		}
	}
	return futimens(at.root, time.Unix(dir.stat.Mtim.Unix()))
}

// below finds what a directory is merged with: nil for nothing.
func (i inheritor) below(rel string) (*os.File, error) {
	for _, lower := range i.lowers {
		from, hidden, err := find(lower, rel, i.userXattr)
		if err != nil || from != nil || hidden {
			return from, err
		}
	}
	return nil, nil
}

// inherit copies what a directory is below, if it is there.
func (i inheritor) inherit(path, rel string) error {
	from, err := i.below(rel)
	if err != nil || from == nil {
		return err
	}
	defer from.Close()
	return copyDirectory(from, path)
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
