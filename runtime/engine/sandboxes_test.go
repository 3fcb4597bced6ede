package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// sandboxes is a supervisor without processes: entries that run until somebody ends them. It refuses what a real one
// refuses, writes exit files before it tells of an exit, and keeps its entries in files, so that they outlive the
// engine's process as containers do.
type sandboxes struct {
	dir     string
	tell    sync.WaitGroup // exits being told
	handler func(wire.Exited)

	mu         sync.Mutex
	entries    map[wire.Process]*wire.Entry
	calls      []string
	fail       map[string]error         // by method: it does nothing and returns this
	hang       map[string]chan struct{} // by method: it waits for this, or its context
	quick      bool                     // what starts has ended before the answer to its start
	unkillable bool
	deaf       bool // only SIGKILL ends what runs
	slow       bool // what is killed takes a while to die
	silent     bool // exits are not told
	script     func([]sandbox.Known) ([]sandbox.Recovered, error)
}

var _ Sandboxes = (*sandboxes)(nil)

// openSandboxes finds what an earlier one left in the directory.
func openSandboxes(t *testing.T, dir string) *sandboxes {
	t.Helper()
	s := &sandboxes{dir: dir, entries: map[wire.Process]*wire.Entry{}, fail: map[string]error{}, hang: map[string]chan struct{}{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var e wire.Entry
		data, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(data, &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.entries[e.Process] = &e
	}
	return s
}

func (s *sandboxes) file(p wire.Process) string {
	return filepath.Join(s.dir, p.Namespace+"_"+p.ID+"_"+p.Exec+".json")
}

// keep writes an entry to its file. The lock is held.
func (s *sandboxes) keep(e *wire.Entry) error {
	s.entries[e.Process] = e
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return atomicfile.WriteNoSync(s.file(e.Process), data, 0o600)
}

func (s *sandboxes) forget(p wire.Process) error {
	delete(s.entries, p)
	return os.RemoveAll(s.file(p))
}

// enter notes a call, and hangs or fails where it is to. On success the lock is held.
func (s *sandboxes) enter(ctx context.Context, method string, p wire.Process) error {
	s.mu.Lock()
	s.calls = append(s.calls, strings.TrimSuffix(method+" "+p.ID+"/"+p.Exec, "/"))
	hang := s.hang[method]
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return fmt.Errorf("%s: the supervisor does not answer: %w", method, ctx.Err())
		}
	}
	s.mu.Lock()
	if err := s.fail[method]; err != nil {
		s.mu.Unlock()
		return err
	}
	return nil
}

func (s *sandboxes) setFail(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[method] = err
}

func (s *sandboxes) called(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// has lists the entries, to compare.
func (s *sandboxes) has() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]string, 0, len(s.entries))
	for p, e := range s.entries {
		list = append(list, fmt.Sprintf("%s/%s %s", p.ID, p.Exec, e.State))
	}
	slices.Sort(list)
	return list
}

// live finds what runs. The lock is held.
func (s *sandboxes) live(p wire.Process) (*wire.Entry, error) {
	e := s.entries[p]
	switch {
	case e == nil:
		return nil, fmt.Errorf("container %s: no supervisor has it: %w", p.ID, errdefs.ErrNotFound)
	case e.Exit != nil:
		return nil, fmt.Errorf("container %s: exited with code %d: %w", p.ID, e.Exit.Code, errdefs.ErrFailedPrecondition)
	}
	return e, nil
}

func (s *sandboxes) launch(p wire.Process, dir string, stdio wire.Stdio) (wire.StartResult, error) {
	if s.entries[p] != nil {
		return wire.StartResult{}, fmt.Errorf("container %s %s: was started already: delete it first: %w", p.ID, p.Exec, errdefs.ErrAlreadyExists)
	}
	pid := 1<<22 + len(s.calls) // the kernel has none so high
	e := &wire.Entry{Process: p, Dir: dir, PID: pid, StartTime: 7, State: "running", Stdio: stdio}
	if err := s.keep(e); err != nil {
		return wire.StartResult{}, err
	}
	if s.quick {
		s.end(e, 3, 0)
	}
	return wire.StartResult{PID: pid, StartTime: 7}, nil
}

// end is an exit: on disk, then told. The lock is held.
func (s *sandboxes) end(e *wire.Entry, code, signal int) {
	exit := wire.Exit{PID: e.PID, Code: code, Signal: signal, Time: time.Now()}
	e.State, e.Exit = "exited", &exit
	data, err := json.Marshal(exit)
	if err == nil {
		err = os.WriteFile(filepath.Join(e.Dir, "exit.json"), data, 0o600)
	}
	if err == nil {
		err = s.keep(e)
	}
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	if handler := s.handler; handler != nil && !s.silent {
		s.tell.Go(func() { handler(wire.Exited{Process: e.Process, Exit: exit}) })
	}
}

// tellAll tells of the exits that have not been told.
func (s *sandboxes) tellAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = false
	for _, e := range s.entries {
		if e.Exit != nil {
			s.tell.Go(func() { s.handler(wire.Exited{Process: e.Process, Exit: *e.Exit}) })
		}
	}
}

// exit ends a process by itself.
func (s *sandboxes) exit(t *testing.T, id, exec string, code int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.live(wire.Process{Namespace: ns, ID: id, Exec: exec})
	if err != nil {
		t.Fatal(err)
	}
	s.end(e, code, 0)
}

func (s *sandboxes) Start(ctx context.Context, _ string, r wire.Start, _ []*os.File) (wire.StartResult, error) {
	if err := s.enter(ctx, "start", r.Process); err != nil {
		return wire.StartResult{}, err
	}
	defer s.mu.Unlock()
	if _, err := os.Stat(filepath.Join(r.Dir, "config.json")); err != nil {
		return wire.StartResult{}, err
	}
	return s.launch(r.Process, r.Dir, r.Stdio)
}

func (s *sandboxes) Exec(ctx context.Context, x wire.Exec, _ []*os.File) (wire.StartResult, error) {
	if err := s.enter(ctx, "exec", x.Process); err != nil {
		return wire.StartResult{}, err
	}
	defer s.mu.Unlock()
	if _, err := s.live(wire.Process{Namespace: x.Namespace, ID: x.ID}); err != nil {
		return wire.StartResult{}, err
	}
	return s.launch(x.Process, x.Dir, x.Stdio)
}

func (s *sandboxes) Signal(ctx context.Context, r wire.Signal) error {
	if err := s.enter(ctx, fmt.Sprintf("signal %d", r.Signal), r.Process); err != nil {
		return err
	}
	defer s.mu.Unlock()
	e, err := s.live(r.Process)
	if err != nil {
		return err
	}
	switch {
	case s.unkillable || r.Signal == 0 || s.deaf && r.Signal != int(syscall.SIGKILL):
	case s.slow:
		s.tell.Go(func() {
			time.Sleep(100 * time.Millisecond) // of the bubble's time
			s.mu.Lock()
			defer s.mu.Unlock()
			s.end(e, 128+r.Signal, r.Signal)
		})
	default:
		s.end(e, 128+r.Signal, r.Signal)
	}
	return nil
}

func (s *sandboxes) Delete(ctx context.Context, p wire.Process) (wire.Exit, error) {
	if err := s.enter(ctx, "delete", p); err != nil {
		return wire.Exit{}, err
	}
	defer s.mu.Unlock()
	e, err := s.live(p)
	switch {
	case err == nil:
		return wire.Exit{}, fmt.Errorf("container %s: runs as process %d: kill it first: %w", p.ID, e.PID, errdefs.ErrFailedPrecondition)
	case errdefs.IsNotFound(err):
		return wire.Exit{}, err
	}
	exit := *s.entries[p].Exit
	for other, x := range s.entries {
		if p.Exec == "" && other.Namespace == p.Namespace && other.ID == p.ID && x.Exit == nil {
			s.end(x, 137, int(syscall.SIGKILL)) // with the cgroup
		}
		if other == p || p.Exec == "" && other.Namespace == p.Namespace && other.ID == p.ID {
			if err := s.forget(other); err != nil {
				return exit, err
			}
		}
	}
	return exit, nil
}

// turn is what the methods have in common that need something that runs.
func (s *sandboxes) turn(ctx context.Context, method string, p wire.Process, change func(*wire.Entry)) error {
	if err := s.enter(ctx, method, p); err != nil {
		return err
	}
	defer s.mu.Unlock()
	e, err := s.live(p)
	if err != nil {
		return err
	}
	if change != nil {
		change(e)
	}
	return s.keep(e)
}

func (s *sandboxes) Pause(ctx context.Context, p wire.Process) error {
	return s.turn(ctx, "pause", p, func(e *wire.Entry) { e.State = "paused" })
}

func (s *sandboxes) Resume(ctx context.Context, p wire.Process) error {
	return s.turn(ctx, "resume", p, func(e *wire.Entry) { e.State = "running" })
}

func (s *sandboxes) Attach(ctx context.Context, p wire.Process, _ wire.Attachment, _ []*os.File) error {
	return s.turn(ctx, "attach", p, nil)
}

func (s *sandboxes) Resize(ctx context.Context, r wire.Resize) error {
	return s.turn(ctx, "resize", r.Process, nil)
}

func (s *sandboxes) CloseStdin(ctx context.Context, p wire.Process) error {
	return s.turn(ctx, "stdin", p, nil)
}

func (s *sandboxes) Update(ctx context.Context, u wire.Update) error {
	return s.turn(ctx, "update "+string(u.Resources), u.Process, nil)
}

func (s *sandboxes) Checkpoint(ctx context.Context, c wire.Checkpoint) error {
	if err := s.turn(ctx, "checkpoint", c.Process, nil); err != nil {
		return err
	}
	return os.MkdirAll(c.Path, 0o700)
}

func (s *sandboxes) ReopenLog(ctx context.Context, p wire.Process) error {
	return s.turn(ctx, "reopen_log", p, nil)
}

func (s *sandboxes) Upgrade(context.Context) error { return nil }

// Recover answers by the script, or by the rows of sandbox's table that a supervisor that lives needs.
func (s *sandboxes) Recover(_ context.Context, known []sandbox.Known) ([]sandbox.Recovered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.script != nil {
		return s.script(known)
	}
	var all []sandbox.Recovered
	named := map[wire.Process]bool{}
	for _, k := range known {
		named[k.Process] = true
		r := sandbox.Recovered{Process: k.Process, Dir: k.Dir, Action: sandbox.ActionIdle}
		if e := s.entries[k.Process]; e != nil {
			r = of(e)
		} else if k.State == "running" || k.State == "paused" {
			r.Action, r.Exit = sandbox.ActionExited, &wire.Exit{Code: 255, Reason: "lost"}
		}
		if k.State == "creating" || k.State == "removing" {
			r.Action = sandbox.ActionRemove
		}
		all = append(all, r)
	}
	for p, e := range s.entries {
		r := of(e)
		if p.Exec == "" {
			r.Action = sandbox.ActionRemove
		}
		if !named[p] {
			all = append(all, r)
		}
	}
	return all, nil
}

func of(e *wire.Entry) sandbox.Recovered {
	r := sandbox.Recovered{Process: e.Process, Dir: e.Dir, State: e.State, PID: e.PID, StartTime: e.StartTime, Exit: e.Exit, Stdio: e.Stdio, Action: sandbox.ActionKeep}
	if e.Exit != nil {
		r.Action = sandbox.ActionExited
	}
	return r
}

// Warm does nothing: there is nothing to prepare.
func (s *sandboxes) Warm(string) {}

func (s *sandboxes) Fleeting(wire.Process) bool { return true }
