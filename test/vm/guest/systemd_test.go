package guest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestSystemd runs with systemd as the machine's first process and this test as one of its services.
func TestSystemd(t *testing.T) {
	d := start(t)
	if out := d.Minictr("info"); !strings.Contains(out, `"systemd"`) {
		t.Errorf("info: %s", out)
	}
	d.Minictr("run", "-d", "--memory-limit", "64MiB", "--cpus", "0.5", "--pids-limit", "50", toolbox, "scoped", "sh", "-c", counts)
	dir := group(t, d, "scoped")
	if !strings.Contains(dir, ".slice/") || !strings.HasSuffix(dir, "scoped.scope") {
		t.Errorf("the group is %s", dir)
	}
	limits := map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "50"}
	holds(t, dir, limits)
	if out := d.Minictr("exec", "scoped", "cat", "/proc/self/cgroup"); out != "0::/\n" {
		t.Errorf("exec: %q", out)
	}
	d.Minictr("tasks", "update", "--pids-limit", "40", "scoped")
	limits["pids.max"] = "40"
	holds(t, dir, limits)
	d.Minictr("tasks", "pause", "scoped")
	holds(t, dir, map[string]string{"cgroup.freeze": "1"})
	d.Minictr("tasks", "resume", "scoped")
	killSupervisors(t, d)
	grows(t, d, "scoped")
	ends(t, d, "scoped")
	d.Minictr("containers", "rm", "scoped")

	d.Minictr("run", "-d", toolbox, "forced", "sleep", "600")
	dir = group(t, d, "forced")
	d.Restart()
	d.Minictr("containers", "rm", "-f", "forced")
	testenv.Eventually(t, 5*time.Second, "the scope is gone", func() bool {
		_, err := os.Stat(dir)
		return err != nil
	})
	d.Minictr("run", "--rm", "--cgroup", "machine.slice", toolbox, "elsewhere", "true")
}
