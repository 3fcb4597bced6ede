package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFind looks for names in a directory whose links point out of it.
func TestFind(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret"))
	write(t, filepath.Join(root, "etc/secret"))
	for link, to := range map[string]string{"absolute": "/etc/secret", "up": "../../../../etc/secret", "out": outside + "/secret"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(root, "etc/secret")
	for _, name := range []string{"etc/secret", "/etc/secret", "absolute", "up", "etc/../etc/./secret"} {
		f, err := Find(root, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if at, err := os.Readlink(Path(f.Fd())); err != nil || at != want {
			t.Errorf("%s leads to %s (%v), not to %s", name, at, err, want)
		}
		f.Close()
	}
	for name, want := range map[string]error{"out": fs.ErrNotExist, "nothing": fs.ErrNotExist, "etc/secret/x": unix.ENOTDIR} {
		if _, err := Find(root, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", name, err, want)
		}
	}
	if _, err := Find(filepath.Join(root, "nothing"), "etc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestPlain refuses every link, whose target does not matter.
func TestPlain(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/file"))
	if err := os.Symlink("etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, want := range map[string]error{"etc/file": nil, "link/file": unix.ELOOP, "etc/../../x": unix.EXDEV, "/etc/file": unix.EXDEV} {
		fd, err := Open(int(dir.Fd()), name, unix.O_RDONLY, Plain)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", name, err, want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
}

// TestBusy resolves a path with ".." while others rename without a pause: it ends, and never outside.
func TestBusy(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "a/b/file"))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			os.Rename(filepath.Join(root, "a/b"), filepath.Join(root, "c"))
			os.Rename(filepath.Join(root, "c"), filepath.Join(root, "a/b"))
		}
	}()
	for range 2000 {
		f, err := Find(root, "a/b/../b/../b/file")
		if err == nil {
			f.Close()
		} else if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("while names change: %v", err)
		}
	}
	stop.Store(true)
	<-done
}

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
}
