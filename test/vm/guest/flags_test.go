package guest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// nerd runs mininerd.
func nerd(t *testing.T, d *testenv.DaemonProcess, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Binary(t, "mininerd"), append([]string{"--address", d.Address}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("mininerd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestFlagsOfLimits asks docker's flags of the files of a unified hierarchy.
func TestFlagsOfLimits(t *testing.T) {
	d := start(t)
	for line, want := range map[string]map[string]string{
		"-m 64m --memory-reservation 32m --memory-swap 96m":                       {"memory.max": "67108864", "memory.low": "33554432", "memory.swap.max": "33554432"},
		"-m 64m --memory-swap -1":                                                 {"memory.max": "67108864", "memory.swap.max": "max"},
		"-m 64m":                                                                  {"memory.max": "67108864", "memory.swap.max": "67108864"},
		"--cpus 0.5 --cpu-shares 512":                                             {"cpu.max": "50000 100000", "cpu.weight": "59"},
		"--cpu-quota 20000 --cpu-period 50000":                                    {"cpu.max": "20000 50000"},
		"--pids-limit 20 --cpuset-cpus 1 --cpuset-mems 0":                         {"pids.max": "20", "cpuset.cpus": "1", "cpuset.mems": "0"},
		"--cgroup-conf memory.high=50331648 --cgroup-conf pids.max=33":            {"memory.high": "50331648", "pids.max": "33"},
		"--device-read-bps /dev/nvme0n1:1mb --device-write-iops /dev/nvme0n1:100": {"io.max": "259:0 rbps=1048576 wbps=max riops=max wiops=100"},
		"": {"memory.max": "max", "cpu.max": "max 100000", "pids.max": "max"},
	} {
		nerd(t, d, append(append([]string{"run", "-d", "--name=limited", "--network=none"}, strings.Fields(line)...), toolbox, "sleep", "600")...)
		holds(t, group(t, d, nerd(t, d, "inspect", "-f", "{{.Id}}", "limited")), want)
		nerd(t, d, "rm", "-f", "limited")
	}

	t.Log("update changes them, and stats reads them")
	nerd(t, d, "run", "-d", "--name=limited", "--network=none", "-m", "64m", toolbox, "sleep", "600")
	dir := group(t, d, nerd(t, d, "inspect", "-f", "{{.Id}}", "limited"))
	nerd(t, d, "update", "-m", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "7", "limited")
	holds(t, dir, map[string]string{"memory.max": "100663296", "memory.swap.max": "0", "cpu.max": "25000 100000", "pids.max": "7"})
	if out := nerd(t, d, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "limited"); !strings.HasPrefix(out, "limited ") || !strings.Contains(out, "/ 96MiB") {
		t.Errorf("stats: %s", out)
	}
	nerd(t, d, "pause", "limited")
	holds(t, dir, map[string]string{"cgroup.freeze": "1"})
	nerd(t, d, "unpause", "limited")
	nerd(t, d, "rm", "-f", "limited")

	t.Log("the container's own view, and a parent of its own")
	if out := nerd(t, d, "run", "--rm", "--network=none", "-m", "64m", toolbox, "cat", "/sys/fs/cgroup/memory.max", "/proc/self/cgroup"); out != "67108864\n0::/" {
		t.Errorf("a container with a cgroup namespace sees %q", out)
	}
	nerd(t, d, "run", "-d", "--name=below", "--network=none", "--cgroup-parent=/parents", "--cgroupns=host", toolbox, "sleep", "600")
	below := group(t, d, nerd(t, d, "inspect", "-f", "{{.Id}}", "below"))
	if !strings.HasPrefix(below, "/sys/fs/cgroup/parents/") {
		t.Errorf("with --cgroup-parent it is in %s", below)
	}
	if out := nerd(t, d, "exec", "below", "cat", "/proc/self/cgroup"); out != "0::"+strings.TrimPrefix(below, "/sys/fs/cgroup") {
		t.Errorf("with the host's cgroup namespace it sees %q", out)
	}
	nerd(t, d, "rm", "-f", "below")
	if err := os.Remove("/sys/fs/cgroup/parents"); err != nil && !os.IsNotExist(err) { // a parent stays its owner's
		t.Error(err)
	}
}
