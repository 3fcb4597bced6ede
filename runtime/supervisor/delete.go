package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// remove forgets a process that has exited; a container's cgroup and state go with its first process. A container that
// this supervisor does not know, but whose directory has something of one, is wiped: a start that was cut off.
func (s *Supervisor) remove(d wire.Delete) (wire.Exit, error) {
	c, p, err := s.process(d.Process)
	if errdefs.IsNotFound(err) {
		s.starts.settle(func(p wire.Process) bool { return p == d.Process })
		c, p, err = s.process(d.Process)
	}
	if errdefs.IsNotFound(err) && d.Dir != "" {
		return s.removeUnknown(d)
	}
	if err != nil {
		return wire.Exit{}, err
	}
	exit := p.ending()
	if exit == nil {
		return wire.Exit{}, fmt.Errorf("%s: runs as process %d: kill it first: %w", name(d.Process), p.pid, errdefs.ErrFailedPrecondition)
	}
	if d.Exec != "" {
		c.release(p)
		return *exit, nil
	}
	if err := s.wipe(c); err != nil {
		return wire.Exit{}, err
	}
	s.release(c)
	return *exit, nil
}

// ending is the exit of a process; one that was killed, or has ended and is being written down, is waited for.
func (p *process) ending() *wire.Exit {
	if p.killed.Load() || p.gone() {
		select {
		case <-p.exited:
		case <-time.After(killPatience):
		}
	}
	return p.ended()
}

// wipe ends what is left of a container and removes what the runtime made of it. What the runtime forgets, or cannot
// do, is done the long way.
func (s *Supervisor) wipe(c *container) error {
	if err := c.rt.destroy(); err != nil {
		s.Log.Debug("the runtime does not remove a container", "container", c.key.ID, "error", err)
	}
	if err := wipeLeft(c.key, c.start.Dir, c.cgroups); err != nil {
		return fmt.Errorf("%s: remove: %w", name(c.key), err)
	}
	return nil
}

// removeUnknown removes what a supervisor that is no more has left of a container in its directory.
func (s *Supervisor) removeUnknown(d wire.Delete) (wire.Exit, error) {
	exit, err := loadExit(d.Dir)
	if err != nil {
		exit = &wire.Exit{Code: 255, Time: time.Now(), Reason: "lost: it was not seen to end"}
	}
	rec, err := loadRecord(d.Dir)
	switch {
	case errdefs.IsNotFound(err) && d.Exec == "":
		rec = record{} // killed before the record: nothing was made
	case err != nil && !errdefs.IsNotFound(err):
		s.Log.Warn("a record cannot be read: what it names is left to the cgroup's removal", "dir", d.Dir, "error", err)
	}
	if d.Exec != "" {
		if rec.PID != 0 && alive(rec.PID, rec.StartTime) {
			return wire.Exit{}, fmt.Errorf("%s: runs as process %d: kill it first: %w", name(d.Process), rec.PID, errdefs.ErrFailedPrecondition)
		}
		return *exit, nil
	}
	if rec.Start != nil && rec.Start.Runtime != "" {
		if rt, err := s.newRunner(*rec.Start, true); err == nil {
			if err := rt.destroy(); err != nil {
				s.Log.Debug("delete with the runtime's binary", "container", d.ID, "error", err)
			}
		}
	}
	if rec.PID != 0 && alive(rec.PID, rec.StartTime) {
		if err := unix.Kill(rec.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return wire.Exit{}, fmt.Errorf("%s: kill process %d: %w", name(d.Process), rec.PID, err)
		}
	}
	if err := wipeLeft(d.Process, d.Dir, rec.Cgroups); err != nil {
		return wire.Exit{}, fmt.Errorf("%s: remove what is left: %w", name(d.Process), err)
	}
	return *exit, nil
}

// alive says whether a process with this number began at that time and is no zombie.
func alive(pid int, startTime uint64) bool {
	st, err := readStat(pid)
	return err == nil && st.startTime == startTime && st.state != 'Z'
}

// wipeLeft kills what lives in the cgroups, and removes them and the runtime's state. It needs nobody's cooperation.
func wipeLeft(key wire.Process, dir string, cgroups map[string]string) error {
	var errs []error
	for _, path := range cgroups {
		errs = append(errs, removeCgroup(path))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", key.ID)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
