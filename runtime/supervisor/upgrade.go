package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/link"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// An upgrade replaces the program in this process. The process stays the parent of its children, and the descriptors
// stay open, so nobody outside notices:
//
//	stop reading requests      what is not read waits in the sockets
//	wait at the gate           until no request and no exit is under way
//	freeze the streams         what is read and not written goes along
//	write it all into a memfd  descriptors by number
//	execve                     the new program goes on from there, and answers the request
//
// When a step fails, the steps before it are taken back and the old program goes on. A new program that cannot read the
// state ends, and the daemon hands everything to another one, as after any death.

// frozenState is everything that a program hands to the next.
type frozenState struct {
	Version    int               `json:"version"`
	Generation int               `json:"generation"`
	Lock       int               `json:"lock"`
	Listener   int               `json:"listener"`
	Conns      []frozenConn      `json:"conns"`
	Containers []frozenContainer `json:"containers"`
}

type frozenConn struct {
	FD     int    `json:"fd"`
	Events bool   `json:"events,omitempty"`
	Answer uint64 `json:"answer,omitempty"` // the request that is to be answered when the new program lives
}

const (
	stateVersion   = 1
	quietTimeout   = 20 * time.Second // for requests under way
	versionTimeout = 10 * time.Second // for the new program's own word
)

// upgrade carries the request m of c out; it answers only when that failed.
func (s *Supervisor) upgrade(c *conn, m wire.Message, files []*os.File) {
	defer fdpass.CloseAll(files)
	err := s.tryUpgrade(c, m, files)
	s.Log.Error("the program was not replaced", "error", err)
	if err := link.Send(c.Conn, wire.Message{ID: m.ID, Error: link.Encode(err)}, nil, nil); err != nil {
		s.drop(c)
	}
}

func (s *Supervisor) tryUpgrade(c *conn, m wire.Message, files []*os.File) error {
	if !s.upgrading.TryLock() {
		return fmt.Errorf("upgrade: one is under way: %w", errdefs.ErrUnavailable)
	}
	defer s.upgrading.Unlock()
	program, err := s.newProgram(m, files)
	if err != nil {
		return err
	}
	defer program.Close()
	conns, err := s.park()
	defer s.unpark(conns)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), quietTimeout)
	defer cancel()
	if err := s.gate.shut(ctx); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	defer s.gate.open()
	state, err := s.freeze()
	defer s.thaw(state)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	return s.become(program, state, conns, c, m.ID)
}

// newProgram is the new binary in a sealed memory file, tried out: it comes as one, or by its path.
func (s *Supervisor) newProgram(m wire.Message, files []*os.File) (*os.File, error) {
	u, err := parameters[wire.Upgrade](m)
	if err != nil {
		return nil, err
	}
	var program *os.File
	if len(files) == 1 && exeseal.IsCloned(files[0]) {
		program, err = fdpass.Duplicate(files[0])
	} else {
		program, err = sealProgram(u.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	s.orphans.request.RLock()
	defer s.orphans.request.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), *number(program))
	if out, err := exec.CommandContext(ctx, path, "version").CombinedOutput(); err != nil {
		program.Close()
		return nil, fmt.Errorf("upgrade: the new program does not run (%w: %q): the old one goes on: %w", err, out, errdefs.ErrFailedPrecondition)
	}
	return program, nil
}

func sealProgram(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return exeseal.CloneBinary(f, st.Size(), path, os.TempDir())
}

// park stops the readers of all connections and the listener.
func (s *Supervisor) park() ([]*conn, error) {
	now := time.Now()
	s.mu.Lock()
	s.parked = make(chan struct{})
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	err := s.listener.SetDeadline(now)
	<-s.accepted
	for _, c := range conns {
		if c.SetReadDeadline(now) == nil { // otherwise it is closed, and its reader ends
			<-c.done
		}
	}
	return conns, err
}

// unpark lets them go on.
func (s *Supervisor) unpark(conns []*conn) {
	for _, c := range conns {
		s.mu.Lock()
		_, lives := s.conns[c]
		s.mu.Unlock()
		if lives && c.SetReadDeadline(time.Time{}) == nil {
			c.done = make(chan struct{})
			go s.read(c)
		}
	}
	if err := s.listener.SetDeadline(time.Time{}); err != nil {
		s.Log.Error("the socket does not listen any more", "error", err)
	}
	close(s.parked)
}

// freeze stops everything that moves. What has been frozen when it fails is in the state too, to be thawed.
func (s *Supervisor) freeze() (frozenState, error) {
	state := frozenState{Version: stateVersion, Generation: s.generation + 1}
	s.mu.Lock()
	containers := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		containers = append(containers, c)
	}
	s.mu.Unlock()
	for _, c := range containers {
		f := frozenContainer{Start: c.start, Cgroups: c.cgroups}
		f.Start.Attach = nil
		var err error
		for _, p := range c.procs {
			var fp frozenProcess
			fp, err = p.freeze()
			f.Processes = append(f.Processes, fp)
			if err != nil {
				break
			}
		}
		state.Containers = append(state.Containers, f)
		if err != nil {
			return state, err
		}
	}
	return state, nil
}

// thaw lets the streams go on in this program.
func (s *Supervisor) thaw(state frozenState) {
	for _, c := range state.Containers {
		for _, p := range c.Processes {
			if err := p.of.io.thaw(p.Streams); err != nil {
				s.Log.Error("streams do not go on", "process", name(p.Process), "error", err)
			}
			if p.Exit != nil {
				go p.of.io.drain()
			}
		}
	}
}

// become executes the new program. It returns only when that failed, with everything as it was.
func (s *Supervisor) become(program *os.File, state frozenState, conns []*conn, asker *conn, request uint64) error {
	listener, err := s.listener.File()
	if err != nil {
		return err
	}
	defer listener.Close()
	state.Listener, state.Lock = *number(listener), *number(s.lock)
	fds := []int{state.Listener, state.Lock}
	// The youngest last, as they are numbered again.
	slices.SortFunc(conns, func(a, b *conn) int { return a.number - b.number })
	for _, c := range conns {
		f, err := c.File()
		if err != nil {
			continue // its client is gone
		}
		defer f.Close()
		frozen := frozenConn{FD: *number(f), Events: s.wantsEvents(c)}
		if c == asker {
			frozen.Answer = request
		}
		state.Conns = append(state.Conns, frozen)
		fds = append(fds, frozen.FD)
	}
	for _, c := range state.Containers {
		for _, p := range c.Processes {
			fds = append(fds, p.Streams.fds()...)
			if p.PIDFD != nil {
				fds = append(fds, *p.PIDFD)
			}
		}
	}
	memory, err := writeState(state)
	if err != nil {
		return err
	}
	defer memory.Close()
	return s.execute(program, *number(memory), append(fds, *number(memory)))
}

func (s *Supervisor) wantsEvents(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.events
}

// execute keeps the descriptors open over execve, which ends all threads and leaves the children.
func (s *Supervisor) execute(program *os.File, state int, fds []int) error {
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	defer func() {
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
		}
	}()
	args := []string{"minid-supervisor", "serve", "--dir", s.Dir, "--resume-fd", itoa(state)}
	if s.Debug {
		args = append(args, "--debug")
	}
	s.Log.Info("the program is replaced", "generation", s.generation+1)
	err := syscall.Exec("/proc/self/fd/"+itoa(*number(program)), args, os.Environ())
	return fmt.Errorf("upgrade: execute the new program: %w", err)
}

func writeState(state frozenState) (*os.File, error) {
	fd, err := unix.MemfdCreate("minid-supervisor-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if err := json.NewEncoder(f).Encode(state); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// resume makes a supervisor of the state that the program before this one left.
func resume(o Options, stateFD int) (*Supervisor, error) {
	f := inherited(&stateFD)
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var state frozenState
	if err := json.NewDecoder(f).Decode(&state); err != nil {
		return nil, fmt.Errorf("state of the program before: %w", err)
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("state of the program before has version %d, want %d", state.Version, stateVersion)
	}
	s := newSupervisor(o)
	s.generation, s.lock = state.Generation, inherited(&state.Lock)
	l, err := fdpass.ListenerFromFile(inherited(&state.Listener))
	if err != nil {
		return nil, err
	}
	s.listener = l
	var errs []error
	for _, c := range state.Containers {
		errs = append(errs, s.revive(c))
	}
	for _, fc := range state.Conns {
		c, err := fdpass.FromFile(inherited(&fc.FD))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		opened := s.open(c, fc.Events)
		if fc.Answer != 0 {
			errs = append(errs, link.Send(opened.Conn, wire.Message{ID: fc.Answer}, nil, nil))
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.Log.Error("some of what the program before left is lost", "error", err)
	}
	return s, nil
}
