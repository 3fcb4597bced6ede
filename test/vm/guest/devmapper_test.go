package guest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestThinVolumes has containers on thin volumes of a pool, whose size bounds them, over the daemon's death.
func TestThinVolumes(t *testing.T) {
	pool := testenv.ThinPool(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[snapshotters.thin]\ntype = \"devmapper\"\npool = %q\nsize = \"64MiB\"\n[snapshot]\ndefault = \"thin\"\n", pool)})
	d.Minictr("run", "-d", toolbox, "kept", "sh", "-c", "echo kept > /file; sleep 600")
	if out := d.Minictr("exec", "kept", "sh", "-c", "until cat /file; do sleep 0.1; done; stat -f -c %T / 2>/dev/null; grep ' / ' /proc/mounts"); !strings.Contains(out, "kept\n") || !strings.Contains(out, "/dev/mapper/"+pool+"-snap-") || !strings.Contains(out, "ext4") {
		t.Errorf("its root: %q", out)
	}
	if o := d.Try("run", "--rm", toolbox, "full", "sh", "-c", "head -c 100000000 /dev/zero > /big"); o.Code == 0 || !strings.Contains(o.Stdout+o.Stderr, "no space left") {
		t.Errorf("more than its volume has: %+v", o)
	}
	d.Kill9()
	d.Start()
	d.Minictr("tasks", "kill", "-s", "KILL", "kept")
	waitExit(t, d, "kept")
	d.Minictr("tasks", "start", "-d", "kept")
	if out := d.Minictr("exec", "kept", "cat", "/file"); out != "kept\n" {
		t.Errorf("after a restart: %q", out)
	}
	d.Minictr("containers", "rm", "-f", "kept")
	if out := d.Minictr("snapshots", "ls"); strings.Contains(out, "kept") {
		t.Errorf("left: %s", out)
	}
}
