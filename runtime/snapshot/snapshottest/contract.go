package snapshottest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

func testLayers(t *testing.T, b *bench) {
	b.layer(t, "one", "", "a=1", "b=1", "dir/x=1", "gone/y=1")
	b.layer(t, "two", "one", "b=2", "gone", "dir/z=2")
	b.layer(t, "three", "two", "gone/new=3", "a")
	for name, want := range map[string]string{
		"one":   "a=1 b=1 dir/ dir/x=1 gone/ gone/y=1",
		"two":   "a=1 b=2 dir/ dir/x=1 dir/z=2",
		"three": "b=2 dir/ dir/x=1 dir/z=2 gone/ gone/new=3",
		"":      "",
	} {
		if got := b.look(t, name); got != want {
			t.Errorf("%q: %s\nwant %s", name, got, want)
		}
	}
}

func testIsolation(t *testing.T, b *bench) {
	mounts, err := b.Prepare(b.ctx, key("base"), "", snapshot.Options{})
	must(t, err)
	with(t, mounts, func(root string) {
		edit(t, root, "f=base")
		must(t, os.Chmod(root, 0o711))
		must(t, os.Chown(root, 5, 6))
	})
	must(t, b.Commit(b.ctx, "test", "layer", "base", nil))
	b.write(t, "a", "layer", "f=a", "only-a=1")
	b.write(t, "b", "layer", "f")
	for name, want := range map[string]string{"a": "f=a only-a=1", "b": ""} {
		mounts, err := b.Mounts(b.ctx, key(name))
		must(t, err)
		with(t, mounts, func(root string) {
			if got := contents(t, root); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			info, err := os.Stat(root)
			must(t, err)
			stat := info.Sys().(*syscall.Stat_t)
			if stat.Mode&0o7777 != 0o711 || stat.Uid != 5 || stat.Gid != 6 {
				t.Errorf("%s: the root has mode %o and owner %d:%d", name, stat.Mode, stat.Uid, stat.Gid)
			}
		})
	}
	if got := b.look(t, "layer"); got != "f=base" {
		t.Errorf("the layer has changed: %s", got)
	}
}

func testErrors(t *testing.T, b *bench) {
	b.layer(t, "layer", "", "f=1")
	b.write(t, "active", "layer")
	_, err := b.View(b.ctx, key("view"), "layer", snapshot.Options{})
	must(t, err)
	prepare := func(name, parent string) error {
		_, err := b.Prepare(b.ctx, key(name), parent, snapshot.Options{})
		return err
	}
	wants(t, "taken", prepare("active", "layer"), errdefs.ErrAlreadyExists)
	wants(t, "taken by a layer", prepare("layer", ""), errdefs.ErrAlreadyExists)
	wants(t, "no parent", prepare("new", "absent"), errdefs.ErrNotFound)
	wants(t, "active parent", prepare("new", "active"), errdefs.ErrInvalidArgument)
	wants(t, "no name", prepare("", ""), errdefs.ErrInvalidArgument)
	wants(t, "commit a view", b.Commit(b.ctx, "test", "new", "view", nil), errdefs.ErrInvalidArgument)
	wants(t, "commit a layer", b.Commit(b.ctx, "test", "new", "layer", nil), errdefs.ErrInvalidArgument)
	wants(t, "commit to a name taken", b.Commit(b.ctx, "test", "layer", "active", nil), errdefs.ErrAlreadyExists)
	wants(t, "commit nothing", b.Commit(b.ctx, "test", "new", "absent", nil), errdefs.ErrNotFound)
	_, err = b.Mounts(b.ctx, key("layer"))
	wants(t, "mounts of a layer", err, errdefs.ErrInvalidArgument)
	_, err = b.Mounts(b.ctx, key("absent"))
	wants(t, "mounts of nothing", err, errdefs.ErrNotFound)
	_, err = b.Info(b.ctx, snapshot.Key{Namespace: "other", Name: "layer"})
	wants(t, "another namespace", err, errdefs.ErrNotFound)
	wants(t, "remove nothing", b.Remove(b.ctx, key("absent")), errdefs.ErrNotFound)
	// The failures have left nothing.
	if infos, err := b.List(b.ctx, ""); err != nil || len(infos) != 3 {
		t.Errorf("%v, %v", infos, err)
	}
	if freed, err := b.Cleanup(b.ctx); freed != 0 || err != nil {
		t.Errorf("cleanup freed %d, %v", freed, err)
	}
}

func testChildren(t *testing.T, b *bench) {
	b.layer(t, "one", "")
	b.layer(t, "two", "one")
	b.write(t, "active", "two")
	wants(t, "one", b.Remove(b.ctx, key("one")), errdefs.ErrFailedPrecondition)
	wants(t, "two", b.Remove(b.ctx, key("two")), errdefs.ErrFailedPrecondition)
	for _, name := range []string{"active", "two", "one"} {
		must(t, b.Remove(b.ctx, key(name)))
	}
	if left := b.dirs(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func testViews(t *testing.T, b *bench) {
	b.layer(t, "one", "", "f=1")
	b.layer(t, "two", "one", "g=2")
	for _, parent := range []string{"", "one", "two"} {
		mounts, err := b.View(b.ctx, key("view of "+parent), parent, snapshot.Options{})
		must(t, err)
		with(t, mounts, func(root string) {
			wants(t, "write to a view of "+parent, os.WriteFile(root+"/new", nil, 0o644), syscall.EROFS)
		})
		again, err := b.Mounts(b.ctx, key("view of "+parent))
		must(t, err)
		if fmt.Sprint(again) != fmt.Sprint(mounts) {
			t.Errorf("Mounts gives %v, View gave %v", again, mounts)
		}
	}
}

func testLabels(t *testing.T, b *bench) {
	_, err := b.Prepare(b.ctx, key("a"), "", snapshot.Options{Labels: map[string]string{"x": "1", "y": "2"}})
	must(t, err)
	for _, step := range []struct {
		set     map[string]string
		replace bool
		want    string
	}{
		{nil, false, "map[x:1 y:2]"},
		{map[string]string{"x": "", "z": "3"}, false, "map[y:2 z:3]"},
		{map[string]string{"n": "4"}, true, "map[n:4]"},
	} {
		_, err := b.SetLabels(b.ctx, key("a"), step.set, step.replace)
		must(t, err)
		info, err := b.Info(b.ctx, key("a"))
		must(t, err)
		if fmt.Sprint(info.Labels) != step.want {
			t.Errorf("labels %v, want %s", info.Labels, step.want)
		}
	}
	must(t, b.Commit(b.ctx, "test", "layer", "a", map[string]string{"c": "5"}))
	info, err := b.Info(b.ctx, key("layer"))
	must(t, err)
	if info.Kind != snapshot.Committed || fmt.Sprint(info.Labels) != "map[c:5]" || info.CreatedAt.IsZero() {
		t.Errorf("%+v", info)
	}
	_, err = b.SetLabels(b.ctx, key("absent"), nil, false)
	wants(t, "labels of nothing", err, errdefs.ErrNotFound)
}

func testUsage(t *testing.T, b *bench) {
	mounts, err := b.Prepare(b.ctx, key("a"), "", snapshot.Options{})
	must(t, err)
	with(t, mounts, func(root string) {
		edit(t, root, "big="+strings.Repeat("x", 1<<20))
		for i := range 5 {
			must(t, os.Link(root+"/big", fmt.Sprintf("%s/link%d", root, i)))
		}
	})
	for _, name := range []string{"a", "layer", "layer"} {
		if name == "layer" {
			_ = b.Commit(b.ctx, "test", "layer", "a", nil) // the second time there is nothing to commit
		}
		u, err := b.Usage(b.ctx, key(name))
		must(t, err)
		inodes := int64(2) // the file once, and the root
		if b.Filesystems > 0 {
			inodes = 1
		}
		if u.Size < 1<<20 || u.Size > 3<<19+b.Filesystems || u.Inodes != inodes {
			t.Errorf("usage of %s: %+v", name, u)
		}
	}
	_, err = b.View(b.ctx, key("v"), "layer", snapshot.Options{})
	must(t, err)
	if u, err := b.Usage(b.ctx, key("v")); u != (snapshot.Usage{}) || err != nil {
		t.Errorf("usage of a view: %+v, %v", u, err)
	}
}

func testAdopt(t *testing.T, b *bench) {
	b.layer(t, "one", "", "f=1")
	b.layer(t, "two", "one", "g=2")
	before := len(b.dirs(t))
	for _, step := range []struct {
		ns, name string
		want     bool
	}{{"test", "two", true}, {"other", "absent", false}, {"other", "two", true}, {"other", "one", true}} {
		if got, err := b.Adopt(b.ctx, step.ns, step.name); got != step.want || err != nil {
			t.Errorf("adopt %s in %s: %v, %v", step.name, step.ns, got, err)
		}
	}
	if after := len(b.dirs(t)); after != before {
		t.Errorf("%d directories became %d", before, after)
	}
	// The first namespace lets go; the other goes on with the same files.
	must(t, b.Remove(b.ctx, key("two")))
	must(t, b.Remove(b.ctx, key("one")))
	mounts, err := b.Prepare(b.ctx, snapshot.Key{Namespace: "other", Name: "a"}, "two", snapshot.Options{})
	must(t, err)
	with(t, mounts, func(root string) {
		if got := contents(t, root); got != "f=1 g=2" {
			t.Error(got)
		}
	})
	for _, name := range []string{"a", "two", "one"} {
		must(t, b.Remove(b.ctx, snapshot.Key{Namespace: "other", Name: name}))
	}
	if left := b.dirs(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func testRestart(t *testing.T, b *bench) {
	b.layer(t, "layer", "", "f=1")
	b.write(t, "active", "layer", "g=2")
	must(t, b.Sync(b.ctx))
	b.reopen(t)
	mounts, err := b.Mounts(b.ctx, key("active"))
	must(t, err)
	with(t, mounts, func(root string) {
		if got := contents(t, root); got != "f=1 g=2" {
			t.Error(got)
		}
	})
	b.write(t, "new", "layer", "h=3")
	if got := b.look(t, "layer"); got != "f=1" {
		t.Error(got)
	}
}

// testCrash makes what a crash at each point would leave.
func testCrash(t *testing.T, b *bench) {
	if b.Held != nil {
		t.Skip("its snapshots are not directories")
	}
	b.layer(t, "layer", "", "f=1")
	for _, name := range []string{"announced", "half removed", "whole"} {
		b.write(t, name, "layer")
	}
	dir := func(name string) string {
		r, err := b.records.Get("test", name)
		must(t, err)
		return filepath.Join(b.root, "snapshots", fmt.Sprint(r.Dir))
	}
	must(t, os.Rename(dir("announced"), dir("announced")+".new"))
	must(t, os.Rename(dir("half removed"), dir("half removed")+".removing"))
	must(t, os.Mkdir(filepath.Join(b.root, "snapshots", "900"), 0o755)) // its record never reached the disk
	must(t, os.WriteFile(filepath.Join(b.root, "snapshots", "README"), nil, 0o644))
	b.reopen(t)
	infos, err := b.List(b.ctx, "")
	must(t, err)
	var names []string
	for _, i := range infos {
		names = append(names, i.Name)
	}
	if fmt.Sprint(names) != "[layer whole]" {
		t.Errorf("records %v", names)
	}
	if left := b.dirs(t); len(left) != 3 { // two snapshots, and a file that is nobody's
		t.Errorf("directories %v", left)
	}
	// A committed layer whose files are lost is not silently forgotten while others need it.
	must(t, os.RemoveAll(dir("layer")))
	_, err = b.Cleanup(b.ctx)
	wants(t, "lost layer", err, errdefs.ErrDataLoss)
}

func testIDMaps(t *testing.T, b *bench) {
	mounts, err := b.Prepare(b.ctx, key("base"), "", snapshot.Options{})
	must(t, err)
	with(t, mounts, func(root string) {
		edit(t, root, "f=1", "g=1")
		must(t, os.Chown(root+"/g", 33, 34))
	})
	must(t, b.Commit(b.ctx, "test", "one", "base", nil))
	b.layer(t, "two", "one", "h=1")
	maps := []snapshot.IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	for _, parent := range []string{"one", "two"} {
		mounts, err := b.Prepare(b.ctx, key("userns "+parent), parent, snapshot.Options{UIDMap: maps, GIDMap: maps})
		must(t, err)
		with(t, mounts, func(root string) {
			for path, want := range map[string]string{"": "100000:100000", "/f": "100000:100000", "/g": "100033:100034"} {
				info, err := os.Lstat(root + path)
				must(t, err)
				stat := info.Sys().(*syscall.Stat_t)
				if got := fmt.Sprintf("%d:%d", stat.Uid, stat.Gid); got != want {
					t.Errorf("%q belongs to %s, want %s", path, got, want)
				}
			}
			edit(t, root, "new=1")
			must(t, os.Chown(root+"/new", 100001, 100002))
		})
		wants(t, "commit of mapped files", b.Commit(b.ctx, "test", "x", "userns "+parent, nil), errdefs.ErrInvalidArgument)
		testMappedDiff(t, b, "userns "+parent)
	}
	if got := b.look(t, "two"); got != "f=1 g=1 h=1" {
		t.Error(got)
	}
	_, err = b.Prepare(b.ctx, key("half"), "one", snapshot.Options{UIDMap: maps})
	wants(t, "a map of uids alone", err, errdefs.ErrInvalidArgument)
}

// testMappedDiff: in the layer there are the container's ids, and nothing but what was changed.
func testMappedDiff(t *testing.T, b *bench, name string) {
	d, ok := b.Snapshotter.(snapshot.Differ)
	if !ok {
		return
	}
	var w bytes.Buffer
	must(t, d.Diff(b.ctx, key(name), &w))
	root := t.TempDir()
	_, err := layer.Apply(b.ctx, root, &w, layer.ApplyOptions{})
	must(t, err)
	if got := contents(t, root); got != "new=1" {
		t.Errorf("diff of %s: %s", name, got)
	}
	info, err := os.Lstat(root + "/new")
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 1 || stat.Gid != 2 {
		t.Errorf("owner in the diff: %d:%d", stat.Uid, stat.Gid)
	}
}

// testParallel has many making, committing and removing on one parent; in the end nothing may be left of them.
func testParallel(t *testing.T, b *bench) {
	b.layer(t, "layer", "", "f=1")
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 16 {
		wg.Go(func() {
			name := fmt.Sprint("a", i)
			_, err := b.Prepare(b.ctx, key(name), "layer", snapshot.Options{})
			if err == nil && i%2 == 0 {
				err = b.Commit(b.ctx, "test", "c"+name, name, nil)
				name = "c" + name
			}
			if _, cleanErr := b.Cleanup(b.ctx); err == nil {
				err = cleanErr
			}
			if err == nil {
				err = b.Remove(b.ctx, key(name))
			}
			errs <- err
		})
		// One name wanted by all: one gets it.
		wg.Go(func() {
			_, err := b.Prepare(b.ctx, key("same"), "layer", snapshot.Options{})
			if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if left := b.dirs(t); len(left) != 2 {
		t.Errorf("directories %v", left)
	}
}

func testDiff(t *testing.T, b *bench) {
	d, ok := b.Snapshotter.(snapshot.Differ)
	if !ok {
		t.Skip("no Differ")
	}
	b.layer(t, "one", "", "a=1", "dir/x=1", "gone/y=1")
	b.write(t, "active", "one", "a=2", "dir/x", "dir/z=1", "gone", "gone/", "new/f=1")
	var first, second, base bytes.Buffer
	must(t, d.Diff(b.ctx, key("active"), &first))
	must(t, d.Diff(b.ctx, key("active"), &second))
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two diffs of the same snapshot are different")
	}
	must(t, d.Diff(b.ctx, key("one"), &base))
	root := t.TempDir()
	for _, data := range []*bytes.Buffer{&base, &first} {
		_, err := layer.Apply(b.ctx, root, data, layer.ApplyOptions{})
		must(t, err)
	}
	if got := contents(t, root); got != "a=2 dir/ dir/z=1 gone/ new/ new/f=1" {
		t.Error(got)
	}
}

// testLayerStore puts the layers of an image in place from the top down.
func testLayerStore(t *testing.T, b *bench) {
	s, ok := b.Snapshotter.(snapshot.LayerStore)
	if !ok {
		t.Skip("no LayerStore")
	}
	layers := [][]string{{"a=1", "dir/x=1"}, {"a", "dir/y=2"}, {"b=3", "dir/x"}}
	data := make([]bytes.Buffer, len(layers))
	parent := ""
	for i, files := range layers {
		name := fmt.Sprint("source", i)
		b.write(t, name, parent, files...)
		must(t, b.Snapshotter.(snapshot.Differ).Diff(b.ctx, key(name), &data[i]))
		parent = fmt.Sprint("layer", i)
		must(t, b.Commit(b.ctx, "test", parent, name, nil))
	}
	for i := len(layers) - 1; i >= 0; i-- {
		dir, err := s.PrepareLayer(b.ctx, key(fmt.Sprint("apply", i)))
		must(t, err)
		_, err = layer.Apply(b.ctx, dir, &data[i], layer.ApplyOptions{Whiteouts: layer.Overlay, UserXattr: s.UserXattr()})
		must(t, err)
	}
	wants(t, "without its parent", s.CommitLayer(b.ctx, "test", "chain1", "chain0", key("apply1"), nil), errdefs.ErrNotFound)
	parent = ""
	for i := range layers {
		name := fmt.Sprint("chain", i)
		must(t, s.CommitLayer(b.ctx, "test", name, parent, key(fmt.Sprint("apply", i)), nil))
		if got, want := b.look(t, name), b.look(t, fmt.Sprint("layer", i)); got != want {
			t.Errorf("layer %d: %s, want %s", i, got, want)
		}
		parent = name
	}
}

// testSizes asks for filesystems that are larger than their parents'.
func testSizes(t *testing.T, b *bench) {
	if _, bounded := b.Snapshotter.(snapshot.Bounded); !bounded {
		return // its snapshots have no size
	}
	_, err := b.Prepare(b.ctx, snapshot.Key{Namespace: "n", Name: "base"}, "", snapshot.Options{})
	must(t, err)
	must(t, b.Commit(b.ctx, "n", "layer", "base", nil))
	const larger = 96 << 20
	mounts, err := b.Prepare(b.ctx, snapshot.Key{Namespace: "n", Name: "large"}, "layer", snapshot.Options{Size: larger})
	must(t, err)
	var st unix.Statfs_t
	must(t, mount.Temp(b.ctx, mounts, func(root string) error { return unix.Statfs(root, &st) }))
	if size := int64(st.Blocks) * st.Bsize; size < larger*3/4 || size > larger {
		t.Errorf("a filesystem of %d bytes was asked for, and has %d", larger, size)
	}
	if _, err := b.Prepare(b.ctx, snapshot.Key{Namespace: "n", Name: "small"}, "layer", snapshot.Options{Size: 1 << 20}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a filesystem smaller than its parent's: %v", err)
	}
	if _, err := b.Info(b.ctx, snapshot.Key{Namespace: "n", Name: "small"}); !errdefs.IsNotFound(err) {
		t.Errorf("what could not be made is there: %v", err)
	}
	must(t, b.Remove(b.ctx, snapshot.Key{Namespace: "n", Name: "large"}))
	must(t, b.Remove(b.ctx, snapshot.Key{Namespace: "n", Name: "layer"}))
}
