package scenario_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// TestFullDiskOfContainers fills the disk of the root directory under running containers: what needs room is refused,
// what runs goes on, removal works, and with room everything does.
func TestFullDiskOfContainers(t *testing.T) {
	root := smallDisk(t, "64m")
	d := testenv.Daemon(t, testenv.DaemonOptions{Root: root})
	d.Minictr("run", "-d", toolbox, "before", "sh", "-c", "echo logged; sleep 600")
	d.Minictr("containers", "create", toolbox, "made", "echo", "started")
	filler := filepath.Join(root, "filler")
	fill(t, filler)
	o := d.Try("run", "--rm", toolbox, "none", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=4 || exit 9")
	if o.Code == 0 {
		t.Error("a container wrote 4 MiB to a full disk")
	}
	if o.Code != 9 && !strings.Contains(o.Stderr, "space") {
		t.Errorf("a container on a full disk: code %d: %s", o.Code, o.Stderr)
	}
	archive := filepath.Join(testenv.Dir(t), "toolbox.tar")
	d.Minictr("images", "export", archive, toolbox)
	if out := d.Minictr("exec", "before", "echo", "alive"); out != "alive\n" {
		t.Errorf("exec: %q", out)
	}
	d.Restart()
	if c := inspect(t, d, "before"); c.State != "running" {
		t.Errorf("after a restart on a full disk it is %s", c.State)
	}
	d.Minictr("containers", "rm", "--force", "before")
	if err := unix.Unlink(filler); err != nil {
		t.Fatal(err)
	}
	if out := d.Minictr("tasks", "start", "made"); out != "started\n" {
		t.Errorf("with room: %q", out)
	}
	if out := d.Minictr("run", "--rm", toolbox, "after", "echo", "works"); out != "works\n" {
		t.Errorf("with room: %q", out)
	}
	d.Minictr("check")
}

// fill writes until there is no room, to the last block.
func fill(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for size := 1 << 20; size >= 512; {
		if _, err := unix.Write(fd, make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
