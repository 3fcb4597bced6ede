package treecopy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// source is a tree of every kind of file.
func source(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: owners and devices are copied")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("dir"), 0o750),
		os.WriteFile(at("dir/file"), []byte("text"), 0o640),
		os.Chown(at("dir/file"), 1000, 2000),
		os.Chmod(at("dir/file"), 0o640|os.ModeSetuid),
		unix.Setxattr(at("dir/file"), "user.note", []byte("kept"), 0),
		os.Link(at("dir/file"), at("again")),
		os.Symlink("/etc/passwd", at("link")),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mkfifo(at("fifo"), 0o600),
		os.Truncate(at("dir/file"), 8<<20), // a hole at its end
		os.Chtimes(at("dir"), time.Unix(1000, 0), time.Unix(2000, 5)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func stat(t *testing.T, path string) (s unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCopy(t *testing.T) {
	from, to := source(t), t.TempDir()
	shift := func(id uint32) uint32 { return id + 100000 }
	if err := Copy(t.Context(), from, to, Options{UID: shift, GID: shift}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir", "dir/file", "again", "link", "null", "fifo"} {
		a, b := stat(t, filepath.Join(from, name)), stat(t, filepath.Join(to, name))
		if b.Mode != a.Mode || b.Rdev != a.Rdev || b.Mtim != a.Mtim || b.Nlink != a.Nlink || b.Size != a.Size && a.Mode&unix.S_IFMT != unix.S_IFDIR {
			t.Errorf("%s: %+v, want %+v", name, b, a)
		}
		if b.Uid != a.Uid+100000 || b.Gid != a.Gid+100000 {
			t.Errorf("%s belongs to %d:%d", name, b.Uid, b.Gid)
		}
	}
	if file := stat(t, filepath.Join(to, "dir/file")); file.Ino != stat(t, filepath.Join(to, "again")).Ino || file.Blocks*512 > 1<<20 {
		t.Errorf("a file with two names and a hole: %+v", file)
	}
	note := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(to, "dir/file"), "user.note", note); err != nil || string(note[:n]) != "kept" {
		t.Errorf("attribute %q, %v", note, err)
	}
	if target, err := os.Readlink(filepath.Join(to, "link")); err != nil || target != "/etc/passwd" {
		t.Errorf("link to %q, %v", target, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Copy(ctx, source(t), t.TempDir(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestEntry(t *testing.T) {
	from, to := source(t), t.TempDir()
	for _, name := range []string{"dir", "again", "link", "null"} {
		if err := Entry(t.Context(), filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a, b := stat(t, filepath.Join(from, name)), stat(t, filepath.Join(to, name)); a.Mode != b.Mode || a.Uid != b.Uid || a.Mtim != b.Mtim {
			t.Errorf("%s: %+v, want %+v", name, b, a)
		}
	}
	if err := Entry(t.Context(), filepath.Join(from, "again"), filepath.Join(to, "again")); err == nil {
		t.Error("what was there is overwritten")
	}
}
