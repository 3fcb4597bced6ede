package supervisor

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// signal sends a signal to a process, or to all of its container.
func (s *Supervisor) signal(req wire.Signal) error {
	if req.All {
		c, err := s.find(req.Process)
		if err != nil {
			return err
		}
		return s.signalAll(c, unix.Signal(req.Signal))
	}
	c, p, err := s.running(req.Process)
	if err != nil {
		return err
	}
	if err := p.signal(unix.Signal(req.Signal)); err != nil {
		return err
	}
	if req.Signal == int(unix.SIGKILL) {
		s.letDie(c)
	}
	return nil
}

// signal goes through the pidfd, which never means another process.
func (p *process) signal(sig unix.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if sig == unix.SIGKILL && inner == nil {
		p.killed.Store(true)
	}
	if errors.Is(inner, unix.ESRCH) {
		inner = nil // it has just ended, and its exit is on its way
	}
	if err := errors.Join(err, inner); err != nil {
		return fmt.Errorf("%s: signal %d: %w", name(p.key), sig, err)
	}
	return nil
}

// letDie lets a paused container die: on cgroup v1 a frozen process takes no signal.
func (s *Supervisor) letDie(c *container) {
	if paused, err := c.rt.paused(); err == nil && paused {
		if err := c.rt.resume(); err != nil {
			s.Log.Warn("thaw a container that was killed", "container", c.key.ID, "error", err)
		}
	}
}

// signalAll signals every process in the container's cgroup.
func (s *Supervisor) signalAll(c *container, sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return s.killAll(c)
	}
	pids, err := c.rt.processes()
	if err != nil {
		return fmt.Errorf("%s: its processes: %w", name(c.key), err)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("%s: signal %d to process %d: %w", name(c.key), sig, pid, err)
		}
	}
	return nil
}

// killAll kills every process in the container's cgroup, also those that appear meanwhile. With a PID namespace the
// first process takes all others with it.
func (s *Supervisor) killAll(c *container) error {
	if p := c.first(); p != nil && c.rt.killsAll() {
		if p.ended() != nil {
			return nil
		}
		if err := p.signal(unix.SIGKILL); err != nil {
			return err
		}
		s.letDie(c)
		return nil
	}
	for deadline := time.Now().Add(killPatience); ; {
		pids, err := c.rt.processes()
		if err != nil {
			return fmt.Errorf("%s: its processes: %w", name(c.key), err)
		}
		killed := 0
		for _, pid := range pids {
			if st, err := readStat(pid); err != nil || st.state == 'Z' {
				continue
			}
			if err := unix.Kill(pid, unix.SIGKILL); err == nil {
				killed++
			}
		}
		s.letDie(c)
		if killed == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %d processes do not die of SIGKILL: see what they wait for in /proc/PID/stack", name(c.key), killed)
		}
		time.Sleep(killPause)
	}
}

const (
	killPatience = 10 * time.Second
	killPause    = 2 * time.Millisecond
)

func (s *Supervisor) pause(key wire.Process) error {
	c, _, err := s.running(containerKey(key))
	if err != nil {
		return err
	}
	return c.rt.pause()
}

func (s *Supervisor) resume(key wire.Process) error {
	c, _, err := s.running(containerKey(key))
	if err != nil {
		return err
	}
	return c.rt.resume()
}
