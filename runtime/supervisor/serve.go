package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/link"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// conn is one client: the daemon, or somebody who looks.
type conn struct {
	*fdpass.Conn
	number int           // in the order of their coming
	events bool          // it has asked for them; the supervisor's lock guards it
	done   chan struct{} // closed when its reader has ended
}

// serve accepts until Shutdown.
func (s *Supervisor) serve() error {
	accepted := make(chan error, 1)
	go func() { accepted <- s.accept() }()
	select {
	case err := <-accepted:
		return err
	case <-s.stop:
		return errors.Join(s.listener.Close(), s.lock.Close())
	}
}

func (s *Supervisor) accept() error {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) { // a re-execution
			s.mu.Lock()
			parked := s.parked
			s.mu.Unlock()
			s.accepted <- struct{}{}
			<-parked
			continue
		}
		if err != nil {
			return err
		}
		if err := s.welcome(c); err != nil {
			s.Log.Warn("connection refused", "error", err)
			c.Close()
			continue
		}
		s.open(c, false)
	}
}

// welcome lets in root and the user that the supervisor runs as.
func (s *Supervisor) welcome(c *fdpass.Conn) error {
	peer, err := c.Peer()
	if err != nil {
		return err
	}
	if peer.UID != 0 && peer.UID != os.Geteuid() {
		return fmt.Errorf("process %d of user %d: only root may connect: %w", peer.PID, peer.UID, errdefs.ErrPermissionDenied)
	}
	return nil
}

func (s *Supervisor) open(fc *fdpass.Conn, primary bool) *conn {
	c := &conn{Conn: fc, done: make(chan struct{}), events: primary}
	s.mu.Lock()
	s.accepts++
	c.number = s.accepts
	s.conns[c] = struct{}{}
	s.noteIdle()
	s.choosePrimary()
	s.mu.Unlock()
	go s.read(c)
	return c
}

// choosePrimary gives the events to the youngest connection that has asked for them: requests of several connections are
// handled in no order, and one that a client gave up may be heard last. The lock is held.
func (s *Supervisor) choosePrimary() {
	s.primary = nil
	for c := range s.conns {
		if c.events && (s.primary == nil || c.number > s.primary.number) {
			s.primary = c
		}
	}
}

func (s *Supervisor) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.choosePrimary()
	s.noteIdle()
	c.Close()
}

// read takes requests off a connection until its end, each to be handled by itself.
func (s *Supervisor) read(c *conn) {
	defer close(c.done)
	buf := make([]byte, wire.MaxMessage)
	for {
		m, files, err := link.Receive(c.Conn, buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // a re-execution: what is not read stays in the socket
		}
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.Log.Debug("connection ended", "cause", err)
			}
			s.drop(c)
			return
		}
		if m.Method == wire.MethodUpgrade {
			go s.upgrade(c, m, files)
			continue
		}
		s.gate.enter()
		go s.answer(c, m, files)
	}
}

// answer handles one request. Files that came with it are closed afterwards: who keeps one duplicates it.
func (s *Supervisor) answer(c *conn, m wire.Message, files []*os.File) {
	defer s.gate.leave()
	defer fdpass.CloseAll(files)
	s.orphans.request.RLock()
	body, out, err := s.handle(c, m, files)
	s.orphans.request.RUnlock()
	defer fdpass.CloseAll(out)
	reply := wire.Message{ID: m.ID, Error: link.Encode(err)}
	if err != nil {
		body = nil
	}
	if err := link.Send(c.Conn, reply, body, out); err != nil {
		s.Log.Warn("an answer was not taken", "method", m.Method, "error", err)
		s.drop(c)
	}
}

// handle carries one request out: the table of methods.
func (s *Supervisor) handle(c *conn, m wire.Message, files []*os.File) (any, []*os.File, error) {
	switch m.Method {
	case wire.MethodHello:
		return result(m, func(h wire.Hello) (wire.HelloResult, error) { return s.hello(c, h) })
	case wire.MethodStart:
		return resultFiles(m, func(r wire.Start) (wire.StartResult, []*os.File, error) { return s.startContainer(r, files) })
	case wire.MethodExec:
		return resultFiles(m, func(r wire.Exec) (wire.StartResult, []*os.File, error) { return s.exec(r, files) })
	case wire.MethodHold:
		return resultFiles(m, s.hold)
	case wire.MethodAdopt:
		return result(m, func(a wire.Adopt) (wire.AdoptResult, error) { return s.adopt(a, files) })
	case wire.MethodAttach:
		return nothing(m, func(a wire.Attach) error { return s.attach(a, files) })
	case wire.MethodDelete:
		return result(m, s.remove)
	case wire.MethodList:
		return result(m, s.list)
	case wire.MethodSignal:
		return nothing(m, s.signal)
	case wire.MethodResize:
		return nothing(m, s.resize)
	case wire.MethodStdin:
		return nothing(m, s.closeStdin)
	case wire.MethodPause:
		return nothing(m, s.pause)
	case wire.MethodResume:
		return nothing(m, s.resume)
	case wire.MethodUpdate:
		return nothing(m, s.update)
	case wire.MethodCheckpoint:
		return nothing(m, s.checkpoint)
	case wire.MethodReopenLog:
		return nothing(m, s.reopenLog)
	case wire.MethodReportExit:
		return nothing(m, s.reportExit)
	case wire.MethodWarm:
		s.warm.touch()
		return nil, nil, nil
	case wire.MethodShutdown:
		return nil, nil, s.shutdown()
	}
	return nil, nil, fmt.Errorf("method %q: unknown to supervisor %s: %w", m.Method, s.Build, errdefs.ErrNotImplemented)
}

func parameters[In any](m wire.Message) (In, error) {
	var in In
	if err := json.Unmarshal(m.Body, &in); err != nil {
		return in, fmt.Errorf("%s: its parameters: %w: %w", m.Method, err, errdefs.ErrInvalidArgument)
	}
	return in, nil
}

func resultFiles[In, Out any](m wire.Message, do func(In) (Out, []*os.File, error)) (any, []*os.File, error) {
	in, err := parameters[In](m)
	if err != nil {
		return nil, nil, err
	}
	return do(in)
}

func result[In, Out any](m wire.Message, do func(In) (Out, error)) (any, []*os.File, error) {
	in, err := parameters[In](m)
	if err != nil {
		return nil, nil, err
	}
	out, err := do(in)
	return out, nil, err
}

func nothing[In any](m wire.Message, do func(In) error) (any, []*os.File, error) {
	in, err := parameters[In](m)
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, do(in)
}

func (s *Supervisor) hello(c *conn, h wire.Hello) (wire.HelloResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Primary {
		c.events = true
		s.choosePrimary()
	}
	return wire.HelloResult{
		Version: min(h.Version, wire.Version), Build: s.Build, PID: os.Getpid(),
		Generation: s.generation, Containers: len(s.containers),
	}, nil
}

// emit sends an event to the daemon. Without one it is lost: exit files and List tell the next one.
func (s *Supervisor) emit(method string, body any) {
	s.mu.Lock()
	c := s.primary
	s.mu.Unlock()
	if c == nil {
		return
	}
	if err := link.Send(c.Conn, wire.Message{Method: method}, body, nil); err != nil {
		s.Log.Warn("the daemon does not take events: its connection is closed", "error", err)
		s.drop(c)
	}
}

func (s *Supervisor) shutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.containers); n > 0 {
		return fmt.Errorf("supervisor has %d containers: delete them first: %w", n, errdefs.ErrFailedPrecondition)
	}
	go func() {
		// Nobody is inside when the answer is sent.
		if err := s.gate.shut(context.Background()); err == nil {
			s.stopOnce.Do(func() { close(s.stop) })
		}
	}()
	return nil
}

// pageSize is how many entries surely fit a packet.
const pageSize = 24

// list is one page of all processes, in the order of their names.
func (s *Supervisor) list(l wire.ListParams) (wire.ListResult, error) {
	if l.Settled {
		s.starts.settle(func(wire.Process) bool { return true })
	}
	entries := s.entries()
	sort.Slice(entries, func(i, j int) bool { return cursor(entries[i].Process) < cursor(entries[j].Process) })
	from := sort.Search(len(entries), func(i int) bool { return cursor(entries[i].Process) > l.After })
	r := wire.ListResult{Entries: entries[from:min(from+pageSize, len(entries))]}
	if from+pageSize < len(entries) {
		r.Next = cursor(r.Entries[len(r.Entries)-1].Process)
	}
	for i := range r.Entries {
		s.describe(&r.Entries[i])
	}
	return r, nil
}

func cursor(p wire.Process) string { return p.Namespace + "/" + p.ID + "/" + p.Exec }

func (s *Supervisor) entries() []wire.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []wire.Entry
	for _, c := range s.containers {
		c.mu.Lock()
		for _, p := range c.procs {
			if !p.ready {
				continue // being started: the start answers for it
			}
			entries = append(entries, wire.Entry{
				Process: p.key, Dir: p.dir, PID: p.pid, StartTime: p.startTime, Stdio: p.stdio, CgroupPaths: c.cgroups, Adopted: p.adopted,
			})
		}
		c.mu.Unlock()
	}
	return entries
}

// describe adds the state, which may need a look at the cgroup.
func (s *Supervisor) describe(e *wire.Entry) {
	e.State = "running"
	c, p, err := s.process(e.Process)
	if err != nil {
		e.State = "exited" // deleted meanwhile
		return
	}
	if exit := p.ended(); exit != nil {
		e.State, e.Exit = "exited", exit
		return
	}
	if e.Exec == "" {
		if paused, err := c.rt.paused(); err == nil && paused {
			e.State = "paused"
		}
	}
}
