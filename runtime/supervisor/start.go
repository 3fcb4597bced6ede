package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// startContainer makes and starts a container's first process. When it returns an error, nothing is left.
func (s *Supervisor) startContainer(req wire.Start, files []*os.File) (_ wire.StartResult, held []*os.File, err error) {
	s.warm.touch()
	began := time.Now()
	defer s.starts.begin(req.Process)()
	rt, err := s.newRunner(req, false)
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	c := &container{key: containerKey(req.Process), start: req, rt: rt, procs: map[string]*process{}}
	if err := s.reserve(c); err != nil {
		return wire.StartResult{}, nil, err
	}
	defer func() {
		if err != nil {
			s.release(c)
		}
	}()
	if c.cgroups, err = rt.prepare(); err != nil {
		return wire.StartResult{}, nil, err
	}
	// The record comes before anything that is not in the bundle: were the supervisor killed now, the next one would
	// find the half of the container by this.
	rec := record{Start: &req, Cgroups: c.cgroups}
	if err := rec.save(req.Dir); err != nil {
		return wire.StartResult{}, nil, errors.Join(fmt.Errorf("%s: its record: %w", name(c.key), err), rt.destroy())
	}
	rt.premake()
	p := s.newProcess(req.Process, req.Dir, req.Stdio)
	err = s.launch(c, p, req.Attach, files, rt.create, func() error {
		if len(c.cgroups) == 0 {
			c.cgroups = cgroupsOf(p.pid)
		}
		rec.PID, rec.StartTime, rec.Cgroups = p.pid, p.startTime, c.cgroups
		if err := rec.save(req.Dir); err != nil {
			return err
		}
		if err := failpoint.Hit("supervisor-created"); err != nil {
			return err
		}
		return rt.release()
	})
	if err != nil {
		return wire.StartResult{}, nil, errors.Join(err, s.wipe(c))
	}
	result, held := s.started(c, p)
	result.Created = time.Since(began)
	return result, held, nil
}

func (s *Supervisor) newProcess(key wire.Process, dir string, stdio wire.Stdio) *process {
	p := &process{key: key, dir: dir, stdio: stdio, reported: make(chan int, 1), exited: make(chan struct{})}
	p.io = &streams{dir: dir, stdio: stdio, buffers: &s.buffers}
	p.io.fault = func(err error) {
		s.Log.Error("a log cannot be written: output goes on to those attached only", "process", name(key), "error", err)
	}
	return p
}

// launch makes the streams, joins the first attachment, has the process created, and waits for it from then on.
// begin is called between the creation and the program's first instruction.
func (s *Supervisor) launch(c *container, p *process, a *wire.Attachment, files []*os.File,
	create func(childIO) (int, error), begin func() error,
) (err error) {
	if err := c.reserve(p); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.release(p)
		}
	}()
	p.oomBase = oomKills(c.cgroups)
	child, console, err := s.openStreams(c, p)
	if err != nil {
		return err
	}
	defer child.close()
	if console != nil {
		defer console.Close()
	}
	// A terminal has its stream only when the process exists, and nobody has written to it before release.
	if a != nil && console == nil {
		if err := p.io.attach(*a, files); err != nil {
			p.io.abandon()
			return err
		}
	}
	pid, err := create(child)
	if err != nil {
		p.io.abandon()
		return err
	}
	if err := s.adoptChild(p, pid); err != nil {
		return s.undoLaunch(p, pid, err)
	}
	if console != nil {
		master, err := receiveMaster(console)
		if err == nil {
			err = p.io.take(keptIO{pty: master}, nil)
		}
		if err == nil && a != nil {
			err = p.io.attach(*a, files)
		}
		if err != nil {
			return s.undoLaunch(p, pid, err)
		}
	}
	if err := begin(); err != nil {
		return s.undoLaunch(p, pid, err)
	}
	child.close() // before the pumps begin: the end of a stream is when nobody has it open
	p.io.begin()
	c.publish(p)
	return nil
}

// openStreams opens the log and the streams; with a terminal, the socket over which it comes.
func (s *Supervisor) openStreams(c *container, p *process) (child childIO, console *os.File, err error) {
	if p.io.log, err = openLog(p.stdio.Log, s.Log); err != nil {
		return childIO{}, nil, fmt.Errorf("%s: its log %s: %w", name(p.key), p.stdio.Log.Path, err)
	}
	if err := s.startLogger(p); err != nil {
		p.io.abandon()
		return childIO{}, nil, err
	}
	if p.stdio.Terminal {
		console, child.console, err = consolePair()
		return child, console, err
	}
	uid, gid, err := c.rt.owner()
	if err != nil {
		return childIO{}, nil, err
	}
	child, kept, err := makePipes(p.dir, p.stdio, uid, gid)
	if err != nil {
		p.io.abandon()
		return childIO{}, nil, fmt.Errorf("%s: its standard streams: %w", name(p.key), err)
	}
	return child, nil, p.io.take(kept, func() { s.stdinClosed(p) })
}

// adoptChild takes hold of a process that was just created, and of nobody else with its number.
func (s *Supervisor) adoptChild(p *process, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("%s: process %d: %w", name(p.key), pid, os.NewSyscallError("pidfd_open", err))
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	st, err := readStat(pid)
	if err != nil {
		p.pidfd.Close()
		return fmt.Errorf("%s: process %d: %w", name(p.key), pid, err)
	}
	p.startTime = st.startTime
	p.pid = pid
	return nil
}

// undoLaunch ends a process that was created and cannot be kept.
func (s *Supervisor) undoLaunch(p *process, pid int, cause error) error {
	p.io.abandon()
	if p.pidfd != nil {
		defer p.pidfd.Close()
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		cause = errors.Join(cause, fmt.Errorf("kill process %d: %w", pid, err))
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return cause
		}
	}
}

// started describes a process for the daemon, with duplicates of the descriptors it shall hold, and begins to wait.
func (s *Supervisor) started(c *container, p *process) (wire.StartResult, []*os.File) {
	names, files := s.holds(p)
	go s.wait(c, p)
	return wire.StartResult{
		PID: p.pid, StartTime: p.startTime, CgroupPaths: c.cgroups, FDs: names,
	}, files
}

// holds are duplicates of a process's descriptors. The caller closes them.
func (s *Supervisor) holds(p *process) (names []string, files []*os.File) {
	names, files = p.io.held()
	if fd, err := fdpass.Duplicate(p.pidfd); err == nil {
		names, files = append(names, "pidfd"), append(files, fd)
	}
	return names, files
}

func (s *Supervisor) hold(key wire.Process) (wire.HoldResult, []*os.File, error) {
	_, p, err := s.process(key)
	if err != nil {
		return wire.HoldResult{}, nil, err
	}
	names, files := s.holds(p)
	return wire.HoldResult{FDs: names}, files, nil
}

// attach joins a client to a process's streams.
func (s *Supervisor) attach(a wire.Attach, files []*os.File) error {
	_, p, err := s.process(a.Process)
	if err != nil {
		return err
	}
	return p.io.attach(a.Attachment, files)
}

// stdinClosed tells the daemon to drop its duplicate of a standard input.
func (s *Supervisor) stdinClosed(p *process) { s.emit(wire.EventStdinClosed, p.key) }

func (s *Supervisor) closeStdin(key wire.Process) error {
	_, p, err := s.process(key)
	if err != nil {
		return err
	}
	if p.io.stdin == nil {
		return fmt.Errorf("%s: has no standard input: %w", name(key), errdefs.ErrFailedPrecondition)
	}
	if p.io.pty == nil { // a terminal stays open: its other direction is the same file
		p.io.stdin.close(true)
	}
	return nil
}

func (s *Supervisor) resize(r wire.Resize) error {
	_, p, err := s.running(r.Process)
	if err != nil {
		return err
	}
	return p.io.resize(r.Width, r.Height)
}

func (s *Supervisor) reopenLog(key wire.Process) error {
	_, p, err := s.process(key)
	if err != nil {
		return err
	}
	if p.io.log == nil {
		return nil
	}
	return p.io.log.Reopen()
}
