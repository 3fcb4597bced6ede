package supervisor

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// wait waits for a process's end and makes it known: the streams are drained and the log flushed, then exit.json is on
// disk, then the daemon is told.
func (s *Supervisor) wait(c *container, p *process) {
	if !p.awaitEnd() {
		return
	}
	s.gate.enter()
	defer s.gate.leave()
	exit := s.reap(p)
	exit.PID, exit.Time = p.pid, time.Now()
	if kills := oomKills(c.cgroups); kills > p.oomBase && exit.Signal == int(unix.SIGKILL) {
		exit.OOM = true
		s.emit(wire.EventOOM, wire.OOM{Process: p.key, Count: kills})
	}
	if p.key.Exec == "" && !c.rt.killsAll() {
		s.killAll(c)
	}
	p.io.drain()
	if !p.fleeting() {
		if err := saveExit(p.dir, exit); err != nil {
			s.Log.Error("an exit cannot be written", "process", name(p.key), "error", err)
		}
	}
	p.mu.Lock()
	p.exit = &exit
	p.mu.Unlock()
	p.pidfd.Close()
	close(p.exited)
	s.emit(wire.EventExit, wire.Exited{Process: p.key, Exit: exit})
	if p.fleeting() {
		c.release(p)
	}
}

// awaitEnd waits in the runtime's poller until the process has exited: a pidfd is readable then (Linux 5.3). It returns
// false when the pidfd was closed.
func (p *process) awaitEnd() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool { return pidfdEnded(int(fd)) })
	return err == nil
}

// gone says whether the process has ended, whether or not that is written down.
func (p *process) gone() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return true
	}
	ended := true // closed: it is written down
	if err := raw.Control(func(fd uintptr) { ended = pidfdEnded(int(fd)) }); err != nil {
		return true
	}
	return ended
}

func pidfdEnded(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// reap learns how a process that has ended did so: as its parent from the kernel, otherwise from the daemon if that is
// the parent now, or from the pidfd once the parent has reaped it (Linux 6.15).
func (s *Supervisor) reap(p *process) wire.Exit {
	var status unix.WaitStatus
	if !p.adopted {
		if err := wait4(p.pid, &status); err == nil {
			return exitOf(status)
		}
	}
	deadline := time.Now().Add(lostAfter)
	for tick := time.Millisecond; time.Now().Before(deadline); tick = min(2*tick, 100*time.Millisecond) {
		status, err := pidfdStatus(p.pidfd)
		if err != nil {
			status, err = zombieStatus(p.pid, p.startTime, err)
		}
		if err == nil {
			return exitOf(status)
		}
		if !errors.Is(err, errNotReaped) && !p.daemonsChild {
			break // the kernel is too old to tell, and nobody else will
		}
		select {
		case reported := <-p.reported:
			return exitOf(unix.WaitStatus(reported))
		case <-time.After(tick):
		}
	}
	return lostExit()
}

// zombieStatus is the wait status of a process whose parent takes its time to reap it, as the first process of some
// machines does: it stands in its stat line (proc_pid_stat(5), field 52) for those who may trace it. cause is returned
// when it does not.
func zombieStatus(pid int, startTime uint64, cause error) (unix.WaitStatus, error) {
	st, err := readStat(pid)
	if err != nil || st.state != 'Z' || st.startTime != startTime {
		return 0, cause
	}
	return unix.WaitStatus(st.exit), nil
}

func lostExit() wire.Exit {
	return wire.Exit{Code: 255, Reason: "lost: it ended while no supervisor was its parent, and the kernel no longer tells how"}
}

// lostAfter is how long the parent of an adopted process may take to reap it.
const lostAfter = 5 * time.Second

func wait4(pid int, status *unix.WaitStatus) error {
	for {
		_, err := unix.Wait4(pid, status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// exitOf translates a wait status: 128 and the signal when one killed it, as shells do.
func exitOf(status unix.WaitStatus) wire.Exit {
	if status.Signaled() {
		return wire.Exit{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return wire.Exit{Code: status.ExitStatus()}
}

// reportExit takes the wait status of a process that the daemon reaped.
func (s *Supervisor) reportExit(r wire.ReportExit) error {
	_, p, err := s.process(r.Process)
	if err != nil {
		return err
	}
	if p.pid != r.PID {
		return fmt.Errorf("%s: is process %d, not %d", name(r.Process), p.pid, r.PID)
	}
	select {
	case p.reported <- r.Status:
	default: // reported before
	}
	return nil
}
