package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// removals is how many containers are removed at once after a restart.
const removals = 4

// Recover makes the engine know what the last daemon left: it loads the records, asks the supervisors what has become of
// their containers, and settles each. What a crash left half made or half removed is removed in the background, so that
// a stuck container does not delay the daemon. Call it once, before the first request; exits that come meanwhile wait.
func (e *Engine) Recover(ctx context.Context) error {
	defer close(e.recovered)
	records, err := e.Containers.List("")
	if err != nil {
		return fmt.Errorf("load the containers: %w", err)
	}
	known := make([]sandbox.Known, 0, len(records))
	e.mu.Lock()
	for _, r := range records {
		c := r.Value
		k := key{r.Namespace, r.Key}
		e.containers[k] = &live{key: k, rec: c, procs: map[string]*proc{}}
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
	var remove []sandbox.Recovered
	for _, r := range found {
		if e.settle(r) {
			remove = append(remove, r)
		}
	}
	e.background.Go(func() { e.removeAll(remove) })
	e.Log.Info("containers recovered", "records", len(records), "processes", len(found), "to remove", len(remove))
	return nil
}

// settle takes over what has become of one process, and says whether its container is to be removed.
func (e *Engine) settle(r sandbox.Recovered) (remove bool) {
	if r.Err != nil {
		e.Log.Error("a container is not recovered; its supervisor may answer later", "id", r.ID, "exec", r.Exec, "error", r.Err)
	}
	e.mu.RLock()
	l := e.containers[key{r.Namespace, r.ID}]
	e.mu.RUnlock()
	if l == nil || r.Action == sandbox.ActionRemove {
		return true
	}
	switch r.Action {
	case sandbox.ActionKeep, sandbox.ActionAdopt:
		e.settleLive(l, r)
	case sandbox.ActionExited:
		e.settleExited(l, r)
		return r.Exec == "" && l.record().AutoRemove
	}
	return false
}

// known puts a process that was found in the table; its start is history.
func (l *live) known(r sandbox.Recovered) *proc {
	p := newProc(r.Exec, r.Dir)
	p.pid, p.terminal, p.log = r.PID, r.Stdio.Terminal, r.Stdio.Log
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
	if r.State == string(Paused) {
		state = Paused
	}
	c := l.record()
	p.mu.Lock()
	if p.pid == 0 {
		p.pid = c.PID
	}
	p.mu.Unlock()
	if c.State == state && c.PID == r.PID || r.Err != nil {
		return
	}
	err := e.save(l, func(c *Container) {
		c.State, c.PID, c.StartTime, c.Exit = state, r.PID, r.StartTime, nil
		if r.CgroupPaths != nil {
			c.CgroupPaths = r.CgroupPaths
		}
		if c.StartedAt.IsZero() {
			c.StartedAt = time.Now()
		}
	})
	if err != nil {
		e.Log.Error("record a recovered container", "id", l.key.id, "error", err)
	}
}

func (e *Engine) settleExited(l *live, r sandbox.Recovered) {
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
	close(p.done)
	if r.Exec != "" {
		return
	}
	if c := l.record(); c.State == Exited && c.Exit != nil && c.PID == 0 {
		return
	}
	err := e.save(l, func(c *Container) {
		c.State, c.Exit, c.PID, c.StartTime = Exited, &exit, 0, 0
		if c.StartedAt.IsZero() {
			c.StartedAt = exit.Time
		}
	})
	if err != nil {
		e.Log.Error("record the exit of a recovered container", "id", l.key.id, "error", err)
	}
	e.publish(l, "exit", map[string]string{"code": fmt.Sprint(exit.Code)})
}

// removeAll removes what recovery has found to be half made, half removed, or nobody's.
func (e *Engine) removeAll(list []sandbox.Recovered) {
	slots := make(chan struct{}, removals)
	for _, r := range list {
		slots <- struct{}{}
		e.background.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(e.ctx, removeTimeout)
			defer cancel()
			if err := e.removeFound(ctx, r); err != nil {
				e.Log.Warn("a container is not wholly removed; delete it later", "id", r.ID, "error", err)
			}
		})
	}
}

func (e *Engine) removeFound(ctx context.Context, r sandbox.Recovered) error {
	k := key{r.Namespace, r.ID}
	unlock, err := e.locks.Lock(ctx, k.String())
	if err != nil {
		return err
	}
	defer unlock()
	e.mu.RLock()
	l := e.containers[k]
	e.mu.RUnlock()
	switch {
	case l != nil && (r.Action == sandbox.ActionRemove || l.record().AutoRemove):
		return e.remove(ctx, l)
	case l != nil || r.Exec != "":
		return nil
	}
	// Nobody's: a supervisor has a container that no record names.
	p := wire.Process{Namespace: r.Namespace, ID: r.ID}
	err = e.sandboxes.Signal(ctx, wire.Signal{Process: p, Signal: int(syscall.SIGKILL), All: true})
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		err = nil
	}
	if _, gone := e.sandboxes.Delete(ctx, p); gone != nil && !errdefs.IsNotFound(gone) {
		err = errors.Join(err, gone)
	}
	if err == nil && r.Dir != "" {
		err = removeBundle(r.Dir)
	}
	return err
}
