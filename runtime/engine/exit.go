package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// HandleExit takes the news of an exit. The supervisor has it on disk already; here it is recorded and published, and
// those who wait are told.
func (e *Engine) HandleExit(x wire.Exited) {
	<-e.recovered
	l := e.exactly(x.Namespace, x.ID)
	if l == nil {
		return
	}
	if p, err := l.proc(x.Exec); err == nil {
		e.exited(l, p, x.Exit)
	}
}

func (e *Engine) exited(l *live, p *proc, x wire.Exit) {
	<-p.begun
	p.mu.Lock()
	another := x.PID != 0 && p.pid != 0 && x.PID != p.pid // one of an earlier start, which had to give way
	if p.exit != nil || another {
		p.mu.Unlock()
		return
	}
	p.exit = &x
	p.mu.Unlock()
	if p.execID == "" {
		err := e.note(l, func(c *Container) {
			c.Exit, c.PID, c.StartTime = &x, 0, 0
			switch {
			case c.AutoRemove:
				c.State = Removing // with one write instead of two
			case c.State != Removing:
				c.State = Exited
			}
		})
		if err != nil && !errdefs.IsNotFound(err) {
			e.Log.Error("record an exit", "id", l.key.id, "error", err)
		}
	}
	attributes := map[string]string{"code": fmt.Sprint(x.Code), "pid": fmt.Sprint(x.PID)}
	if p.execID != "" {
		attributes["exec"] = p.execID
	}
	if x.OOM {
		e.publish(l, "oom", attributes)
	}
	e.publish(l, "exit", attributes)
	if p.execID == "" {
		e.tellStopped(l)
	}
	close(p.exited)
	if p.execID == "" {
		e.afterExit(l)
	}
	if p.once {
		if err := e.dropExec(e.ctx, l, p); err != nil {
			e.Log.Warn("forget an executed process", "id", l.key.id, "exec", p.execID, "error", err)
		}
	}
	close(p.done)
}

// afterExit frees what a container has only while it runs, and plans what becomes of it.
func (e *Engine) afterExit(l *live) {
	e.tellUnmounted(l.record())
	e.untune(l)
	if l.record().AutoRemove {
		e.autoRemove(l)
		return
	}
	e.leaveAfterExit(l)
	e.planned(l, hasExited)
}

// autoRemove removes a container whose client asked for it, before those who wait are told of the exit.
func (e *Engine) autoRemove(l *live) {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err == nil {
		defer unlock()
		if l.isGone() {
			return
		}
		err = e.remove(ctx, l)
	}
	if err != nil {
		e.Log.Warn("a container is not wholly removed after its exit; it will be at the next start, or by a delete",
			"id", l.key.id, "error", err)
	}
}

// HandleOOM takes the news that the kernel killed a process of a container for want of memory.
func (e *Engine) HandleOOM(o wire.OOM) {
	<-e.recovered
	l := e.exactly(o.Namespace, o.ID)
	if l != nil {
		e.publish(l, "oom", map[string]string{"count": fmt.Sprint(o.Count)})
	}
}

// HandleLost takes the news that a supervisor died; its containers live on with a new one.
func (e *Engine) HandleLost(group string, containers int) {
	e.Log.Warn("a supervisor died; another takes its containers over", "group", group, "containers", containers)
}

// Wait returns how a process ended, when it has.
func (e *Engine) Wait(ctx context.Context, ns, id, execID string) (wire.Exit, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return wire.Exit{}, err
	}
	p, err := l.proc(execID)
	if err != nil {
		if c := l.record(); execID == "" && c.Exit != nil {
			return *c.Exit, nil
		}
		return wire.Exit{}, err
	}
	exit, err := p.wait(ctx)
	if err != nil {
		return wire.Exit{}, fmt.Errorf("wait for container %s: %w", l.key.id, err)
	}
	return exit, nil
}

func (p *proc) wait(ctx context.Context) (wire.Exit, error) {
	select {
	case <-p.done:
		return *p.ended(), nil
	case <-ctx.Done():
		return wire.Exit{}, context.Cause(ctx)
	}
}

// awaitExit waits for a process that has been killed.
func awaitExit(ctx context.Context, p *proc, limit time.Duration) error {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.exited:
		return nil
	case <-t.C:
		return fmt.Errorf("process %d has not ended %s after SIGKILL; the kernel may hold it in a system call: try again later: %w",
			p.info(false).PID, limit, errdefs.ErrUnavailable)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
