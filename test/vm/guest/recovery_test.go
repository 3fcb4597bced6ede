package guest

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

const counts = "trap 'exit 7' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done"

// ends stops a container that counts, which must exit as it does itself.
func ends(t *testing.T, d *testenv.DaemonProcess, id string) {
	t.Helper()
	d.Minictr("tasks", "kill", "-s", "TERM", id)
	if r := waitExit(t, d, id); r.Exit.Code != 7 {
		t.Errorf("%s: exit %+v, want 7", id, r.Exit)
	}
}

// grows waits for a new line of a container's log.
func grows(t *testing.T, d *testenv.DaemonProcess, id string) {
	t.Helper()
	before := d.Minictr("logs", id)
	testenv.Eventually(t, 20*time.Second, id+" writes on", func() bool { return len(d.Minictr("logs", id)) > len(before) })
}

func killSupervisors(t *testing.T, d *testenv.DaemonProcess) {
	t.Helper()
	old := d.Supervisors()
	if len(old) == 0 {
		t.Fatal("there is no supervisor")
	}
	for _, pid := range old {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, 20*time.Second, "the supervisors are gone", func() bool {
		return !slices.ContainsFunc(d.Supervisors(), func(pid int) bool { return slices.Contains(old, pid) })
	})
}

// TestKills: the daemon reaps for a supervisor that is dead, and a supervisor does not need the daemon.
func TestKills(t *testing.T) {
	d := start(t)
	count := func(id string) (dir string) {
		t.Helper()
		d.Minictr("run", "-d", "--memory-limit", "64MiB", toolbox, id, "sh", "-c", counts)
		return group(t, d, id)
	}
	used := func(id, dir string) {
		t.Helper()
		grows(t, d, id)
		if out := d.Minictr("exec", id, "cat", "/proc/self/cgroup"); out != "0::/\n" {
			t.Errorf("exec: %q", out)
		}
		d.Minictr("tasks", "pause", id)
		holds(t, dir, map[string]string{"cgroup.freeze": "1"})
		d.Minictr("tasks", "resume", id)
		d.Minictr("tasks", "update", "--pids-limit", "33", id)
		holds(t, dir, map[string]string{"pids.max": "33", "memory.max": "67108864"})
	}
	first := count("first")
	killSupervisors(t, d)
	used("first", first)
	ends(t, d, "first")

	second := count("second")
	d.Restart()
	used("second", second)
	ends(t, d, "second")
	if quick := d.Minictr("check", "--quick"); strings.Contains(quick, "second") {
		t.Errorf("check: %s", quick)
	}
}

// TestBothKilled: this kernel tells the exit of a process that is nobody's child here only as long as it is a zombie.
func TestBothKilled(t *testing.T) {
	d := start(t)
	d.Minictr("run", "-d", toolbox, "alone", "sh", "-c", counts)
	dir := group(t, d, "alone")
	d.Kill9()
	killSupervisors(t, d)
	d.Start()
	if r := inspect(t, d, "alone"); r.State != "running" {
		t.Fatalf("the container is %+v", r)
	}
	d.Minictr("exec", "alone", "true")
	holds(t, dir, map[string]string{"cgroup.freeze": "0"})
	d.Minictr("tasks", "kill", "-s", "KILL", "alone")
	if r := waitExit(t, d, "alone"); r.Exit.Code != 137 && (r.Exit.Code != 255 || r.Exit.Reason == "") {
		t.Errorf("exit %+v, want 137, or 255 and why", r.Exit)
	}
}
