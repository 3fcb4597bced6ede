package guest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

func TestBasics(t *testing.T) {
	d := start(t)
	var info struct {
		CgroupMode   string          `json:"cgroup_mode"`
		CgroupDriver string          `json:"cgroup_driver"`
		Features     map[string]bool `json:"features"`
	}
	out := d.Minictr("info")
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatal(err)
	}
	if info.CgroupMode != "v2" || info.CgroupDriver != "cgroupfs" {
		t.Errorf("cgroup mode %q, driver %q: %s", info.CgroupMode, info.CgroupDriver, out)
	}
	for _, f := range []string{"seccomp", "apparmor", "overlay", "swap_limit"} {
		if !info.Features[f] {
			t.Errorf("no feature %s: %s", f, out)
		}
	}
	if out := d.Minictr("run", "--rm", toolbox, "hello", "sh", "-c", "echo hello; cat /proc/self/cgroup"); out != "hello\n0::/\n" {
		t.Errorf("the first container says %q", out)
	}
	d.Minictr("run", "-d", toolbox, "web", "sh", "-c", "echo begun; sleep 600")
	testenv.Eventually(t, 10*time.Second, "a line is logged", func() bool { return d.Minictr("logs", "web") == "begun\n" })
	if o := d.Try("exec", "web", "sh", "-c", "cat /proc/self/cgroup; exit 9"); o.Code != 9 || o.Stdout != "0::/\n" {
		t.Errorf("exec: %+v", o)
	}
	d.Minictr("containers", "rm", "-f", "web")
	if left := d.Minictr("containers", "ls", "-q"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestLimits(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", "--memory-limit", "64MiB", "--memory-swap", "96MiB", "--cpus", "0.5", "--cpu-shares", "1024",
		"--pids-limit", "50", "--cpuset-cpus", "1", "--unified", "memory.high=50331648", toolbox, "limited", "sleep", "600")
	dir := group(t, d, "limited")
	holds(t, dir, map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.high": "50331648", "cpu.max": "50000 100000",
		"cpu.weight": "100", "pids.max": "50", "cpuset.cpus": "1", "cpuset.cpus.effective": "1",
	})
	if out := d.Minictr("exec", "limited", "cat", "/sys/fs/cgroup/memory.max"); out != "67108864\n" {
		t.Errorf("the container sees %q", out)
	}
	if o := d.Try("exec", "limited", "sh", "-c", "echo max > /sys/fs/cgroup/memory.max"); o.Code == 0 {
		t.Error("the container lifts its own limit")
	}

	d.Minictr("tasks", "update", "--memory-limit", "128MiB", "--memory-swap", "128MiB", "--cpus", "1.5", "--pids-limit", "20",
		"--cpuset-cpus", "0-1", "--unified", "memory.low=1048576", "limited")
	holds(t, dir, map[string]string{
		"memory.max": "134217728", "memory.swap.max": "0", "memory.high": "50331648", "memory.low": "1048576",
		"cpu.max": "150000 100000", "cpu.weight": "100", "pids.max": "20", "cpuset.cpus": "0-1",
	})
	d.Minictr("tasks", "update", "--pids-limit", "30", "limited")
	holds(t, dir, map[string]string{"memory.max": "134217728", "cpu.max": "150000 100000", "pids.max": "30", "cpuset.cpus": "0-1"})

	refused(t, d, []string{"no.such"}, "run", "--rm", "--unified", "no.such=1", toolbox, "wrong", "true")
	if left := strings.TrimSpace(d.Minictr("containers", "ls", "-q")); left != "limited" {
		t.Errorf("containers: %q", left)
	}
}

func TestOutOfMemory(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", "--memory-limit", "32MiB", "--mount", actor, toolbox, "oom", "/act", "eat", "128")
	if r := waitExit(t, d, "oom"); r.Exit.Code != 137 || !r.Exit.OOM {
		t.Errorf("exit %+v, want 137 for want of memory", r.Exit)
	}
	d.Minictr("run", "-d", "--memory-limit", "32MiB", "--mount", actor, toolbox, "lives", "sleep", "600")
	if o := d.Try("exec", "lives", "/act", "eat", "128"); o.Code != 137 {
		t.Errorf("exec: code %d, %s%s", o.Code, o.Stdout, o.Stderr)
	}
	if r := inspect(t, d, "lives"); r.State != "running" {
		t.Errorf("the container is %s after its exec was killed", r.State)
	}
	d.Minictr("tasks", "kill", "-s", "KILL", "lives")
	if r := waitExit(t, d, "lives"); r.Exit.Code != 137 {
		t.Errorf("exit %+v", r.Exit)
	}
}

func TestPause(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", toolbox, "ticks", "sh", "-c", "while true; do echo tick; sleep 0.1; done")
	dir := group(t, d, "ticks")
	d.Minictr("tasks", "pause", "ticks")
	holds(t, dir, map[string]string{"cgroup.freeze": "1"})
	if events := read(t, dir+"/cgroup.events"); !strings.Contains(events, "frozen 1") {
		t.Errorf("paused: %s", events)
	}
	if list := d.Minictr("tasks", "ls"); !strings.Contains(list, "PAUSED") {
		t.Errorf("tasks ls:\n%s", list)
	}
	refused(t, d, []string{"paused"}, "exec", "ticks", "true")
	d.Minictr("tasks", "resume", "ticks")
	if events := read(t, dir+"/cgroup.events"); !strings.Contains(events, "frozen 0") {
		t.Errorf("resumed: %s", events)
	}
	d.Minictr("exec", "ticks", "true")
	d.Minictr("tasks", "pause", "ticks")
	d.Minictr("containers", "rm", "-f", "ticks")
	if _, err := os.Stat(dir); err == nil {
		t.Error("the group of a container removed while paused is still there")
	}
}

func TestStatistics(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", "--memory-limit", "64MiB", "--pids-limit", "50", toolbox, "busy", "sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 600")
	var s struct {
		CPU    struct{ Usage uint64 }
		Memory struct{ Usage, WorkingSet, RSS, Limit, MaxUsage uint64 }
		Pids   struct{ Current, Limit uint64 }

		Pressure *struct {
			CPU struct{ Some struct{ Total *uint64 } }
		}
	}
	var out string
	testenv.Eventually(t, 10*time.Second, "statistics of a busy container", func() bool {
		out = d.Minictr("tasks", "metrics", "-o", "json", "busy")
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return s.CPU.Usage > 0 && s.Memory.RSS > 0
	})
	if s.Memory.Usage == 0 || s.Memory.WorkingSet == 0 || s.Memory.Limit != 64<<20 || s.Memory.MaxUsage < s.Memory.WorkingSet || s.Pids.Current == 0 || s.Pids.Limit != 50 {
		t.Errorf("statistics: %s", out)
	}
	if s.Pressure == nil || s.Pressure.CPU.Some.Total == nil {
		t.Errorf("no pressure: %s", out)
	}
}

// TestForcedDelete removes a container whose processes are the host's and breed faster than they are signalled one by one.
func TestForcedDelete(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", "--with-ns", "pid:host", "--pids-limit", "400", "--mount", actor, toolbox, "storm", "/act", "storm")
	dir := group(t, d, "storm")
	testenv.Eventually(t, 20*time.Second, "it breeds", func() bool { return strings.Contains(d.Minictr("logs", "storm"), "begun") })
	d.Minictr("containers", "rm", "-f", "storm")
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("the group is still there, with %q", read(t, dir+"/cgroup.procs"))
	}
}
