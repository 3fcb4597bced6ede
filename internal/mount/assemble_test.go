package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// TestAssemble looks at a tree with mounts that nobody else sees, and that stay when what they were made in has ended.
func TestAssemble(t *testing.T) {
	testenv.Root(t)
	root, volume, outside := t.TempDir(), t.TempDir(), t.TempDir()
	for name, text := range map[string]string{root + "/own": "own", volume + "/in": "volume", outside + "/secret": "s"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, root+"/out"); err != nil {
		t.Fatal(err)
	}
	bind := func(source, target string, options ...string) Mount {
		return Mount{Type: "bind", Source: source, Target: target, Options: append([]string{"rbind"}, options...)}
	}
	tree, err := Assemble(root, true, []Mount{bind(volume, "/a/b"), bind(volume+"/in", "/file"), bind(volume, "/ro", "ro")})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	at := fmt.Sprintf("/proc/self/fd/%d", tree.Fd())
	for name, want := range map[string]string{"/own": "own", "/a/b/in": "volume", "/file": "volume"} {
		if data, err := os.ReadFile(at + name); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for name, want := range map[string]error{"/a/b/new": nil, "/ro/new2": unix.EROFS, "/new": unix.EROFS} {
		if err := os.WriteFile(at+name, nil, 0o644); !errors.Is(err, want) {
			t.Errorf("write %s: %v, want %v", name, err, want)
		}
	}
	if _, err := os.Stat(volume + "/new"); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{root, volume} {
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), dir) {
			t.Errorf("%s is mounted: %s%v", dir, mounts, err)
		}
	}
	if data, err := os.ReadDir(root + "/a/b"); err != nil || len(data) != 0 {
		t.Errorf("the target: %v, %v", data, err)
	}
	if tree, err := Assemble(root, false, []Mount{bind(volume, "/out/made")}); err == nil {
		tree.Close()
		t.Error("mounted through a link that leads nowhere")
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
		t.Errorf("outside: %v, %v", names, err)
	}
}
