package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// adopt takes over a process of a supervisor that died: from the descriptors that the daemon held, or, when there are
// none, from what is on disk and in the kernel. The container first, then what was executed in it.
func (s *Supervisor) adopt(a wire.Adopt, files []*os.File) (wire.AdoptResult, error) {
	if len(files) != len(a.FDs) {
		return wire.AdoptResult{}, fmt.Errorf("adopt %s: %d descriptors came, %d are named: %w", name(a.Process), len(files), len(a.FDs), errdefs.ErrInvalidArgument)
	}
	given := map[string]*os.File{}
	for i, n := range a.FDs {
		given[n] = files[i]
	}
	rec := record{PID: a.PID, StartTime: a.StartTime} // all there is of a fleeting process
	if a.Dir != "" {
		rec = s.recordOf(a.Entry)
		if exit, err := loadExit(a.Dir); err == nil && exit.PID == rec.PID {
			return wire.AdoptResult{State: "exited", Exit: exit}, nil
		}
	}
	p := s.newProcess(a.Process, a.Dir, a.Stdio)
	p.adopted, p.oomBase, p.daemonsChild = true, rec.OOMBase, a.Child
	if err := p.grasp(rec, given["pidfd"]); err != nil {
		return s.adoptLost(a, rec, err)
	}
	c, err := s.adoptInto(a, rec)
	if err == nil {
		err = c.reserve(p)
	}
	if err != nil {
		p.pidfd.Close()
		return wire.AdoptResult{}, err
	}
	if !p.fleeting() { // which has its streams itself
		if err := s.adoptStreams(p, given); err != nil {
			s.Log.Warn("some streams of a process are lost", "process", name(p.key), "error", err)
		}
	}
	p.pid = rec.PID
	p.io.begin()
	c.publish(p)
	go s.wait(c, p)
	s.Log.Info("took over", "process", name(p.key), "pid", p.pid, "descriptors", a.FDs)
	return wire.AdoptResult{State: "running"}, nil
}

// recordOf is the record on disk, or what the daemon says when that cannot be read.
func (s *Supervisor) recordOf(e wire.Entry) record {
	rec, err := loadRecord(e.Dir)
	if err != nil {
		s.Log.Warn("a record cannot be read: the daemon's is used", "process", name(e.Process), "error", err)
		rec = record{}
	}
	if rec.PID == 0 {
		rec.PID, rec.StartTime = e.PID, e.StartTime
	}
	if e.Exec == "" && rec.Start == nil {
		rec.Start = &wire.Start{Process: e.Process, Dir: e.Dir, Stdio: e.Stdio}
	}
	if len(rec.Cgroups) == 0 {
		rec.Cgroups = e.CgroupPaths
	}
	return rec
}

// grasp takes hold of the process, and makes sure that it is the one of the record.
func (p *process) grasp(rec record, given *os.File) error {
	if given != nil {
		fd, err := fdpass.Duplicate(given)
		if err != nil {
			return err
		}
		p.pidfd, p.startTime = fd, rec.StartTime
		return nil
	}
	fd, err := unix.PidfdOpen(rec.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	// The check comes after the opening: from then on the number is this process's.
	st, err := readStat(rec.PID)
	if err == nil && st.startTime != rec.StartTime {
		err = fmt.Errorf("process %d began at %d, not %d: it is another one: %w", rec.PID, st.startTime, rec.StartTime, errdefs.ErrNotFound)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	p.pidfd, p.startTime = os.NewFile(uintptr(fd), "pidfd"), rec.StartTime
	return nil
}

// adoptLost notes the exit of a process that is no more, and that nobody saw end.
func (s *Supervisor) adoptLost(a wire.Adopt, rec record, cause error) (wire.AdoptResult, error) {
	exit := lostExit()
	exit.PID, exit.Time = rec.PID, time.Now()
	s.Log.Warn("a process is lost", "process", name(a.Process), "pid", rec.PID, "cause", cause)
	if a.Dir == "" {
		return wire.AdoptResult{State: "exited", Exit: &exit}, nil
	}
	if err := saveExit(a.Dir, exit); err != nil && !errors.Is(err, os.ErrNotExist) {
		return wire.AdoptResult{}, err
	}
	return wire.AdoptResult{State: "exited", Exit: &exit}, nil
}

// adoptInto is the container of an adopted process: made for a first one, found for another.
func (s *Supervisor) adoptInto(a wire.Adopt, rec record) (*container, error) {
	if a.Exec != "" {
		return s.find(a.Process)
	}
	rt, err := s.newRunner(*rec.Start, true)
	if err != nil {
		return nil, err
	}
	c := &container{key: containerKey(a.Process), start: *rec.Start, rt: rt, cgroups: rec.Cgroups, procs: map[string]*process{}}
	return c, s.reserve(c)
}

// adoptStreams takes the descriptors that the daemon held; pipes that did not come are opened by name.
func (s *Supervisor) adoptStreams(p *process, given map[string]*os.File) error {
	log, err := openLog(p.stdio.Log, s.Log)
	if err != nil {
		return err
	}
	p.io.log = log
	if err := s.startLogger(p); err != nil {
		s.Log.Warn("a binary logger does not go on; the log's files do", "process", name(p.key), "error", err)
	}
	kept, err := keptOf(given)
	if err != nil {
		return err
	}
	if kept.stdout == nil && kept.stderr == nil && kept.pty == nil {
		kept.close()
		if kept, err = reopenPipes(p.dir, p.stdio); err != nil {
			kept.close()
			return err
		}
	}
	return p.io.take(kept, func() { s.stdinClosed(p) })
}

// keptOf duplicates the descriptors that came.
func keptOf(given map[string]*os.File) (keptIO, error) {
	var kept keptIO
	for n, to := range map[string]**os.File{"stdin": &kept.stdin, stdoutName: &kept.stdout, stderrName: &kept.stderr, "pty": &kept.pty} {
		if given[n] == nil {
			continue
		}
		dup, err := fdpass.Duplicate(given[n])
		if err != nil {
			kept.close()
			return keptIO{}, err
		}
		*to = dup
	}
	return kept, nil
}
