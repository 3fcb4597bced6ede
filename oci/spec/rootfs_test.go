package spec

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRootfsStaysInside: links of an image are the container's, wherever they point.
func TestRootfsStaysInside(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	put := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("etc/plain", "plain")
	put("store/passwd", "stored")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link("/store/passwd", "etc/absolute")
	link("../../../../store/passwd", "etc/dots")
	link(outside, "etc/host")
	link("/proc/self/root/etc/passwd", "etc/magic")
	link("loop", "etc/loop")
	if err := unix.Mkfifo(filepath.Join(root, "etc/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := OpenRootfs(root)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for name, want := range map[string]string{"etc/plain": "plain", "etc/absolute": "stored", "etc/dots": "stored"} {
		if got, err := fs.ReadFile(files, name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"etc/host", "etc/magic", "etc/loop", "etc/none", "../etc/passwd", "/etc/passwd", "etc"} {
		if got, err := fs.ReadFile(files, name); err == nil {
			t.Errorf("%s: read %q", name, got)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := files.Open("etc/pipe")
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("a named pipe was opened: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("opening a named pipe blocks")
	}
}

func TestPrepareSources(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "a/b")
	if err := PrepareSources([]Mount{{Type: "bind", Source: made, Target: "/x", CreateSource: true}, {Type: "tmpfs", Source: "tmpfs", Target: "/y"}, {Type: "volume", Source: "v", Target: "/v", Options: []string{"rbind"}}, {Type: "image", Source: "i", Target: "/i", Options: []string{"rbind"}}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(made); err != nil || !info.IsDir() {
		t.Errorf("not made: %v", err)
	}
	err := PrepareSources([]Mount{{Source: dir + "/none", Target: "/x"}})
	if err == nil || !strings.Contains(err.Error(), "mount /x: its source "+dir+"/none isn't on this host: make it first") {
		t.Errorf("got %v", err)
	}
}
