package volume

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/internal/treecopy"
)

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"data": true, "a1": true, "A_b-c.d": true, strings.Repeat("a", 255): true,
		"": false, "a": false, ".a": false, "-a": false, "a/b": false, "..": false, "a b": false, "a\x00": false, "é1": false, strings.Repeat("a", 256): false,
	} {
		if err := CheckName(name); (err == nil) != good || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		options map[string]string
		wrong   string
	}{
		{nil, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs"}, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, ""},
		{map[string]string{"type": "tmpfs"}, `missing required option: "device"`},
		{map[string]string{"device": "/a"}, `missing required option: "type"`},
		{map[string]string{"o": "bind"}, "missing required option"},
		{map[string]string{"size": "1m"}, "no quota support"},
		{map[string]string{"what": "1"}, `invalid option: "what"`},
		{map[string]string{"type": "none", "device": "/a\x00"}, "NUL"},
	} {
		err := CheckOptions(c.options)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%v: %v, want %q", c.options, err, c.wrong)
		}
	}
	if err := CheckDriver("nfs"); !errdefs.IsNotFound(err) || CheckDriver("local") != nil || CheckDriver("") != nil {
		t.Errorf("driver nfs: %v", err)
	}
}

func TestMountOf(t *testing.T) {
	for _, c := range []struct{ kind, device, o, want string }{
		{"tmpfs", "tmpfs", "size=1m, uid=5", `tmpfs tmpfs on "/" (size=1m,uid=5)`},
		{"none", "/a", "bind", `bind /a on "/" (bind)`},
		{"nfs", ":/x", "addr=192.0.2.1,rw", `nfs :/x on "/" (addr=192.0.2.1,rw)`},
		{"none", "a", "bind", "must be an absolute path"},
		{"nfs", ":/x", "addr=no.such.host.invalid", "error resolving passed in network volume address"},
	} {
		m, err := mountOf(t.Context(), map[string]string{"type": c.kind, "device": c.device, "o": c.o})
		got := m.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func newVolume(t *testing.T, options map[string]string) (*Local, Record) {
	t.Helper()
	testenv.Root(t)
	l := NewLocal(filepath.Join(testenv.Dir(t), "volumes"))
	r := Record{Namespace: "default", Name: "data", Options: options}
	for range 2 {
		must(t, l.Make(r))
	}
	t.Cleanup(func() {
		for range 2 {
			must(t, l.Remove(r))
		}
		if _, err := os.Lstat(filepath.Dir(l.dir(r))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left: %v", err)
		}
	})
	return l, r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a directory with one of everything that has to arrive.
func source(t *testing.T) string {
	t.Helper()
	from := filepath.Join(testenv.Dir(t), "from")
	must(t, os.MkdirAll(filepath.Join(from, "sub/deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(from, "sub/file"), []byte("text"), 0o640))
	must(t, os.Chown(filepath.Join(from, "sub/file"), 7, 8))
	must(t, unix.Lsetxattr(filepath.Join(from, "sub/file"), "user.mini", []byte("x"), 0))
	must(t, os.Symlink("/etc/passwd", filepath.Join(from, "link")))
	must(t, os.Link(filepath.Join(from, "sub/file"), filepath.Join(from, "hard")))
	must(t, syscall.Mkfifo(filepath.Join(from, "pipe"), 0o600))
	must(t, unix.Chmod(from, 0o1777))
	must(t, os.Chown(from, 5, 6))
	return from
}

func arrived(t *testing.T, dir string) {
	t.Helper()
	if out := testenv.Run(t, "stat", "-c", "%a %u %g", dir, filepath.Join(dir, "sub/file")); out != "1777 5 6\n640 7 8\n" {
		t.Errorf("modes and owners %q", out)
	}
	value := make([]byte, 8)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "sub/file"), "user.mini", value); err != nil || string(value[:n]) != "x" {
		t.Errorf("attribute %q, %v", value, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "link")); err != nil || to != "/etc/passwd" {
		t.Errorf("link to %q, %v", to, err)
	}
	one, err := os.Stat(filepath.Join(dir, "hard"))
	must(t, err)
	two, err := os.Stat(filepath.Join(dir, "sub/file"))
	must(t, err)
	if !os.SameFile(one, two) {
		t.Error("the hard link is none")
	}
	if info, err := os.Lstat(filepath.Join(dir, "pipe")); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("pipe: %v", err)
	}
}

func TestFill(t *testing.T) {
	l, r := newVolume(t, nil)
	from := source(t)
	must(t, l.Fill(t.Context(), r, from, treecopy.Options{}, true))
	arrived(t, l.Path(r))
	must(t, os.WriteFile(filepath.Join(l.Path(r), "own"), nil, 0o600))
	must(t, os.Remove(filepath.Join(l.Path(r), "pipe")))
	must(t, l.Fill(t.Context(), r, from, treecopy.Options{}, true))
	if _, err := os.Lstat(filepath.Join(l.Path(r), "pipe")); err == nil {
		t.Error("a volume with files was filled")
	}
	if entries, err := os.ReadDir(l.dir(r)); err != nil || len(entries) != 1 {
		t.Errorf("beside the files: %v, %v", entries, err)
	}
}

func TestFillOwners(t *testing.T) {
	l, r := newVolume(t, nil)
	must(t, l.Fill(t.Context(), r, source(t), treecopy.Options{UID: func(id uint32) uint32 { return id + 100 }}, true))
	if out := testenv.Run(t, "stat", "-c", "%u %g", l.Path(r), filepath.Join(l.Path(r), "sub/file")); out != "105 6\n107 8\n" {
		t.Errorf("owners %q", out)
	}
}

// TestFillEmpty has nothing to copy but the directory's own attributes.
func TestFillEmpty(t *testing.T) {
	l, r := newVolume(t, nil)
	from := testenv.Dir(t)
	must(t, unix.Chmod(from, 0o1733))
	must(t, l.Fill(t.Context(), r, from, treecopy.Options{}, true))
	if out := testenv.Run(t, "stat", "-c", "%a", l.Path(r)); out != "1733\n" {
		t.Errorf("mode %q", out)
	}
}

// TestFillMount fills a volume that is on another filesystem, with what a crash has left there.
func TestFillMount(t *testing.T) {
	l, r := newVolume(t, map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=4m"})
	mounted, err := l.Mount(t.Context(), r, "a")
	if err != nil || !mounted {
		t.Fatal(mounted, err)
	}
	from := source(t)
	must(t, unix.Lremovexattr(filepath.Join(from, "sub/file"), "user.mini")) // tmpfs has none before Linux 6.6
	must(t, os.Mkdir(filepath.Join(l.dir(r), filledDir), 0o700))
	must(t, treecopy.Copy(t.Context(), from, filepath.Join(l.dir(r), filledDir), treecopy.Options{}))
	must(t, os.Mkdir(filepath.Join(l.Path(r), ".sub.minid"), 0o700))
	must(t, os.WriteFile(filepath.Join(l.Path(r), ".sub.minid/half"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(l.Path(r), "link"), []byte("own"), 0o600))
	must(t, l.Fill(t.Context(), r, from, treecopy.Options{}, true))
	if out := testenv.Run(t, "sh", "-c", "cd "+l.Path(r)+"; stat -c '%a %u %g' . sub/file; cat link; ls -A"); out != "1777 5 6\n640 7 8\nownhard\nlink\npipe\nsub\n" {
		t.Errorf("%s", out)
	}
	if _, err := l.Unmount(r, "a"); err != nil {
		t.Fatal(err)
	}
}

// TestKilledWhileFilling kills a program at each step of a copy; who fills the volume next, or looks after it, ends it.
func TestKilledWhileFilling(t *testing.T) {
	if dir := os.Getenv("VOLUME_CRASH_DIR"); dir != "" {
		l := NewLocal(filepath.Join(dir, "volumes"))
		must(t, l.Fill(t.Context(), Record{Namespace: "default", Name: "data"}, filepath.Join(dir, "from"), treecopy.Options{}, true))
		return
	}
	for _, c := range []struct {
		point string
		whole bool // after Settle alone
	}{{"volume-copied=kill", false}, {"volume-filled=kill", true}, {"volume-moving=kill", true}, {"volume-moving=2*kill", true}} {
		t.Run(c.point, func(t *testing.T) {
			l, r := newVolume(t, nil)
			from := source(t)
			dir := filepath.Dir(l.root)
			must(t, os.Rename(from, filepath.Join(dir, "from")))
			child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledWhileFilling$")
			child.Env = append(os.Environ(), "VOLUME_CRASH_DIR="+dir, failpoint.Env+"="+c.point)
			if out, err := child.CombinedOutput(); child.ProcessState.Exited() {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			must(t, l.Settle(t.Context(), r))
			if c.whole {
				arrived(t, l.Path(r))
			} else if empty, err := isEmpty(l.Path(r)); err != nil || !empty {
				t.Errorf("half a copy is in the volume: %v", err)
			}
			must(t, l.Fill(t.Context(), r, filepath.Join(dir, "from"), treecopy.Options{}, true))
			arrived(t, l.Path(r))
			if entries, err := os.ReadDir(l.dir(r)); err != nil || len(entries) != 1 {
				t.Errorf("beside the files: %v, %v", entries, err)
			}
		})
	}
}

func TestMount(t *testing.T) {
	l, r := newVolume(t, map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
	for i, user := range []string{"a", "b", "a"} {
		if mounted, err := l.Mount(t.Context(), r, user); err != nil || mounted != (i == 0) {
			t.Fatal(user, mounted, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(l.Path(r), "shared"), nil, 0o600))
	if err := l.Remove(r); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removed while it is mounted: %v", err)
	}
	for i, user := range []string{"c", "a", "b", "b"} {
		if unmounted, err := l.Unmount(r, user); err != nil || unmounted != (i == 2) {
			t.Fatal(user, unmounted, err)
		}
	}
	if is, err := mount.Mounted(l.Path(r)); err != nil || is {
		t.Errorf("mounted: %t, %v", is, err)
	}
	bad := r
	bad.Options = map[string]string{"type": "nosuchfilesystem", "device": "x"}
	if _, err := l.Mount(t.Context(), bad, "a"); err == nil || l.InUse(r) || !strings.Contains(err.Error(), "error while mounting volume") {
		t.Errorf("a mount that cannot be: %v", err)
	}
}

// TestRemoveSparesMounts wants what is mounted on a volume to survive it.
func TestRemoveSparesMounts(t *testing.T) {
	there := testenv.Dir(t)
	must(t, os.WriteFile(filepath.Join(there, "precious"), nil, 0o600))
	l, r := newVolume(t, map[string]string{"type": "none", "device": there, "o": "bind"})
	_, err := l.Mount(t.Context(), r, "a")
	must(t, err)
	next := NewLocal(l.root) // the next daemon does not know who has it mounted
	must(t, next.Remove(r))
	if _, err := os.Stat(filepath.Join(there, "precious")); err != nil {
		t.Fatal(err)
	}
	must(t, l.Make(r))
	must(t, os.Mkdir(filepath.Join(l.dir(r), "odd"), 0o700))
	must(t, mount.All([]mount.Mount{{Type: "bind", Source: there, Options: []string{"rbind"}}}, filepath.Join(l.dir(r), "odd")))
	if err := next.Remove(r); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removed with a foreign mount in it: %v", err)
	}
	must(t, mount.Unmount(filepath.Join(l.dir(r), "odd")))
	if _, err := os.Stat(filepath.Join(there, "precious")); err != nil {
		t.Fatal(err)
	}
	_, err = l.Unmount(r, "a")
	must(t, err)
}

// TestBindBelow follows links as who has the volume as its root, and never out of it.
func TestBindBelow(t *testing.T) {
	l, r := newVolume(t, nil)
	dir := l.Path(r)
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/file"), []byte("inside"), 0o644))
	must(t, os.Symlink("/a/file", filepath.Join(dir, "absolute")))
	must(t, os.Symlink("../../../../../../etc", filepath.Join(dir, "out")))
	for sub, want := range map[string]string{
		"a/file": "inside", "absolute": "inside", "a/b": "", "out": "no such file", "out/passwd": "no such file", "none": "make it first",
		"../x": "without ..", "/a": "relative path", "a/../a": "without ..",
	} {
		target := filepath.Join(testenv.Dir(t), "volumes/0")
		for range 2 { // again, over what is there
			err := BindBelow(dir, sub, target)
			if err == nil {
				if data, _ := os.ReadFile(target); string(data) != want {
					t.Errorf("%s: %q", sub, data)
				}
			} else if want == "" || want == "inside" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", sub, err, want)
			}
			must(t, mount.Unmount(target))
		}
	}
}

func TestUnowned(t *testing.T) {
	l, r := newVolume(t, nil)
	for want, known := range map[int]func(string, string) bool{
		1: func(string, string) bool { return false },
		0: func(ns, name string) bool { return ns == r.Namespace && name == r.Name },
	} {
		if found, err := l.Unowned(known); err != nil || len(found) != want {
			t.Errorf("%v, %v", found, err)
		}
	}
	if found, err := NewLocal("/none").Unowned(nil); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}
