package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// mounted is a directory that is unmounted when the test ends.
func mounted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// layers makes n directories whose paths are about length bytes long, with a file each, the first on top.
func layers(t *testing.T, n, length int) []string {
	t.Helper()
	base := t.TempDir()
	var dirs []string
	for i := range n {
		dir := base
		for len(dir) < length {
			dir = filepath.Join(dir, fmt.Sprintf("%03d-", i)+strings.Repeat("x", min(200, length-len(dir))))
		}
		dir = filepath.Join(dir, fmt.Sprint(i))
		write(t, filepath.Join(dir, fmt.Sprintf("file%d", i)), fmt.Sprint(i))
		write(t, filepath.Join(dir, "top"), fmt.Sprint(i))
		dirs = append(dirs, dir)
	}
	return dirs
}

func overlayOf(t *testing.T, lower []string) Mount {
	rw := t.TempDir()
	for _, name := range []string{"fs", "work"} {
		if err := os.Mkdir(filepath.Join(rw, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Mount{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + LowerDirs(lower), "upperdir=" + rw + "/fs", "workdir=" + rw + "/work", "index=off"}}
}

func TestOverlayBeyondThePage(t *testing.T) {
	needRoot(t)
	for _, length := range []int{0, 230, 700} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			lower := layers(t, 120, length)
			root := mounted(t)
			if err := All([]Mount{overlayOf(t, lower)}, root); err != nil {
				t.Fatal(err)
			}
			if got := read(t, root+"/top"); got != "0" {
				t.Errorf("top is of layer %s", got)
			}
			for i := range lower {
				read(t, fmt.Sprintf("%s/file%d", root, i))
			}
			write(t, root+"/new", "x")
		})
	}
}

func TestLegacyOverlay(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	lower := layers(t, 60, 0)
	p, err := parse(overlayOf(t, lower))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := openTarget(root, "")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := legacy(p, fd); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root+"/file59"); got != "59" {
		t.Errorf("file59 is %s", got)
	}
	p, err = parse(overlayOf(t, layers(t, 60, 100)))
	if err != nil {
		t.Fatal(err)
	}
	if err := legacy(p, fd); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("beyond the page: %v", err)
	}
}

func TestBindReadOnlyAndTarget(t *testing.T) {
	needRoot(t)
	source, root := t.TempDir(), mounted(t)
	write(t, source+"/f", "s")
	if err := os.Mkdir(root+"/real", 0o755); err != nil {
		t.Fatal(err)
	}
	// An absolute link is resolved inside the root.
	if err := os.Symlink("/real", root+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := All([]Mount{{Type: "bind", Source: source, Target: "/link", Options: []string{"rbind", "ro", "nosuid", "rprivate"}}}, root); err != nil {
		t.Fatal(err)
	}
	if read(t, root+"/real/f") != "s" {
		t.Error("not the source")
	}
	if err := os.WriteFile(root+"/real/g", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
	if ok, err := Mounted(root + "/real"); !ok || err != nil {
		t.Errorf("Mounted = %v, %v", ok, err)
	}
	if err := All([]Mount{{Type: "bind", Source: source, Target: "real", Options: []string{"remount", "bind", "rw"}}}, root); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/real/g", "now")
}

func TestLegacyBind(t *testing.T) {
	needRoot(t)
	source, root := t.TempDir(), mounted(t)
	p, err := parse(Mount{Type: "bind", Source: source, Options: []string{"rbind", "ro", "private"}})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := openTarget(root, "")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := legacy(p, fd); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/g", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
}

func TestAllRollsBack(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	if err := All([]Mount{{Type: "tmpfs", Source: "before"}}, root); err != nil {
		t.Fatal(err)
	}
	err := All([]Mount{{Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}}, {Type: "bind", Source: "/does/not/exist"}}, root)
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("error %v, want ErrNotFound", err)
	}
	if below, err := Below(root); err != nil || len(below) != 1 {
		t.Errorf("mounts left: %v, %v", below, err)
	}
}

func TestKernelsWords(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	for _, test := range []struct {
		m    Mount
		want string
	}{
		{Mount{Type: "tmpfs", Source: "x", Options: []string{"nonsense=1"}}, "nonsense"},
		{Mount{Type: "nosuchfs", Source: "x"}, "nosuchfs"},
		{Mount{Type: "overlay", Source: "x", Options: []string{"lowerdir=/no/such/dir:/tmp"}}, "/no/such/dir"},
	} {
		if err := All([]Mount{test.m}, root); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v", test.m, err)
		}
	}
}

func TestUnmount(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	if err := Unmount(root); err != nil {
		t.Errorf("not mounted: %v", err)
	}
	if err := Unmount(root + "/absent/deeper"); err != nil {
		t.Errorf("not there: %v", err)
	}
	tmpfs := Mount{Type: "tmpfs", Source: "t"}
	must := func(target string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := All([]Mount{tmpfs}, filepath.Join(root, target)); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"a", "a/b", "a/b/c", "a b", "", "d", "d"} {
		must(target)
	}
	busy, err := os.Create(root + "/d/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	// The mounts a and below are in what was under root before.
	if below, err := Below(root); err != nil || len(below) != 0 {
		t.Errorf("left: %q, %v", below, err)
	}
	link := t.TempDir() + "/link"
	must("e")
	if err := os.Symlink(root+"/e", link); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(link); err != nil {
		t.Error(err)
	}
	if ok, _ := Mounted(root + "/e"); !ok {
		t.Error("Unmount followed a symbolic link")
	}
}

func TestTreeIsNowhere(t *testing.T) {
	needRoot(t)
	tree, err := Tree(Mount{Type: "tmpfs", Source: "detached"})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	write(t, procFD(int(tree.Fd()))+"/sub/f", "x")
	if table := read(t, "/proc/self/mountinfo"); strings.Contains(table, "detached") {
		t.Error("it is in the mount table")
	}
}

func TestIDMapped(t *testing.T) {
	needRoot(t)
	maps := []IDMap{{0, 100000, 1000}, {1000, 300000, 64536}}
	lower := layers(t, 3, 0)
	if err := os.Chown(lower[2]+"/file2", 1001, 5); err != nil {
		t.Fatal(err)
	}
	owner := func(path string) (uint32, uint32) {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Uid, stat.Gid
	}
	check := func(root string) {
		t.Helper()
		if uid, gid := owner(root + "/file2"); uid != 300001 || gid != 100005 {
			t.Errorf("file2 belongs to %d:%d", uid, gid)
		}
		if uid, _ := owner(root + "/top"); uid != 100000 {
			t.Errorf("top belongs to %d", uid)
		}
	}
	m := overlayOf(t, lower)
	m.Options = append(m.Options, IDMapOptions(maps, maps)...)
	t.Run("overlay", func(t *testing.T) {
		root := mounted(t)
		if err := All([]Mount{m}, root); err != nil {
			t.Fatal(err)
		}
		check(root)
		write(t, root+"/file2", "copied up")
		check(root)
	})
	t.Run("overlay before 6.15", func(t *testing.T) {
		p, err := parse(overlayMappedOnly(t, lower, maps))
		if err != nil {
			t.Fatal(err)
		}
		ns, err := UserNamespace(maps, maps)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		clones, err := mapLayers(lower, ns)
		defer closeAll(clones)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := overlayAttached(p, splitOverlay(p.data), clones)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		check(procFD(fd))
	})
	t.Run("overlay before 6.5", func(t *testing.T) {
		root := mounted(t)
		p, err := parse(overlayMappedOnly(t, lower, maps))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := openTarget(root, "")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := legacy(p, fd); err != nil {
			t.Fatal(err)
		}
		check(root)
	})
	t.Run("bind", func(t *testing.T) {
		root := mounted(t)
		err := All([]Mount{{Type: "bind", Source: lower[2], Options: append([]string{"idmap"}, IDMapOptions(maps, maps)...)}}, root)
		if err != nil {
			t.Fatal(err)
		}
		check(root)
	})
}

func overlayMappedOnly(t *testing.T, lower []string, maps []IDMap) Mount {
	m := overlayOf(t, lower)
	m.Options = append(m.Options, IDMapOptions(maps, maps)...)
	return m
}

func TestTemp(t *testing.T) {
	needRoot(t)
	var where string
	failure := errors.New("mine")
	err := Temp(context.Background(), []Mount{{Type: "tmpfs", Source: "t"}}, func(root string) error {
		where = root
		write(t, root+"/a/b", "x")
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(where); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", where, err)
	}
}

func TestBelowUnescapes(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	dir := root + "/with space"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := All([]Mount{{Type: "tmpfs", Source: "t"}}, dir); err != nil {
		t.Fatal(err)
	}
	if below, err := Below(root); err != nil || !slices.Contains(below, dir) {
		t.Errorf("%q, %v", below, err)
	}
}

func BenchmarkOverlay(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	base, root := b.TempDir(), b.TempDir()
	var dirs []string
	for i := range 30 {
		dir := fmt.Sprintf("%s/%d", base, i)
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	m := Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + LowerDirs(dirs)}}
	for b.Loop() {
		if err := All([]Mount{m}, root); err != nil {
			b.Fatal(err)
		}
		if err := Unmount(root); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDetach(t *testing.T) {
	needRoot(t)
	root := mounted(t)
	if held, err := Detach(root + "/absent"); held != nil || err != nil {
		t.Errorf("not there: %v, %v", held, err)
	}
	for _, target := range []string{"a", "a", "a/below"} {
		at := filepath.Join(root, target)
		if err := errors.Join(os.MkdirAll(at, 0o755), All([]Mount{{Type: "tmpfs", Source: "t"}}, at)); err != nil {
			t.Fatal(err)
		}
	}
	held, err := Detach(root + "/a")
	if err != nil || held == nil {
		t.Fatalf("%v, %v", held, err)
	}
	if left, err := Below(root + "/a"); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %v, %v", left, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/below", held.Fd())); err != nil {
		t.Errorf("the filesystem ends before the close: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if held, err := Detach(root + "/a"); held != nil || err != nil {
		t.Errorf("not mounted: %v, %v", held, err)
	}
}
