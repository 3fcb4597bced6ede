package scenario_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// herd is 20 containers that write a line each millisecond, each with a code of its own to end with.
type herd struct {
	t    *testing.T
	d    *testenv.DaemonProcess
	pids map[string]int
	code map[string]int
}

const herdSize = 20

func newHerd(t *testing.T) *herd {
	t.Helper()
	h := &herd{t: t, d: testenv.Daemon(t, testenv.DaemonOptions{}), pids: map[string]int{}, code: map[string]int{}}
	rootfs := probeRootfs(t)
	for i := range herdSize {
		id := fmt.Sprintf("ticks-%02d", i)
		h.code[id] = 10 + i
		h.d.Minictr("run", "-d", "--rootfs", rootfs, id, "/probe", "ticks", itoa(h.code[id]))
	}
	for id, c := range containers(t, h.d) {
		h.pids[id] = c.PID
	}
	if len(h.pids) != herdSize {
		t.Fatalf("%d containers, want %d", len(h.pids), herdSize)
	}
	return h
}

// some are every fourth container, from which on.
func (h *herd) some(which int) (ids []string) {
	for i := which; i < herdSize; i += 4 {
		ids = append(ids, fmt.Sprintf("ticks-%02d", i))
	}
	return ids
}

// end asks containers to end by themselves, behind the daemon's back.
func (h *herd) end(ids []string) {
	h.t.Helper()
	for _, id := range ids {
		signalTo(h.t, h.pids[id], syscall.SIGUSR1)
	}
}

// gone waits until the processes have ended.
func (h *herd) gone(ids []string) {
	h.t.Helper()
	testenv.Eventually(h.t, 10*time.Second, "those that were asked to end have", func() bool {
		for _, id := range ids {
			if alive(h.pids[id]) {
				return false
			}
		}
		return true
	})
}

// alive says whether a process has not ended: it is there, and no zombie. It may end while it is asked.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(data), "\nState:\tZ")
}

// runs wants containers to run as the processes they were, to be of use, and to write on.
func (h *herd) runs(ids []string) {
	h.t.Helper()
	now := containers(h.t, h.d)
	var all sync.WaitGroup
	for _, id := range ids {
		if c := now[id]; c.State != "running" || c.PID != h.pids[id] {
			h.t.Errorf("%s is %s as process %d, it was %d", id, c.State, c.PID, h.pids[id])
			continue
		}
		all.Go(func() {
			if o := h.d.Try("exec", id, "/probe", "lines", "1"); o.Stdout != "0000000\n" {
				h.t.Errorf("exec in %s: code %d: %s", id, o.Code, o.Stderr)
			}
			last := h.d.Minictr("logs", "--tail", "1", id)
			testenv.Eventually(h.t, 10*time.Second, id+" writes on", func() bool { return h.d.Minictr("logs", "--tail", "1", id) != last })
		})
	}
	all.Wait()
}

// ended wants containers to have ended with their codes, or without if the code can be lost.
func (h *herd) ended(ids []string, mayBeLost bool) {
	h.t.Helper()
	for _, id := range ids {
		code := waitExit(h.t, h.d, id)
		c := inspect(h.t, h.d, id)
		lost := mayBeLost && code == 255 && strings.HasPrefix(c.Exit.Reason, "lost")
		if code != h.code[id] && !lost {
			h.t.Errorf("%s ended with %+v, want code %d", id, c.Exit, h.code[id])
		}
	}
}

// logged wants the logs of containers that have ended to be whole, but for at most so many bytes in one place. Where the
// last words of a container could be lost, they may be missing too.
func (h *herd) logged(ids []string, mayMiss int) {
	h.t.Helper()
	for _, id := range ids {
		numbers, end := numbered(h.t, h.d.Minictr("logs", id))
		lost, missing := gaps(numbers)
		if end < 0 {
			if mayMiss == 0 {
				h.t.Errorf("%s: its last line is missing, after %d lines", id, len(numbers))
			}
			continue
		}
		missing += end - 1 - numbers[len(numbers)-1]
		if missing*len("0000000\n") > mayMiss || len(lost) > 1 {
			h.t.Errorf("%s: of %d lines %d are missing: %v", id, end, missing, lost)
		}
	}
}

func (h *herd) killSupervisor() {
	h.t.Helper()
	pids := h.d.Supervisors()
	if len(pids) != 1 {
		h.t.Fatalf("supervisors: %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
	testenv.Eventually(h.t, 5*time.Second, "the supervisor is gone", func() bool {
		now := h.d.Supervisors()
		return len(now) == 0 || now[0] != pids[0]
	})
}

func (h *herd) all() (ids []string) {
	for which := range 4 {
		ids = append(ids, h.some(which)...)
	}
	return ids
}

// finish ends those that still run and removes all.
func (h *herd) finish(ids []string, mayMiss int) {
	h.t.Helper()
	h.end(ids)
	h.ended(ids, false)
	h.logged(ids, mayMiss)
	h.d.Minictr(append([]string{"containers", "rm"}, h.all()...)...)
	h.d.Minictr("check")
}

// readChunk in bytes is how much a supervisor can have read and not yet written: what a pipe holds.
const readChunk = 64 << 10

// TestKillDaemon kills minid: no container stops, no exit code and no line is lost.
func TestKillDaemon(t *testing.T) {
	h := newHerd(t)
	for round := range 2 {
		h.d.Kill9()
		h.end(h.some(round))
		h.gone(h.some(round))
		h.d.Start()
		h.ended(h.some(round), false)
		h.logged(h.some(round), 0)
	}
	left := append(h.some(2), h.some(3)...)
	h.runs(left)
	h.finish(left, 0)
}

// TestKillSupervisor kills the supervisor: no container stops, no exit code is lost, and of the log what was read and not
// yet written.
func TestKillSupervisor(t *testing.T) {
	h := newHerd(t)
	daemon := h.d.PID()
	h.killSupervisor()
	h.end(h.some(0)) // while another takes over, or just before, or just after
	h.ended(h.some(0), false)
	h.logged(h.some(0), readChunk)
	left := append(append(h.some(1), h.some(2)...), h.some(3)...)
	h.runs(left)
	if h.d.Ended() || h.d.PID() != daemon {
		t.Error("the daemon did not survive")
	}
	h.finish(left, readChunk)
}

// TestKillBoth kills the supervisor and minid: every container that goes on is found again. Of those that end while
// nobody is there, the kernel may no longer tell the code.
func TestKillBoth(t *testing.T) {
	h := newHerd(t)
	h.d.Kill9()
	h.killSupervisor()
	h.end(h.some(0))
	h.gone(h.some(0))
	h.d.Start()
	h.ended(h.some(0), true)
	h.logged(h.some(0), readChunk)
	left := append(append(h.some(1), h.some(2)...), h.some(3)...)
	h.runs(left)
	h.finish(left, readChunk)
}
