package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// live is a container in memory: its record as saved, and its processes.
type live struct {
	key  key
	pod  string // it is in; empty for none
	name string // the record's Key

	shown atomic.Pointer[map[string]string] // of the record, what every event says: they do not wait for the mutex

	mu    sync.Mutex
	rec   Container
	procs map[string]*proc // by exec id; the first process has none
	gone  bool             // removed: the record is deleted
	left  error            // why the last removal has not succeeded
	doing string           // the stage of the operation under way, for messages

	restart context.CancelFunc       // of the start that its policy will make; nil: none is planned
	backoff time.Duration            // before the last such start
	health  *Health                  // of the process that runs; nil: nothing checks it
	checkUp chan chan<- HealthResult // takes wishes for a check at once; nil: nothing checks it

	shipping *shipping // of its log; nil: none has begun

	forbidden forbidden // system calls that were refused

	told     bool          // plugins have been asked for it
	stopTold chan struct{} // closed when plugins know of its exit; nil: nobody tells them
}

// proc is one process of a container, from before its start until it is forgotten.
type proc struct {
	execID   string
	dir      string // empty: it leaves nothing there, see ExecOptions.Fleeting
	terminal bool
	args     []string
	log      wire.Log
	once     bool          // forgotten when it has exited
	begun    chan struct{} // closed when the start has been recorded (or has failed)
	exited   chan struct{} // closed when the exit has been recorded
	done     chan struct{} // closed after exited, and after the container's removal if it removes itself

	mu       sync.Mutex
	pid      int
	exit     *wire.Exit
	warnings []string
}

func newProc(execID, dir string) *proc {
	return &proc{
		execID: execID, dir: dir,
		begun: make(chan struct{}), exited: make(chan struct{}), done: make(chan struct{}),
	}
}

func (p *proc) info(paused bool) Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := Process{ExecID: p.execID, PID: p.pid, Terminal: p.terminal, Args: p.args, Exit: p.exit, Warnings: p.warnings, State: Running, Wait: p.wait}
	switch {
	case p.exit != nil:
		info.State = Exited
	case p.pid == 0:
		info.State = Created
	case paused:
		info.State = Paused
	}
	return info
}

func (p *proc) ended() *wire.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// end is for a process whose exit nobody will report: it did not start, or is gone with its container.
func (p *proc) end(x wire.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit != nil {
		return
	}
	p.exit = &x
	close(p.exited)
	close(p.done)
}

func (l *live) record() Container {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec
}

// seen is the record with what is known only in memory.
func (l *live) seen() Container {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.rec
	if l.left != nil {
		c.Left = l.left.Error()
	}
	c.Restarting = l.restart != nil && c.State == Exited
	if l.health != nil {
		h := *l.health
		c.Health = &h
	}
	if l.shipping != nil {
		s := l.shipping.Status()
		c.Shipping = &s
	}
	return c
}

func (l *live) state() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec.State
}

func (l *live) isGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// at notes the stage of the operation under way; a caller who waits for it in vain is told.
func (l *live) at(stage string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doing = stage
}

func (l *live) stage() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doing == "" {
		return "waiting for another operation"
	}
	return "at: " + l.doing
}

func (l *live) proc(execID string) (*proc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.procs[execID]; p != nil {
		return p, nil
	}
	if execID == "" {
		return nil, fmt.Errorf("container %s is %s: it has no process: start it first: %w",
			l.key.id, l.rec.State, errdefs.ErrFailedPrecondition)
	}
	return nil, fmt.Errorf("process %s: not in container %s: %w", execID, l.key.id, errdefs.ErrNotFound)
}

// execs are the processes executed in the container.
func (l *live) execs() []*proc {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*proc
	for execID, p := range l.procs {
		if execID != "" {
			list = append(list, p)
		}
	}
	return list
}

// forgetProc takes a process out of the table, if it is there still.
func (l *live) forgetProc(p *proc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.procs[p.execID] == p {
		delete(l.procs, p.execID)
	}
}

// require refuses an operation in the wrong state.
func (l *live) require(what string, states ...State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requireLocked(what, states...)
}

func (l *live) requireLocked(what string, states ...State) error {
	for _, s := range states {
		if l.rec.State == s {
			return nil
		}
	}
	hint := map[State]string{
		Created: "start it first", Exited: "start it first", Running: "stop or kill it first",
		Paused: "resume it first", Creating: "wait until it is made", Removing: "it is being removed",
	}[l.rec.State]
	return fmt.Errorf("container %s is %s: cannot %s it: %s: %w", l.key.id, l.rec.State, what, hint, errdefs.ErrFailedPrecondition)
}

// save changes a record on disk, then in memory. Records have one writer: this function and note, under the container's
// mutex.
func (e *Engine) save(l *live, change func(*Container)) error {
	return e.write(l, e.Containers.Put, change)
}

// note is save for what a power cut may undo, since it is true only while the machine runs: after it, a container that
// ran has no process, and recovery says so; one whose removal had not begun on disk is there still.
func (e *Engine) note(l *live, change func(*Container)) error {
	return e.write(l, e.Containers.PutSoon, change)
}

func (e *Engine) write(l *live, put func(ns, id string, c Container) error, change func(*Container)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return fmt.Errorf("container %s: removed: %w", l.key.id, errdefs.ErrNotFound)
	}
	next := l.rec
	change(&next)
	if err := put(l.key.ns, l.key.id, next); err != nil {
		return fmt.Errorf("save the record of container %s: %w", l.key.id, err)
	}
	l.rec = next
	return nil
}
