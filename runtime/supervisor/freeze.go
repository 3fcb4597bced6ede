package supervisor

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// frozenStreams are the streams of a process on their way into another program: descriptors by number, and the bytes
// that have been read and not yet been written.
type frozenStreams struct {
	Stdin       *int               `json:"stdin,omitempty"`
	Stdout      *int               `json:"stdout,omitempty"`
	Stderr      *int               `json:"stderr,omitempty"`
	PTY         *int               `json:"pty,omitempty"`
	Over        bool               `json:"over,omitempty"`
	Attachments []frozenAttachment `json:"attachments,omitempty"`
}

type frozenAttachment struct {
	Key    string      `json:"key,omitempty"`
	Stdin  *frozenFlow `json:"stdin,omitempty"`
	Stdout *frozenFlow `json:"stdout,omitempty"`
	Stderr *frozenFlow `json:"stderr,omitempty"`
	files  [3]*os.File // of the flows, to go on here when the other program does not begin
	kept   *attachment // what it was
}

type frozenFlow struct {
	FD      int    `json:"fd"`
	Pending []byte `json:"pending,omitempty"`
}

// number is a file's descriptor; nil when it is closed.
func number(f *os.File) *int {
	if f == nil {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	var n int
	if err := raw.Control(func(fd uintptr) { n = int(fd) }); err != nil {
		return nil
	}
	return &n
}

// freeze stops all copying of a process's streams. No request and no exit is under way. The pumps stop first: then
// nothing is added to what the attachments have to write.
func (s *streams) freeze() (frozenStreams, error) {
	var f frozenStreams
	if s.pty != nil {
		if s.stdout.hold() {
			f.PTY = number(s.pty)
		} else {
			s.stdout = nil
		}
	} else {
		for _, p := range []struct {
			pump **pump
			to   **int
		}{{&s.stdout, &f.Stdout}, {&s.stderr, &f.Stderr}} {
			if *p.pump == nil {
				continue
			}
			if (*p.pump).hold() {
				*p.to = number((*p.pump).file)
			} else {
				*p.pump = nil
			}
		}
	}
	s.mu.Lock()
	f.Over = s.over
	list := make([]*attachment, 0, len(s.attachments))
	for a := range s.attachments {
		list = append(list, a)
	}
	s.mu.Unlock()
	for _, a := range list {
		f.Attachments = append(f.Attachments, a.freeze())
	}
	if s.stdin != nil && !s.stdin.isClosed() {
		f.Stdin = number(s.stdin.file)
	}
	var err error
	if s.log != nil {
		err = s.log.Flush() // what is held of a line becomes a part of it in the log
	}
	return f, err
}

func (a *attachment) freeze() frozenAttachment {
	f := frozenAttachment{Key: a.key, kept: a}
	flow := func(i int, file *os.File, pending []byte, lives bool) *frozenFlow {
		if n := number(file); lives && n != nil {
			f.files[i] = file
			return &frozenFlow{FD: *n, Pending: pending}
		}
		return nil
	}
	if a.in != nil {
		file, pending, lives := a.in.hold()
		f.Stdin = flow(0, file, pending, lives)
	}
	if a.stdout != nil {
		file, pending, lives := a.stdout.hold()
		f.Stdout = flow(1, file, pending, lives)
	}
	if a.stderr != nil {
		file, pending, lives := a.stderr.hold()
		f.Stderr = flow(2, file, pending, lives)
	}
	return f
}

// fds are all descriptors in it.
func (f *frozenStreams) fds() []int {
	var list []int
	for _, n := range []*int{f.Stdin, f.Stdout, f.Stderr, f.PTY} {
		if n != nil {
			list = append(list, *n)
		}
	}
	for _, a := range f.Attachments {
		for _, flow := range []*frozenFlow{a.Stdin, a.Stdout, a.Stderr} {
			if flow != nil {
				list = append(list, flow.FD)
			}
		}
	}
	return list
}

// thaw goes on after a freeze in the same program.
func (s *streams) thaw(f frozenStreams) error {
	s.mu.Lock()
	s.attachments = nil
	s.mu.Unlock()
	none := time.Time{}
	if s.stdin != nil && !s.stdin.isClosed() {
		if err := s.stdin.file.SetWriteDeadline(none); err != nil && !errors.Is(err, os.ErrNoDeadline) {
			return err
		}
	}
	for _, a := range f.Attachments {
		for _, file := range a.files {
			if file != nil {
				if err := file.SetDeadline(none); err != nil && !errors.Is(err, os.ErrNoDeadline) {
					return err
				}
			}
		}
		s.enterFrozen(a)
	}
	for _, p := range []**pump{&s.stdout, &s.stderr} {
		if *p == nil {
			continue
		}
		if err := (*p).file.SetReadDeadline(none); err != nil {
			return err
		}
		again, err := newPump((*p).file, s.buffers, (*p).deliver)
		if err != nil {
			return err
		}
		*p = again
	}
	if !f.Over {
		s.begin()
	}
	return nil
}

// enterFrozen makes an attachment of what was held, in this program or the next.
func (s *streams) enterFrozen(f frozenAttachment) {
	a := &attachment{key: f.Key}
	if f.Stdin != nil && s.stdin != nil {
		a.in = newInlet(f.files[0], s.stdin, s.buffers, f.Stdin.Pending)
	}
	if f.Stdout != nil {
		a.stdout = newOutlet(f.files[1], f.Stdout.Pending)
	}
	if f.Stderr != nil {
		a.stderr = newOutlet(f.files[2], f.Stderr.Pending)
	}
	for _, o := range []*outlet{a.stdout, a.stderr} {
		if o != nil && a.key == loggerKey {
			o.patience = loggerPatience
		}
	}
	if a.in != nil || a.stdout != nil || a.stderr != nil {
		s.enter(a)
	}
}

// restore goes on with streams that another program froze.
func (s *streams) restore(f frozenStreams, onStdinClose func()) error {
	kept := keptIO{stdin: inherited(f.Stdin), stdout: inherited(f.Stdout), stderr: inherited(f.Stderr), pty: inherited(f.PTY)}
	if kept.pty != nil && kept.stdin != nil {
		kept.stdin.Close() // a duplicate of the terminal, made anew
		kept.stdin = nil
	}
	s.over = f.Over
	if kept.pty != nil || kept.stdin != nil || kept.stdout != nil || kept.stderr != nil {
		if err := s.take(kept, onStdinClose); err != nil {
			return err
		}
	}
	for _, a := range f.Attachments {
		for i, flow := range []*frozenFlow{a.Stdin, a.Stdout, a.Stderr} {
			if flow != nil {
				a.files[i] = inherited(&flow.FD)
			}
		}
		s.enterFrozen(a)
	}
	if !f.Over {
		s.begin()
	}
	return nil
}

// inherited is a file of a descriptor that came through an exec.
func inherited(n *int) *os.File {
	if n == nil {
		return nil
	}
	syscall.CloseOnExec(*n)
	return os.NewFile(uintptr(*n), "inherited")
}

// frozenProcess is a process on its way into another program.
type frozenProcess struct {
	Process      wire.Process  `json:"process"`
	Dir          string        `json:"dir"`
	Stdio        wire.Stdio    `json:"stdio"`
	Adopted      bool          `json:"adopted,omitempty"`
	DaemonsChild bool          `json:"daemons_child,omitempty"`
	OOMBase      uint64        `json:"oom_base,omitempty"`
	PID          int           `json:"pid"`
	StartTime    uint64        `json:"start_time"`
	PIDFD        *int          `json:"pidfd,omitempty"`
	Exit         *wire.Exit    `json:"exit,omitempty"`
	Streams      frozenStreams `json:"streams"`
	of           *process
}

// frozenContainer is a container on its way into another program.
type frozenContainer struct {
	Start     wire.Start        `json:"start"`
	Cgroups   map[string]string `json:"cgroups,omitempty"`
	Processes []frozenProcess   `json:"processes"`
}

func (p *process) freeze() (frozenProcess, error) {
	streams, err := p.io.freeze()
	return frozenProcess{
		Process: p.key, Dir: p.dir, Stdio: p.stdio, Adopted: p.adopted, DaemonsChild: p.daemonsChild, OOMBase: p.oomBase,
		PID: p.pid, StartTime: p.startTime, PIDFD: number(p.pidfd), Exit: p.ended(), Streams: streams, of: p,
	}, err
}

// revive makes a container of a frozen one.
func (s *Supervisor) revive(f frozenContainer) error {
	rt, err := s.newRunner(f.Start, true)
	if err != nil {
		return err
	}
	c := &container{key: containerKey(f.Start.Process), start: f.Start, rt: rt, cgroups: f.Cgroups, procs: map[string]*process{}}
	if err := s.reserve(c); err != nil {
		return err
	}
	for _, p := range f.Processes {
		if err := s.reviveProcess(c, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Supervisor) reviveProcess(c *container, f frozenProcess) error {
	p := s.newProcess(f.Process, f.Dir, f.Stdio)
	p.adopted, p.daemonsChild, p.oomBase = f.Adopted, f.DaemonsChild, f.OOMBase
	p.pid, p.startTime, p.pidfd, p.exit = f.PID, f.StartTime, inherited(f.PIDFD), f.Exit
	if err := c.reserve(p); err != nil {
		return err
	}
	if !f.Streams.Over {
		var err error
		if p.io.log, err = openLog(f.Stdio.Log, s.Log); err != nil {
			s.Log.Error("a log cannot be opened again", "process", name(p.key), "error", err)
		}
	}
	if err := p.io.restore(f.Streams, func() { s.stdinClosed(p) }); err != nil {
		return err
	}
	c.publish(p)
	s.proceed(c, p)
	return nil
}

// proceed waits for a process's end, or for that of the streams of one that has ended.
func (s *Supervisor) proceed(c *container, p *process) {
	if p.exit == nil {
		go s.wait(c, p)
		return
	}
	close(p.exited)
	go p.io.drain()
}
