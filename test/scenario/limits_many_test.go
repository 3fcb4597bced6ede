package scenario_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// many is how many containers run at once, and memoryEach by how much, in KiB, the daemon's and the supervisor's memory
// may grow for each.
const (
	many       = 200
	memoryEach = 307 // 0.3 MiB
)

// pss is a process's proportional share of memory in KiB.
func pss(t *testing.T, pid int) (kib int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no Pss of process %d:\n%s", pid, data)
	return 0
}

// atOnce does something for every number below many, eight at a time.
func atOnce(do func(i int)) {
	var all sync.WaitGroup
	numbers := make(chan int)
	for range 8 {
		all.Go(func() {
			for i := range numbers {
				do(i)
			}
		})
	}
	for i := range many {
		numbers <- i
	}
	close(numbers)
	all.Wait()
}

// TestManyContainers runs 200 containers at once, weighs the daemon and the supervisor, and removes all in parallel.
func TestManyContainers(t *testing.T) {
	testenv.Long(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "--rm", toolbox, "first", "true")
	weigh := func() (daemon, supervisor int) {
		for _, pid := range d.Supervisors() {
			supervisor += pss(t, pid)
		}
		return pss(t, d.PID()), supervisor
	}
	daemon, supervisor := weigh()
	table := fmt.Sprintf("%-24s %10s %10s\n%-24s %10d %10d\n", "PSS in KiB", "minid", "supervisor", "no containers", daemon, supervisor)
	try := func(args ...string) {
		if o := d.Try(args...); o.Code != 0 {
			t.Errorf("minictr %s: code %d: %s", strings.Join(args, " "), o.Code, o.Stderr)
		}
	}
	atOnce(func(i int) { try("run", "-d", toolbox, fmt.Sprintf("many-%03d", i), "sleep", "3600") })
	if listed := len(lines(d.Minictr("tasks", "ls", "-q"))); listed != many {
		t.Errorf("%d are listed, of %d", listed, many)
	}
	testenv.Eventually(t, 10*time.Second, "all have executed what they were asked to", func() bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(containers(t, d))), func(c container) bool {
			return c.State != "running" || status(t, c.PID, "Name") != "sleep"
		})
	})
	atOnce(func(i int) { try("exec", fmt.Sprintf("many-%03d", i), "true") })
	rest, restSupervisor := daemon, supervisor
	daemon, supervisor = weigh()
	table += fmt.Sprintf("%-24s %10d %10d\n%-24s %10.1f %10.1f", fmt.Sprintf("%d containers", many), daemon, supervisor,
		"growth for each", float64(daemon-rest)/many, float64(supervisor-restSupervisor)/many)
	t.Log("\n" + table)
	if each := (daemon + supervisor - rest - restSupervisor) / many; each > memoryEach {
		t.Errorf("%d KiB a container, want at most %d", each, memoryEach)
	}
	d.Restart()
	if c := containers(t, d); len(c) != many || c["many-199"].State != "running" {
		t.Errorf("after a restart of the daemon there are %d", len(c))
	}
	atOnce(func(i int) { try("containers", "rm", "--force", fmt.Sprintf("many-%03d", i)) })
	if left := containers(t, d); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	d.Minictr("check")
}
