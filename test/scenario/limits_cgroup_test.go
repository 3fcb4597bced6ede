package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// limit is a limit as minictr takes it and as the kernel has it, on cgroup v1 and on v2.
type limit struct {
	flags              []string
	controller, v1     string // the file on v1
	v1Value            string
	v2, v2Value        string
	changed            []string // by an update
	v1Changed, v2Other string
}

var limits = []limit{
	{[]string{"--memory-limit", "64MiB"}, "memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864",
		[]string{"--memory-limit", "96MiB", "--memory-swap", "192MiB"}, "100663296", "100663296"},
	{[]string{"--memory-swap", "128MiB"}, "memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864", nil, "201326592", "100663296"},
	{[]string{"--cpus", "0.5"}, "cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000", []string{"--cpus", "0.25"}, "25000", "25000 100000"},
	{[]string{"--cpu-shares", "512"}, "cpu", "cpu.shares", "512", "cpu.weight", "59", []string{"--cpu-shares", "256"}, "256", "35"},
	{[]string{"--cpuset-cpus", "0"}, "cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0", nil, "0", "0"},
	{[]string{"--pids-limit", "50"}, "pids", "pids.max", "50", "pids.max", "50", []string{"--pids-limit", "60"}, "60", "60"},
}

// cgroupFile reads a file of a process's control group on this host.
func cgroupFile(t *testing.T, pid int, controller, v1, v2 string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	dir := ""
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, c := range strings.Split(f[1], ",") {
			if c == controller {
				dir = filepath.Join("/sys/fs/cgroup", f[1], f[2], v1)
			}
		}
		if f[1] == "" && dir == "" {
			dir = filepath.Join("/sys/fs/cgroup", f[2], v2)
		}
	}
	text, err := os.ReadFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestLimits finds the limits in the container's control group, changes them, and finds the others.
func TestLimits(t *testing.T) {
	testenv.Root(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	args := []string{"run", "-d"}
	update := []string{"tasks", "update"}
	for _, l := range limits {
		args, update = append(args, l.flags...), append(update, l.changed...)
	}
	d.Minictr(append(args, toolbox, "limited", "sleep", "600")...)
	pid := inspect(t, d, "limited").PID
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	unified := err == nil
	look := func(when string, want func(l limit) (v1, v2 string)) {
		t.Helper()
		for _, l := range limits {
			v1, v2 := want(l)
			if unified {
				v1 = v2
			}
			if got := cgroupFile(t, pid, l.controller, l.v1, l.v2); got != v1 {
				t.Errorf("%s: %q: the kernel has %s, want %s", when, l.flags, got, v1)
			}
		}
	}
	look("run", func(l limit) (string, string) { return l.v1Value, l.v2Value })
	d.Minictr(append(update, "limited")...)
	changed := func(l limit) (string, string) { return l.v1Changed, l.v2Other }
	look("update", changed)
	d.Restart()
	look("restart of the daemon", changed)
	d.Minictr("tasks", "kill", "-s", "KILL", "limited")
	waitExit(t, d, "limited")
	d.Minictr("tasks", "start", "-d", "limited")
	pid = inspect(t, d, "limited").PID
	look("restart of the container", changed)
	refused(t, d.Try("tasks", "update", "--cpuset-cpus", "4711", "limited"), "limited", "cpuset")
	refused(t, d.Try("tasks", "update", "limited"), "limit")
	look("an update that was refused", changed)
}

// TestLimitsBite has containers meet their limits.
func TestLimitsBite(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	d.Minictr("run", "-d", "--pids-limit", "12", toolbox, "few", "sleep", "600")
	o := d.Try("exec", "few", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait")
	if !strings.Contains(o.Stderr, "unavailable") && !strings.Contains(o.Stderr, "new OS thread") {
		t.Errorf("there is no end of processes with a limit of 12 threads: %s %s", o.Stdout, o.Stderr)
	}
	used := decode[map[string]any](t, d.Minictr("tasks", "metrics", "--format", "json", "few"))
	if len(used) < 4 {
		t.Errorf("tasks metrics: %v", used)
	}
	o = d.Try("run", "--rm", "--rootfs", "--memory-limit", "32MiB", "--memory-swap", "32MiB", rootfs, "fits", "/probe", "eat", "16")
	if o.Code != 0 || o.Stdout != "ate 16\n" {
		t.Errorf("half of its memory: code %d: %s %s", o.Code, o.Stdout, o.Stderr)
	}
}

// TestOutOfMemory has the kernel kill a container, and tells it from any other kill.
func TestOutOfMemory(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	eat := []string{"--rootfs", "--memory-limit", "32MiB", "--memory-swap", "32MiB", rootfs}
	events := begin(t, d, "events", "action==oom")
	o := d.Try(append(append([]string{"run"}, eat...), "eats", "/probe", "eat", "200")...)
	if o.Code != 137 || o.Stdout != "" {
		t.Errorf("code %d, wrote %q: %s", o.Code, o.Stdout, o.Stderr)
	}
	c := inspect(t, d, "eats")
	if c.State != "exited" || c.Exit.Code != 137 || !c.Exit.OOM || c.Exit.Reason != "oom" {
		t.Errorf("the container's end is told as %+v", c.Exit)
	}
	testenv.Eventually(t, 5*time.Second, "an event tells of it", func() bool { return strings.Contains(events.said(), "oom eats") })
	if err := events.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = events.Wait() // killed

	// One that lives on while another process of it is killed.
	d.Minictr(append(append([]string{"run", "-d"}, eat...), "lives", "/probe", "sleep")...)
	if o := d.Try("exec", "lives", "/probe", "eat", "200"); o.Code != 137 {
		t.Errorf("exec: code %d: %s", o.Code, o.Stderr)
	}
	if c := inspect(t, d, "lives"); c.State != "running" {
		t.Errorf("the container is %s: %+v", c.State, c.Exit)
	}
	past := d.Try("--timeout", "500ms", "events", "--since", "1m", "action==oom", "id==lives")
	if !strings.Contains(past.Stdout, "oom lives") {
		t.Errorf("events of a process killed in a container that lives on: %q", past.Stdout)
	}
	d.Minictr("tasks", "kill", "-s", "KILL", "lives")
	if waitExit(t, d, "lives"); inspect(t, d, "lives").Exit.Code != 137 {
		t.Error("killed with another code than 137")
	}
}
