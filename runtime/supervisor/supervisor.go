// Package supervisor is the parent of container processes: it starts them with libcontainer (or an OCI runtime's
// binary), copies their standard streams to log files and attached clients, waits for them, and writes how they ended.
// It outlives the daemon, and is the only package that imports libcontainer.
//
// What lives elsewhere: what a container is and when it is started (runtime/engine), the daemon's side of the socket
// (runtime/sandbox), the messages (runtime/supervisor/wire) and their transport (runtime/supervisor/link).
//
// A supervisor makes itself the child subreaper of its processes: what a container without a PID namespace of its own
// leaves behind comes to it and is reaped by it (reap.go). In a container with a PID namespace the kernel kills what is
// left when its first process ends.
package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/confine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Options say where a supervisor lives.
type Options struct {
	Dir   string // of its socket and lock
	Build string // version, for Hello
	Log   *slog.Logger
	Debug bool // log more; repeated when it re-executes itself
}

// Supervisor parents containers.
type Supervisor struct {
	Options
	lock       *os.File
	listener   *fdpass.Listener
	generation int
	gate       *gate
	warm       *warmer
	filters    confine.Filters
	orphans    *orphans
	starts     starts
	buffers    sync.Pool // *[]byte of readSize
	stop       chan struct{}
	stopOnce   sync.Once
	upgrading  sync.Mutex
	accepted   chan struct{} // receives when the accepting goroutine has parked
	idleAfter  time.Duration

	mu         sync.Mutex
	containers map[wire.Process]*container // by namespace and id
	conns      map[*conn]struct{}
	accepts    int
	primary    *conn
	parked     chan struct{} // closed when a re-execution has not come about
	idle       *time.Timer   // see watchIdle
}

// New takes the lock of the directory (ErrUnavailable when a live supervisor has it) and listens on its socket.
func New(o Options) (*Supervisor, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := takeLock(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	l, err := fdpass.Listen(filepath.Join(o.Dir, "sock"), 0o600)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s := newSupervisor(o)
	s.lock, s.listener = lock, l
	return s, nil
}

func newSupervisor(o Options) *Supervisor {
	s := &Supervisor{
		Options: o, gate: newGate(), warm: newWarmer(), stop: make(chan struct{}), accepted: make(chan struct{}),
		containers: map[wire.Process]*container{}, conns: map[*conn]struct{}{}, idleAfter: idleAfter,
	}
	s.orphans = newOrphans(s)
	s.filters.Log, s.filters.Run = o.Log, s.background
	s.buffers.New = func() any {
		b := make([]byte, readSize)
		return &b
	}
	return s
}

// background runs a child that no request waits for: it is neither reaped as an orphan, nor cut off by a re-execution.
func (s *Supervisor) background(child func()) {
	s.gate.enter()
	defer s.gate.leave()
	s.orphans.request.RLock()
	defer s.orphans.request.RUnlock()
	child()
}

// takeLock locks a file with the process's number in it. Liveness of a supervisor is this lock, which the kernel
// releases however the process ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: a supervisor lives here already: %w", path, errdefs.ErrUnavailable)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Run serves until Shutdown.
func (s *Supervisor) Run() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	go s.orphans.run(s.stop)
	s.watchIdle()
	s.Log.Info("supervisor serves", "dir", s.Dir, "pid", os.Getpid(), "generation", s.generation)
	return s.serve()
}

// container is one container and its processes.
type container struct {
	key     wire.Process // without Exec
	start   wire.Start
	rt      runner
	cgroups map[string]string

	mu    sync.Mutex
	procs map[string]*process // by exec id; the first process has none
}

// process is one process of a container.
type process struct {
	key     wire.Process
	dir     string
	stdio   wire.Stdio
	io      *streams
	adopted bool // somebody else is its parent
	// daemonsChild says that the daemon is, and will report its exit.
	daemonsChild bool
	oomBase      uint64 // the cgroup's oom_kill count when it started

	ready     bool // all of the above and below is set; the container's lock guards it
	pid       int
	startTime uint64
	pidfd     *os.File
	killed    atomic.Bool   // SIGKILL was sent
	reported  chan int      // the wait status, when the daemon was the parent
	exited    chan struct{} // closed when exit is set

	mu   sync.Mutex
	exit *wire.Exit
}

func (p *process) ended() *wire.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

func containerKey(p wire.Process) wire.Process {
	p.Exec = ""
	return p
}

func name(p wire.Process) string {
	if p.Exec != "" {
		return fmt.Sprintf("process %s of container %s", p.Exec, p.ID)
	}
	return "container " + p.ID
}

// find returns the container of p.
func (s *Supervisor) find(p wire.Process) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[containerKey(p)]
	if c == nil {
		return nil, fmt.Errorf("%s: unknown to this supervisor: %w", name(containerKey(p)), errdefs.ErrNotFound)
	}
	return c, nil
}

// process returns the process p and its container.
func (s *Supervisor) process(p wire.Process) (*container, *process, error) {
	c, err := s.find(p)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	proc := c.procs[p.Exec]
	if proc == nil || !proc.ready {
		return nil, nil, fmt.Errorf("%s: unknown to this supervisor: %w", name(p), errdefs.ErrNotFound)
	}
	return c, proc, nil
}

// running is process for those that still run.
func (s *Supervisor) running(p wire.Process) (*container, *process, error) {
	c, proc, err := s.process(p)
	if err != nil {
		return nil, nil, err
	}
	if exit := proc.ended(); exit != nil {
		return nil, nil, fmt.Errorf("%s: exited with code %d at %s: %w",
			name(p), exit.Code, exit.Time.Format(time.RFC3339), errdefs.ErrFailedPrecondition)
	}
	return c, proc, nil
}

// reserve enters a container before anything of it exists, so that its name is taken.
func (s *Supervisor) reserve(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.key] != nil {
		return fmt.Errorf("%s: exists in this supervisor: delete it first: %w", name(c.key), errdefs.ErrAlreadyExists)
	}
	s.containers[c.key] = c
	return nil
}

func (s *Supervisor) release(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.key)
	s.noteIdle()
}

func (c *container) reserve(p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.procs[p.key.Exec] != nil {
		return fmt.Errorf("%s: exists: choose another id: %w", name(p.key), errdefs.ErrAlreadyExists)
	}
	c.procs[p.key.Exec] = p
	return nil
}

// publish makes a reserved process known to requests.
func (c *container) publish(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.ready = true
}

func (c *container) release(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.procs, p.key.Exec)
}

// first is the container's first process; nil while it is being started.
func (c *container) first() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.procs[""]; p != nil && p.ready {
		return p
	}
	return nil
}
