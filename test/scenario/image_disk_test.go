package scenario_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// smallDisk is a root directory on a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return dir
}

func resize(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("small", dir, "tmpfs", unix.MS_REMOUNT, options); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull pulls and imports where there is no room: the message says so, nothing stays, and with room it works.
func TestDiskFull(t *testing.T) {
	testenv.Image(t, "redis")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	root := smallDisk(t, "20m")
	d := testenv.Daemon(t, testenv.DaemonOptions{Root: root})
	d.Minictr("images", "pull", "-q", r.Ref("busybox"))
	before := d.Minictr("content", "ls", "-q") + d.Minictr("snapshots", "ls", "-q")
	refused(t, d.Try("images", "pull", r.Ref("redis")), "redis", "space", root)
	if list := d.Minictr("images", "ls", "-q"); list != r.Ref("busybox")+"\n" {
		t.Errorf("images after a pull without room: %s", list)
	}
	d.Minictr("content", "prune")
	after := d.Minictr("content", "ls", "-q") + d.Minictr("snapshots", "ls", "-q")
	if after != before || d.Minictr("content", "active", "-q") != "" {
		t.Errorf("left after a pull without room:\n%s\nthere was:\n%s", after, before)
	}
	if out := d.Minictr("run", "--rm", r.Ref("busybox"), "still", "echo", "works"); out != "works\n" {
		t.Errorf("what was there before: %q", out)
	}
	d.Restart()
	resize(t, root, "size=80m")
	d.Minictr("images", "pull", r.Ref("redis"))
	whole(t, d, r.Ref("redis"))
	d.Minictr("check")
}

// TestReadOnlyRoot pulls when the disk has become read-only, as a broken one does.
func TestReadOnlyRoot(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	root := smallDisk(t, "80m")
	d := testenv.Daemon(t, testenv.DaemonOptions{Root: root})
	d.Minictr("images", "pull", "-q", r.Ref("gzip"))
	d.Stop()
	resize(t, root, "ro")
	d.Launch()
	if !d.WaitEnd(10e9) {
		t.Error("minid runs on a root directory that it cannot write to")
	}
	last := lines(d.Log())[len(lines(d.Log()))-1]
	if !strings.Contains(last, "read-only") || !strings.Contains(last, root) {
		t.Errorf("minid ended with: %s", last)
	}
	resize(t, root, "rw")
	d.Start()
	d.Minictr("images", "pull", "-q", r.Ref("busybox"))
}
