package scenario_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// withSnapshotters is a daemon with all snapshotters that this machine can have, one that it cannot, and one that does not
// answer.
func withSnapshotters(t *testing.T) (*testenv.DaemonProcess, []string) {
	t.Helper()
	names := []string{"overlay", "native"}
	config := "[snapshotters.broken]\ntype = \"btrfs\"\nroot = \"/proc/self\"\n" +
		"[snapshotters.silent]\ntype = \"proxy\"\naddress = \"/nowhere/sock\"\n"
	if _, err := exec.LookPath("mkfs.erofs"); err == nil {
		config += "[snapshotters.erofs]\ntype = \"erofs\"\n"
		names = append(names, "erofs")
	} else {
		t.Log("without erofs: ", err)
	}
	if _, err := exec.LookPath("mkfs.btrfs"); err == nil {
		config += fmt.Sprintf("[snapshotters.pool]\ntype = \"btrfs\"\nroot = %q\n", filepath.Join(testenv.Btrfs(t), "pool"))
		names = append(names, "pool")
	} else {
		t.Log("without btrfs: ", err)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err == nil {
		config += "[snapshotters.disks]\ntype = \"blockfile\"\nsize = \"64MiB\"\n"
		names = append(names, "disks")
	} else {
		t.Log("without blockfile: ", err)
	}
	if crun, err := exec.LookPath("crun"); err == nil {
		config += fmt.Sprintf("[runtimes.crun]\npath = %q\nsnapshotter = \"native\"\n", crun)
	}
	return testenv.Daemon(t, testenv.DaemonOptions{Config: config}), names
}

// TestSnapshotters runs containers on each snapshotter, kills the daemon, and goes on.
func TestSnapshotters(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d, names := withSnapshotters(t)
	ref := r.Ref("busybox")
	d.Minictr("images", "pull", "-q", ref)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			d := d.In(t)
			// The image is unpacked for it on demand.
			if got := d.Minictr("run", "--snapshotter", name, ref, "on-"+name, "sh", "-c", "rm /bin/ls; echo text > /new; cat /new"); got != "text\n" {
				t.Errorf("it says %q", got)
			}
			layer := strings.Join(tarNames(t, gunzip(t, d.Minictr("snapshots", "--snapshotter", name, "diff", "on-"+name))), " ")
			if !strings.Contains(layer, "bin/.wh.ls") || !strings.Contains(layer, "new") || strings.Contains(layer, "etc/passwd") {
				t.Errorf("its layer: %s", layer)
			}
			if got := d.Minictr("run", "--rm", "--snapshotter", name, "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", ref, "userns-"+name,
				"sh", "-c", "stat -c %u /etc/passwd; echo > /new; stat -c %u /new"); got != "0\n0\n" {
				t.Errorf("in a user namespace: %q", got)
			}
		})
	}
	pluginsOf(t, d)
	refused(t, d.Try("run", "--rm", "--snapshotter", "broken", ref, "x", "true"), "broken")
	refused(t, d.Try("run", "--rm", "--snapshotter", "silent", ref, "x", "true"), "does not answer at /nowhere/sock")
	d.Kill9()
	// Another default from here on; the containers stay where they are.
	text, err := os.ReadFile(d.Config)
	if err == nil {
		err = os.WriteFile(d.Config, append(text, "\n[snapshot]\ndefault = \"native\"\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	for _, name := range names {
		d.Minictr("tasks", "start", "-d", "on-"+name)
		if code := waitExit(t, d, "on-"+name); code != 0 {
			t.Errorf("the container on %s ended with %d", name, code)
		}
	}
	d.Minictr("run", ref, "later", "true")
	if c := inspect(t, d, "later"); c.Snapshotter != "native" {
		t.Errorf("with another default it is on %s", c.Snapshotter)
	}
	d.Minictr("containers", "rm", "later")
	for _, name := range names {
		d.Minictr("containers", "rm", "on-"+name)
	}
	d.Minictr("images", "rm", "--sync", ref)
	for _, name := range names {
		if left := d.Minictr("snapshots", "--snapshotter", name, "ls", "-q"); left != "" {
			t.Errorf("left in %s: %s", name, left)
		}
	}
}

// pluginsOf looks at what the daemon says of its snapshotters.
func pluginsOf(t *testing.T, d *testenv.DaemonProcess) {
	t.Helper()
	status := map[string]string{}
	for _, p := range decode[[]struct {
		Type, ID, Error string
		Default         bool
	}](t, d.Minictr("plugins", "ls", "-o", "json")) {
		status[p.Type+" "+p.ID] = fmt.Sprint(p.Default, " ", p.Error)
	}
	if status["snapshotter overlay"] != "true " || status["snapshotter native"] != "false " || status["runtime "] != "true " ||
		!strings.Contains(status["snapshotter broken"], "not on btrfs") || !strings.Contains(status["snapshotter silent"], "does not answer") {
		t.Errorf("plugins: %v", status)
	}
}

// TestSnapshotterOfHandler: what a kubelet pulls and makes for a runtime handler is of that handler's snapshotter, and it is
// told of the filesystem of each.
func TestSnapshotterOfHandler(t *testing.T) {
	testenv.Need(t, "crun")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d, names := withSnapshotters(t)
	filesystems := 1
	if slices.Contains(names, "pool") {
		filesystems++ // the only one with a root of its own
	}
	c := testenv.DialCRI(t, d.Address)
	pull := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: r.Ref("busybox"), RuntimeHandler: "crun"}}
	if _, err := c.Images.PullImage(t.Context(), pull); err != nil {
		t.Fatal(err)
	}
	snapshots := func(name string) int {
		return len(strings.Fields(d.Minictr("-n", "k8s.io", "snapshots", "--snapshotter", name, "ls", "-q")))
	}
	if snapshots("native") == 0 || snapshots("overlay") != 0 {
		t.Errorf("layers: %d of native, %d of overlay", snapshots("native"), snapshots("overlay"))
	}
	info, err := c.Images.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(info.ImageFilesystems) != filesystems || info.ImageFilesystems[0].FsId.Mountpoint != d.Root {
		t.Errorf("filesystems of images: %v", info.ImageFilesystems)
	}
	d.Minictr("-n", "k8s.io", "images", "rm", "--sync", r.Ref("busybox"))
}
