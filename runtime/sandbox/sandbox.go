// Package sandbox is the daemon's side of the supervisors: it starts them, asks them, and keeps what must outlive them.
//
// The daemon is the child subreaper of its supervisors, and holds duplicates of every process's pidfd and standard
// streams. When a supervisor dies, its containers live on as the daemon's children with their streams open; a new
// supervisor is started and handed everything (takeover.go). When the daemon dies, the supervisors go on, and the next
// daemon connects to them (recover.go). What a container is, and whether it should run, is the engine's business.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Scopes of supervisors.
const (
	ScopeNode = "node" // one for all
	ScopePod  = "pod"  // one for each group
)

// nodeGroup is the group of everything with ScopeNode.
const nodeGroup = "node"

// Config says how supervisors are started.
type Config struct {
	Binary   string // path of minid-supervisor
	StateDir string // the daemon's; supervisors live in StateDir/supervisor/<group>
	Name     string // the daemon's own name
	Scope    string // ScopeNode (default) or ScopePod
	Debug    bool   // supervisors log more
	Log      *slog.Logger
	// Patience bounds what one supervisor may take to start, to answer Recover or to be taken over; 10 s by default.
	Patience time.Duration
}

// Handlers are told what happens to processes. Each call has its own goroutine.
type Handlers struct {
	Exit func(wire.Exited)
	OOM  func(wire.OOM)
	Lost func(group string, n int) // a supervisor died with n processes; they are being taken over
}

// Sandboxes keeps the supervisors of one daemon.
type Sandboxes struct {
	Config
	handlers Handlers
	root     string
	ctx      context.Context // ends with Close
	close    context.CancelFunc
	work     sync.WaitGroup

	mu      sync.Mutex
	groups  map[string]*group
	entries map[wire.Process]*entry
	binary  *os.File // sealed memory file
	stat    os.FileInfo
}

// entry is what the daemon keeps of a process.
type entry struct {
	key   wire.Process
	group string
	dir   string
	known wire.Entry // as a new supervisor needs it; PID 0 until it runs
	held  map[string]*os.File
	child bool // the daemon is its parent, because the supervisor that was died
	ended bool
}

// Open prepares the keeping of supervisors; it starts none. Recover connects to those that live.
func Open(_ context.Context, c Config, h Handlers) (*Sandboxes, error) {
	switch c.Scope {
	case "":
		c.Scope = ScopeNode
	case ScopeNode, ScopePod:
	default:
		return nil, fmt.Errorf("supervisor scope %q: use %s or %s: %w", c.Scope, ScopeNode, ScopePod, errdefs.ErrInvalidArgument)
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if h.Exit == nil {
		h.Exit = func(wire.Exited) {}
	}
	if h.OOM == nil {
		h.OOM = func(wire.OOM) {}
	}
	if h.Lost == nil {
		h.Lost = func(string, int) {}
	}
	// Processes of a supervisor that dies become this process's children, who can tell how they end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	root := filepath.Join(c.StateDir, "supervisor")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Sandboxes{
		Config: c, handlers: h, root: root, ctx: ctx, close: cancel,
		groups: map[string]*group{}, entries: map[wire.Process]*entry{},
	}, nil
}

// Close lets the supervisors and their containers go on without this process.
func (s *Sandboxes) Close() error {
	s.close()
	s.mu.Lock()
	for _, g := range s.groups {
		g.disconnect()
	}
	s.mu.Unlock()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.entries {
		e.drop()
		delete(s.entries, key)
	}
	if s.binary != nil {
		s.binary.Close()
		s.binary = nil
	}
	return nil
}

func (e *entry) drop() {
	for name, f := range e.held {
		f.Close()
		delete(e.held, name)
	}
}

// groupName is the group that a container with this wish lives in.
func (s *Sandboxes) groupName(wish string) string {
	if s.Scope == ScopeNode || wish == "" {
		return nodeGroup
	}
	return wish
}

// of returns the group of a process.
func (s *Sandboxes) of(p wire.Process) (*group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[p]
	if e == nil {
		// An exec that is asked for by its container's supervisor.
		p.Exec = ""
		e = s.entries[p]
	}
	if e == nil {
		return nil, fmt.Errorf("container %s: no supervisor has it: %w", p.ID, errdefs.ErrNotFound)
	}
	return s.group(e.group), nil
}

// call asks the supervisor of a process.
func (s *Sandboxes) call(ctx context.Context, p wire.Process, method string, in any, files []*os.File, out any) error {
	g, err := s.of(p)
	if err != nil {
		return err
	}
	got, err := g.call(ctx, method, in, files, out)
	fdpass.CloseAll(got)
	return err
}

// Start makes and starts a container. The files of attach stay the caller's.
func (s *Sandboxes) Start(ctx context.Context, wish string, start wire.Start, attach []*os.File) (wire.StartResult, error) {
	g := s.groupFor(wish)
	if start.Stdio.Log.Logger != nil {
		if _, err := g.connected(ctx); err != nil {
			return wire.StartResult{}, err
		}
		if g.hello().Version < wire.VersionLogger {
			return wire.StartResult{}, fmt.Errorf("its supervisor is of an older version and starts no binary loggers: replace it with `minid upgrade-supervisor`: %w", errdefs.ErrFailedPrecondition)
		}
	}
	known := wire.Entry{Process: start.Process, Dir: start.Dir, Stdio: start.Stdio}
	return s.launch(ctx, g, known, wire.MethodStart, start, attach)
}

// Fleeting says whether a container's supervisor runs processes that are described by wire.Exec's Spec.
func (s *Sandboxes) Fleeting(p wire.Process) bool {
	g, err := s.of(p)
	return err == nil && g.hello().Version >= wire.VersionSpec
}

// Exec runs one more process in a container.
func (s *Sandboxes) Exec(ctx context.Context, x wire.Exec, attach []*os.File) (wire.StartResult, error) {
	container := x.Process
	container.Exec = ""
	g, err := s.of(container)
	if err != nil {
		return wire.StartResult{}, err
	}
	known := wire.Entry{Process: x.Process, Dir: x.Dir, Stdio: x.Stdio}
	return s.launch(ctx, g, known, wire.MethodExec, x, attach)
}

// launch enters a process before it is asked for, so that an exit that comes before the answer finds it.
func (s *Sandboxes) launch(ctx context.Context, g *group, known wire.Entry, method string, in any, attach []*os.File) (wire.StartResult, error) {
	e := &entry{key: known.Process, group: g.name, dir: known.Dir, known: known, held: map[string]*os.File{}}
	s.mu.Lock()
	old := s.entries[e.key]
	if old != nil && old.known.PID != 0 {
		s.mu.Unlock()
		return wire.StartResult{}, fmt.Errorf("container %s %s: was started already: delete it first: %w", e.key.ID, e.key.Exec, errdefs.ErrAlreadyExists)
	}
	s.entries[e.key] = e
	s.mu.Unlock()
	var r wire.StartResult
	files, err := g.call(ctx, method, in, attach, &r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// A container whose start was cut off may have left something: Delete looks into its directory.
		if s.entries[e.key] == e && (e.key.Exec != "" || !errdefs.IsUnavailable(err) && !errors.Is(err, ctx.Err())) {
			delete(s.entries, e.key)
		}
		return wire.StartResult{}, err
	}
	e.known.PID, e.known.StartTime, e.known.CgroupPaths = r.PID, r.StartTime, r.CgroupPaths
	e.keep(r.FDs, files)
	return r, nil
}

// keep holds descriptors by name; those of a process that has ended are closed.
func (e *entry) keep(names []string, files []*os.File) {
	for i, f := range files {
		if i >= len(names) || e.ended || e.held[names[i]] != nil {
			f.Close()
			continue
		}
		e.held[names[i]] = f
	}
}

// Delete forgets a process that has exited; with a container, everything that its supervisor made of it goes too. One
// whose start was cut off is removed as well, whatever is left of it.
func (s *Sandboxes) Delete(ctx context.Context, p wire.Process) (wire.Exit, error) {
	s.mu.Lock()
	e := s.entries[p]
	s.mu.Unlock()
	if e == nil {
		return wire.Exit{}, fmt.Errorf("container %s %s: no supervisor has it: %w", p.ID, p.Exec, errdefs.ErrNotFound)
	}
	g := s.groupNamed(e.group)
	var exit wire.Exit
	if _, err := g.call(ctx, wire.MethodDelete, wire.Delete{Process: p, Dir: e.dir}, nil, &exit); err != nil {
		return wire.Exit{}, err
	}
	s.mu.Lock()
	last := true
	for key, other := range s.entries {
		if key == p || p.Exec == "" && key.Namespace == p.Namespace && key.ID == p.ID {
			other.drop()
			delete(s.entries, key)
		} else if other.group == e.group {
			last = false
		}
	}
	s.mu.Unlock()
	if last && s.Scope == ScopePod {
		s.retire(ctx, g)
	}
	return exit, nil
}

// Signal sends a signal to a process, or to all of its container.
func (s *Sandboxes) Signal(ctx context.Context, r wire.Signal) error {
	return s.call(ctx, r.Process, wire.MethodSignal, r, nil, nil)
}

// Resize sets the size of a process's terminal.
func (s *Sandboxes) Resize(ctx context.Context, r wire.Resize) error {
	return s.call(ctx, r.Process, wire.MethodResize, r, nil, nil)
}

// CloseStdin ends a process's standard input.
func (s *Sandboxes) CloseStdin(ctx context.Context, p wire.Process) error {
	s.dropHeld(p, "stdin")
	return s.call(ctx, p, wire.MethodStdin, p, nil, nil)
}

// Attach joins a process's streams; the files stay the caller's.
func (s *Sandboxes) Attach(ctx context.Context, p wire.Process, a wire.Attachment, files []*os.File) error {
	return s.call(ctx, p, wire.MethodAttach, wire.Attach{Process: p, Attachment: a}, files, nil)
}

// Pause freezes a container's processes.
func (s *Sandboxes) Pause(ctx context.Context, p wire.Process) error {
	return s.call(ctx, p, wire.MethodPause, p, nil, nil)
}

// Resume thaws them.
func (s *Sandboxes) Resume(ctx context.Context, p wire.Process) error {
	return s.call(ctx, p, wire.MethodResume, p, nil, nil)
}

// Update changes a container's limits.
func (s *Sandboxes) Update(ctx context.Context, u wire.Update) error {
	return s.call(ctx, u.Process, wire.MethodUpdate, u, nil, nil)
}

// Checkpoint writes a criu image of a container.
func (s *Sandboxes) Checkpoint(ctx context.Context, c wire.Checkpoint) error {
	return s.call(ctx, c.Process, wire.MethodCheckpoint, c, nil, nil)
}

// ReopenLog makes the supervisor write to the file that is at the log's path now.
func (s *Sandboxes) ReopenLog(ctx context.Context, p wire.Process) error {
	return s.call(ctx, p, wire.MethodReopenLog, p, nil, nil)
}

// Warm says that a start will follow soon: the supervisor is started when there is none, and prepares what takes time.
// It returns at once. A supervisor of its own would have to be ended if the start did not follow: those are not made.
func (s *Sandboxes) Warm(wish string) {
	if s.Scope != ScopeNode {
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.Patience)
		defer cancel()
		if _, err := s.groupFor(wish).call(ctx, wire.MethodWarm, nil, nil, nil); err != nil {
			s.Log.Debug("warm a supervisor", "error", err)
		}
	})
}

// dropHeld closes a descriptor that is held of a process.
func (s *Sandboxes) dropHeld(p wire.Process, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[p]; e != nil && e.held[name] != nil {
		e.held[name].Close()
		delete(e.held, name)
	}
}

// event handles what a supervisor says unasked.
func (s *Sandboxes) event(method string, body json.RawMessage) {
	var err error
	switch method {
	case wire.EventExit:
		var x wire.Exited
		if err = json.Unmarshal(body, &x); err == nil {
			s.exited(x)
		}
	case wire.EventOOM:
		var o wire.OOM
		if err = json.Unmarshal(body, &o); err == nil {
			s.work.Go(func() { s.handlers.OOM(o) })
		}
	case wire.EventStdinClosed:
		var p wire.Process
		if err = json.Unmarshal(body, &p); err == nil {
			s.dropHeld(p, "stdin")
		}
	}
	if err != nil {
		s.Log.Error("an event cannot be read", "event", method, "error", err)
	}
}

// exited notes an exit and passes it on, once.
func (s *Sandboxes) exited(x wire.Exited) {
	s.mu.Lock()
	if e := s.entries[x.Process]; e != nil {
		if e.ended {
			s.mu.Unlock()
			return
		}
		e.ended = true
		e.drop()
		if e.dir == "" { // its supervisor has forgotten it too
			delete(s.entries, x.Process)
		}
	}
	s.mu.Unlock()
	s.work.Go(func() { s.handlers.Exit(x) })
}
