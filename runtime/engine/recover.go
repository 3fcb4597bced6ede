package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// removals is how many containers are removed at once after a restart.
const removals = 4

// Recover makes the engine know what the last daemon left: it loads the records, asks the supervisors what has become of
// their containers, and settles each. What a crash left half made or half removed is removed in the background, so that
// a stuck container does not delay the daemon. A record that cannot be read is left alone, and so is what it names.
// Call it once, before the first request; exits that come meanwhile wait.
func (e *Engine) Recover(ctx context.Context) error {
	defer close(e.recovered)
	allPods, err := e.loadPods()
	if err != nil {
		return err
	}
	records, err := e.Containers.List("")
	if errdefs.IsDataLoss(err) {
		allPods = false // nor is what belongs to them in the network
		e.Log.Error("some containers are not known; see what check says", "error", err)
	} else if err != nil {
		return fmt.Errorf("load the containers: %w", err)
	}
	known := make([]sandbox.Known, 0, len(records))
	e.mu.Lock()
	for _, r := range records {
		c := r.Value
		k := key{r.Namespace, r.Key}
		l := &live{key: k, pod: c.Pod, name: c.Key, rec: c, procs: map[string]*proc{}}
		e.containers[k] = l
		e.keys.put(k.ns, l.name, l)
		if c.Name != "" {
			e.names[key{k.ns, c.Name}] = l
		}
		l.show(c)
		e.reserveLabel(filesLabel(c))
		known = append(known, sandbox.Known{
			Process: wire.Process{Namespace: c.Namespace, ID: c.ID}, Group: c.Supervisor, Dir: e.Bundle(c),
			State: string(c.State), PID: c.PID, StartTime: c.StartTime,
		})
	}
	e.mu.Unlock()

	found, err := e.sandboxes.Recover(ctx, known)
	if err != nil {
		return fmt.Errorf("ask the supervisors: %w", err)
	}
	var remove []leftover
	for _, r := range found {
		l := e.exactly(r.Namespace, r.ID)
		if e.settle(l, r) {
			remove = append(remove, leftover{l, r})
		}
	}
	e.recoverTuning()
	if err := e.recoverPods(ctx, allPods); err != nil {
		return err
	}
	e.holdVolumes()
	e.background.Go(func() { e.removeAll(remove) })
	e.background.Go(e.recoverVolumes)
	e.resume()
	e.removeUnowned()
	e.Log.Info("containers recovered", "records", len(records), "processes", len(found), "to remove", len(remove))
	return nil
}

// removeUnowned removes the log files of containers whose record a power cut has undone; what else such a container had
// is cleared away by the snapshotter, or was in the state directory.
func (e *Engine) removeUnowned() {
	for _, dir := range unowned(filepath.Join(e.Root, "containers"), e.owned) {
		if err := os.RemoveAll(dir); err != nil {
			e.Log.Warn("log files of no container stay", "dir", dir, "error", err)
		}
	}
}

// leftover is what recovery has found to be half made, half removed, or, without a container, nobody's.
type leftover struct {
	l *live
	sandbox.Recovered
}

// settle takes over what has become of one process, and says whether its container is to be removed.
func (e *Engine) settle(l *live, r sandbox.Recovered) (remove bool) {
	if r.Err != nil {
		e.Log.Error("a container is not recovered; its supervisor may answer later", "id", r.ID, "exec", r.Exec, "error", r.Err)
	}
	if l == nil || r.Action == sandbox.ActionRemove {
		return r.Exec == "" // an exec goes with its container
	}
	s := l.state()
	switch {
	case s == Creating || s == Removing:
		return r.Exec == "" // whatever has become of it, which a supervisor that hangs does not tell
	case r.Err != nil && s != Running && s != Paused:
		return false // as it is recorded, until the supervisor answers
	}
	switch r.Action {
	case sandbox.ActionIdle:
		// Who would have started it has lost its connection with the last daemon; and one that removes itself has no end
		// but that of its process.
		c := l.record()
		return r.Exec == "" && s == Created && (c.StartFollows || c.AutoRemove)
	case sandbox.ActionKeep, sandbox.ActionAdopt:
		e.settleLive(l, r)
	case sandbox.ActionExited:
		p := e.settleExited(l, r)
		if r.Exec == "" && l.record().AutoRemove {
			return true // those who wait are told when it is removed
		}
		close(p.done)
	}
	return false
}

// known puts a process that was found in the table; its start is history.
func (l *live) known(r sandbox.Recovered) *proc {
	p := newProc(r.Exec, r.Dir)
	p.pid, p.terminal, p.log = r.PID, r.Stdio.Terminal, r.Stdio.Log
	p.once = r.Dir == "" // nobody waits for it any more
	close(p.begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.rec; r.Exec == "" && c.Request != nil {
		p.args = c.Request.Args
	}
	l.procs[r.Exec] = p
	return p
}

func (e *Engine) settleLive(l *live, r sandbox.Recovered) {
	p := l.known(r)
	if r.Exec != "" {
		return
	}
	state := Running
	c := l.record()
	if r.State == string(Paused) && !e.thawLeft(l) {
		state = Paused
	}
	p.mu.Lock()
	if p.pid == 0 {
		p.pid = c.PID
	}
	p.mu.Unlock()
	if c.State == state && c.PID == r.PID && !c.Frozen || r.Err != nil {
		return
	}
	err := e.note(l, func(c *Container) {
		if c.PID == 0 { // the crash came between its start and the record of it
			c.StartedAt = time.Now()
		}
		c.State, c.PID, c.StartTime, c.Exit, c.Frozen = state, r.PID, r.StartTime, nil, false
		if r.CgroupPaths != nil {
			c.CgroupPaths = r.CgroupPaths
		}
	})
	if err != nil {
		e.Log.Error("record a recovered container", "id", l.key.id, "error", err)
	}
}

func (e *Engine) settleExited(l *live, r sandbox.Recovered) *proc {
	exit := wire.Exit{Code: 255, Time: time.Now(), Reason: "lost"}
	if r.Exit != nil {
		exit = *r.Exit
	}
	if exit.Time.IsZero() {
		exit.Time = time.Now()
	}
	p := l.known(r)
	p.exit = &exit
	close(p.exited)
	if r.Exec != "" {
		return p
	}
	if c := l.record(); c.State == Exited && c.Exit != nil && c.PID == 0 {
		return p
	}
	err := e.note(l, func(c *Container) {
		c.State, c.Exit, c.PID, c.StartTime = Exited, &exit, 0, 0
		if c.AutoRemove {
			c.State = Removing
		}
		if c.StartedAt.IsZero() {
			c.StartedAt = exit.Time
		}
	})
	if err != nil {
		e.Log.Error("record the exit of a recovered container", "id", l.key.id, "error", err)
	}
	e.publish(l, "exit", map[string]string{"code": fmt.Sprint(exit.Code)})
	return p
}

// removeAll removes what is left.
func (e *Engine) removeAll(list []leftover) {
	slots := make(chan struct{}, removals)
	for _, left := range list {
		slots <- struct{}{}
		e.background.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(e.ctx, removeTimeout)
			defer cancel()
			if err := e.removeLeftover(ctx, left); err != nil {
				e.Log.Warn("a container is not wholly removed; delete it later", "id", left.ID, "error", err)
			}
		})
	}
}

func (e *Engine) removeLeftover(ctx context.Context, left leftover) error {
	if left.l != nil && left.Action == sandbox.ActionExited {
		if p, err := left.l.proc(""); err == nil {
			defer close(p.done)
		}
	}
	unlock, err := e.locks.Lock(ctx, key{left.Namespace, left.ID}.String())
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case left.l != nil && left.l.isGone():
		return nil // somebody was faster, and the id may be another's by now
	case left.l != nil:
		return e.remove(ctx, left.l)
	}
	if _, err := e.Containers.Get(left.Namespace, left.ID); !errdefs.IsNotFound(err) {
		return err // made meanwhile, or its record cannot be read
	}
	if err := e.wipe(ctx, left.Process); err != nil || left.Dir == "" {
		return err
	}
	return removeBundle(left.Dir)
}
