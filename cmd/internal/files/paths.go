package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Place is one side of a copy.
type Place struct {
	Container string // empty: this machine
	Path      string
}

// Stream is the path of this machine that stands for the standard input or output.
const Stream = "-"

// ParsePlace reads CONTAINER:PATH; what has a slash before the first colon is a path of this machine.
func ParsePlace(text string) Place {
	if id, path, ok := strings.Cut(text, ":"); ok && id != "" && !strings.Contains(id, "/") && !strings.HasPrefix(id, ".") {
		return Place{id, path}
	}
	return Place{Path: text}
}

// What docker says of places that do not fit, in its words.
var (
	errCannotCopyDir = errors.New("cannot copy directory")
	errNoSuchDir     = errors.New("no such directory")
	errNotDirectory  = errors.New("not a directory")
)

// source is what is copied.
type source struct {
	path   string // as it was given, or what it leads to
	as     string // what it is called instead of its path's last element; empty: that
	isDir  bool
	inside string // of this machine: where it is, which no link is on the way to
}

// target is where it goes.
type target struct {
	path   string
	exists bool
	isDir  bool
}

// plan says into which directory the source goes, and what it is called there: the rules of docker cp.
func plan(s source, t target) (dir, as string, err error) {
	dir, base := splitPath(t.path)
	switch {
	case t.exists && t.isDir:
		if s.as != "" {
			return t.path, s.as, nil
		}
		_, as = splitPath(s.path)
		return t.path, as, nil
	case t.exists && s.isDir:
		return "", "", errCannotCopyDir
	case !t.exists && !s.isDir && meansDirectory(t.path):
		return "", "", errNoSuchDir
	}
	return dir, base, nil
}

// splitPath is a path's directory and last element, which is "." for the contents of a directory.
func splitPath(path string) (dir, base string) {
	clean := filepath.Clean(path)
	if meansContents(path) {
		return clean, "."
	}
	return filepath.Dir(clean), filepath.Base(clean)
}

func meansContents(path string) bool { return filepath.Base(path) == "." }

// meansDirectory says whether a path can only be a directory's.
func meansDirectory(path string) bool { return strings.HasSuffix(path, "/") || meansContents(path) }

// keepEnd gives a path that was cleaned the end it had.
func keepEnd(clean, path string) string {
	if meansContents(path) && !meansContents(clean) {
		clean = strings.TrimSuffix(clean, "/") + "/."
	}
	if strings.HasSuffix(path, "/") && !strings.HasSuffix(clean, "/") {
		clean += "/"
	}
	return clean
}

// absolute is a path of this machine from its root.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	return keepEnd(abs, path), err
}

// renamed is what a link is called that is followed: as its path has it.
func renamed(path, leads string) (to, as string) {
	leads = keepEnd(leads, path)
	if filepath.Base(path) != filepath.Base(leads) {
		as = filepath.Base(path)
	}
	return leads, as
}

// localSource looks at what is copied from this machine. The last element is followed when that is asked for.
func localSource(path string, follow bool) (source, error) {
	path, err := absolute(path)
	if err != nil {
		return source{}, err
	}
	s := source{path: path}
	if _, err := os.Lstat(filepath.Clean(path)); err != nil {
		return s, err
	}
	if follow {
		leads, err := filepath.EvalSymlinks(path)
		if err != nil {
			return s, err
		}
		s.path, s.as = renamed(path, leads)
		s.inside = leads
	} else {
		dir, base := splitPath(path)
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return s, err
		}
		s.inside = filepath.Join(dir, base)
	}
	info, err := os.Lstat(s.inside)
	if err != nil {
		return s, err
	}
	s.isDir = info.IsDir()
	if meansDirectory(path) && !s.isDir {
		if info, err := os.Stat(s.inside); err != nil || !info.IsDir() {
			return s, errNotDirectory
		}
	}
	return s, nil
}

// maxLinks is how many links of this machine are followed to a target.
const maxLinks = 10

// localTarget looks at where a copy goes on this machine: links lead to what they name, there or not.
func localTarget(path string) (target, error) {
	path, err := absolute(path)
	if err != nil {
		return target{}, err
	}
	t := target{path: path}
	info, err := os.Lstat(path)
	for n := 0; err == nil && info.Mode().Type() == fs.ModeSymlink; n++ {
		if n == maxLinks {
			return t, fmt.Errorf("too many symlinks in %q", path)
		}
		leads, err := os.Readlink(t.path)
		if err != nil {
			return t, err
		}
		if !filepath.IsAbs(leads) {
			leads = filepath.Join(filepath.Dir(t.path), leads)
		}
		t.path = leads
		if info, err = os.Lstat(leads); err != nil {
			break
		}
	}
	if info, err = os.Lstat(t.path); err == nil {
		t.exists, t.isDir = true, info.IsDir()
		return t, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	dir, _ := splitPath(t.path)
	if above, err := os.Stat(dir); err != nil {
		return t, err
	} else if !above.IsDir() {
		return t, errNotDirectory
	}
	return t, nil
}

// CheckOutput refuses a path of this machine that nothing can be written to, as docker does.
func CheckOutput(path string) error {
	dir := filepath.Dir(filepath.Clean(path))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil // it is made
	}
	what := checkMode(info.Mode())
	if what != "" {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file: got %s", path, what)
	}
	return nil
}

// checkMode names a kind of file that nothing is copied to; empty for the others.
func checkMode(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeIrregular != 0:
		return "an irregular file"
	}
	return ""
}
