package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
)

// reboot takes away what a daemon that does not run has mounted, as a reboot does.
func reboot(t *testing.T, d *testenv.DaemonProcess) {
	t.Helper()
	points, err := mount.Below(d.State)
	check(t, err)
	for _, point := range slices.Backward(points) {
		check(t, unix.Unmount(point, unix.MNT_DETACH))
	}
}

// TestAdditionalStores: what one daemon has pulled is used by another one, from where it is, which nobody can write to.
func TestAdditionalStores(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	maker := testenv.Daemon(t, testenv.DaemonOptions{})
	m := newNerd(t, maker)
	image := r.Ref("busybox")
	m.do("pull", "-q", image)
	m.do("-n", "k8s.io", "pull", "-q", image)
	m.do("pull", "-q", r.Ref("redis"))

	media := testenv.Dir(t)
	show := func() {
		t.Helper()
		check(t, unix.Mount(maker.Root, media, "", unix.MS_BIND, ""))
		check(t, unix.Mount("", media, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	hide := func() { check(t, unix.Unmount(media, unix.MNT_DETACH)) }
	show()
	t.Cleanup(func() { _ = unix.Unmount(media, unix.MNT_DETACH) })
	user := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[image]\nadditional_stores = [%q]\n", media)})
	n := newNerd(t, user)
	if !strings.Contains(user.Log(), "another daemon uses it") {
		t.Error("a store that another daemon uses is not left out")
	}
	maker.Stop()
	user.Restart()

	if out := n.do("images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(out, "busybox") || !strings.Contains(out, "redis") {
		t.Errorf("images printed %q", out)
	}
	if out := n.do("run", "--rm", "--pull", "never", "--network", "none", image, "echo", "from there"); out != "from there\n" {
		t.Errorf("run printed %q", out)
	}
	n.do("pull", "-q", image)
	blobs, err := filepath.Glob(filepath.Join(user.Root, "content/blobs/sha256/*"))
	check(t, err)
	if len(blobs) > 0 {
		t.Errorf("%d blobs were copied", len(blobs))
	}
	n.do("run", "-d", "--name", "stays", "--network", "none", image, "sh", "-c", "echo begun > /file; sleep 600")
	if layers, err := filepath.Glob(filepath.Join(user.Root, "snapshots/overlay/snapshots/*")); err != nil || len(layers) != 1 {
		t.Errorf("directories of the daemon's own: %v, %v", layers, err)
	}
	archive := filepath.Join(testenv.Dir(t), "saved.tar")
	n.do("save", "-o", archive, r.Ref("redis"))
	n.do("tag", r.Ref("redis"), "mine:1")
	n.do("rmi", "mine:1")
	refused(t, n.try(nil, "rmi", r.Ref("redis")), "is in the additional store "+media, "only read")

	c := testenv.DialCRI(t, user.Address)
	images, err := c.Images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	check(t, err)
	if len(images.Images) != 1 || !images.Images[0].Pinned {
		t.Errorf("images of the CRI: %v", images.Images)
	}
	if out := user.Minictr("check"); strings.Contains(out, "missing") {
		t.Errorf("check: %s", out)
	}
	user.Minictr("content", "prune", "references")
	if out := n.do("run", "--rm", "--pull", "never", "--network", "none", image, "echo", "still there"); out != "still there\n" {
		t.Errorf("after a collection: %q", out)
	}

	t.Log("the media is taken out")
	n.do("stop", "-t", "0", "stays")
	user.Stop()
	hide()
	reboot(t, user)
	user.Start()
	if !strings.Contains(user.Log(), "an additional store is left out") {
		t.Error("nobody tells that the store is not there")
	}
	if out := n.do("ps", "-a", "--format", "{{.Names}}"); out != "stays\n" {
		t.Errorf("containers: %q", out)
	}
	refused(t, n.try(nil, "start", "stays"), "additional store that is not there")
	user.Stop()
	show()
	user.Start()
	n.do("start", "stays")
	if out := n.do("exec", "stays", "cat", "/file"); out != "begun\n" {
		t.Errorf("a container whose layers have come back: %q", out)
	}
	n.do("rm", "-f", "stays")
	if _, err := os.Stat(filepath.Join(maker.Root, "meta.db")); err != nil {
		t.Error(err)
	}
}
