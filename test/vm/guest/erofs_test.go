package guest

import (
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestVerifiedLayers has a container on layers that the kernel verifies, over the daemon's death.
func TestVerifiedLayers(t *testing.T) {
	testenv.Need(t, "mkfs.erofs", "dmsetup")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[snapshotters.verified]\ntype = \"erofs\"\nverity = true\n[snapshot]\ndefault = \"verified\"\n"})
	d.Minictr("run", "-d", toolbox, "kept", "sh", "-c", "echo kept > /file; sleep 600")
	d.Kill9()
	d.Start()
	if out := d.Minictr("exec", "kept", "sh", "-c", "until cat /file; do sleep 0.1; done; grep ' / ' /proc/mounts"); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, "overlay") {
		t.Errorf("its root: %q", out)
	}
	if out := testenv.Run(t, "dmsetup", "ls", "--target", "verity"); !strings.Contains(out, "minid-verity-") {
		t.Errorf("no device verifies its layers: %s", out)
	}
	d.Minictr("containers", "rm", "-f", "kept")
	d.Minictr("images", "rm", toolbox)
	d.Minictr("content", "prune")
	// A device ends with its last user, and the kernel takes the container's mounts down after its processes.
	testenv.Eventually(t, 20*time.Second, "no device is left", func() bool {
		return !strings.Contains(testenv.Run(t, "dmsetup", "ls", "--target", "verity"), "minid-verity-")
	})
}
