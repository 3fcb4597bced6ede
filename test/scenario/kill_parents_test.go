package scenario_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestParentsKilled kills minid, the supervisor, and both, while 20 containers write a line each millisecond.
//
//	killed          containers   exit codes   lines
//	minid           go on        all known    all there
//	the supervisor  go on        all known    of each log, at most what was read and not yet written is missing; none twice
//	both            found again  all known    as above, and what is written while nobody reads waits in the pipe
func TestParentsKilled(t *testing.T) {
	rootfs := probeRootfs(t)
	for _, c := range []struct {
		name              string
		minid, supervisor bool
		missing           int // lines of a log that may be missing: a pipe's 64 KiB of 8 bytes each
	}{
		{"minid", true, false, 0},
		{"supervisor", false, true, 8192},
		{"both", true, true, 8192},
	} {
		t.Run(c.name, func(t *testing.T) {
			const n = 20
			d := testenv.Daemon(t, testenv.DaemonOptions{})
			id := func(i int) string { return fmt.Sprintf("tick-%d", i) }
			pids := make([]int, n)
			for i := range n {
				d.Minictr("run", "-d", "--rootfs", rootfs, id(i), "/probe", "ticks", fmt.Sprint(i+1))
				pids[i] = inspect(t, d, id(i)).PID
			}
			killParents(t, d, c.minid, c.supervisor)
			for i := range n {
				if got := inspect(t, d, id(i)); got.State != "running" || got.PID != pids[i] {
					t.Errorf("%s is %s with pid %d, want running with %d", id(i), got.State, got.PID, pids[i])
				}
			}
			if out := d.Minictr("exec", id(0), "/probe", "lines", "1"); out != "0000000\n" {
				t.Errorf("exec after the kill: %q", out)
			}
			grows(t, d, id(n-1))
			for i := range n {
				if err := syscall.Kill(pids[i], syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
			}
			for i := range n {
				if code := waitExit(t, d, id(i)); code != i+1 {
					t.Errorf("%s: exit code %d, want %d", id(i), code, i+1)
				}
				numbers, end := numbered(t, d.Minictr("logs", id(i)))
				if _, missing := gaps(numbers); missing > c.missing || end < 0 {
					t.Errorf("%s: %d of %d lines are missing, at most %d may", id(i), missing, end, c.missing)
				}
			}
		})
	}
}

// killParents kills with SIGKILL and brings the daemon back; the supervisor comes back by itself.
func killParents(t *testing.T, d *testenv.DaemonProcess, minid, supervisor bool) {
	t.Helper()
	before := d.Supervisors()
	if len(before) != 1 {
		t.Fatalf("supervisors %v, want one", before)
	}
	if supervisor {
		if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if minid {
		d.Restart()
	}
	if supervisor {
		testenv.Eventually(t, 20*time.Second, "another supervisor", func() bool {
			now := d.Supervisors()
			return len(now) == 1 && now[0] != before[0]
		})
	}
}

// grows waits until a container's log has 100 lines more.
func grows(t *testing.T, d *testenv.DaemonProcess, id string) {
	t.Helper()
	had := len(lines(d.Minictr("logs", id)))
	testenv.Eventually(t, 20*time.Second, "the log of "+id+" grows", func() bool {
		return len(lines(d.Minictr("logs", id))) > had+100
	})
}
