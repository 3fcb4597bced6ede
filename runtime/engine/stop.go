package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Stop brings a container to an end: its stop signal, then, after the timeout, SIGKILL. One that does not run is no
// error. A second call may shorten the first one's patience.
func (e *Engine) Stop(ctx context.Context, ns, id string, o StopOptions) error {
	l, err := e.find(ns, id)
	if err != nil {
		return err
	}
	if err := e.noteStopped(l); err != nil {
		return err
	}
	p, err := l.proc("")
	if (err != nil || p.ended() != nil) && !l.record().Restart.none() {
		p, err = e.firstAfter(ctx, l)
	}
	if err != nil || p.ended() != nil {
		return nil
	}
	select {
	case <-p.begun:
	case <-ctx.Done():
		return fmt.Errorf("stop container %s, which is being started: %w", l.key.id, context.Cause(ctx))
	}
	if o.Timeout > 0 {
		ended, err := e.ask(ctx, l, p, o)
		if err != nil {
			return err
		}
		if ended {
			return e.awaitLeft(ctx, l, p)
		}
	}
	killCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	err = e.sigkill(killCtx, process(l, ""))
	if err == nil {
		err = awaitExit(ctx, p, killTimeout)
	}
	if err != nil {
		return fmt.Errorf("stop container %s: %w", l.key.id, err)
	}
	return e.awaitLeft(ctx, l, p)
}

// StopLike is Stop with a timeout that is the container's own when it is nil; a negative one never ends.
func (e *Engine) StopLike(ctx context.Context, ns, id, signal string, timeout *time.Duration) error {
	l, err := e.find(ns, id)
	if err != nil {
		return err
	}
	return e.Stop(ctx, ns, l.key.id, StopOptions{Signal: signal, Timeout: patience(l.record(), timeout)})
}

// firstAfter is the first process of a container after whatever is being done to it, as a start by its policy.
func (e *Engine) firstAfter(ctx context.Context, l *live) (*proc, error) {
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		return nil, err
	}
	unlock()
	return l.proc("")
}

// awaitLeft waits until a container that has ended has left its networks: who stops it may publish its ports elsewhere.
func (e *Engine) awaitLeft(ctx context.Context, l *live, p *proc) error {
	if !l.record().Net.managed() {
		return nil
	}
	_, err := p.wait(ctx)
	return err
}

// ask sends the stop signal and waits.
func (e *Engine) ask(ctx context.Context, l *live, p *proc, o StopOptions) (ended bool, err error) {
	sig, err := spec.ParseSignal(stopSignal(l.record(), o.Signal))
	if err != nil {
		return false, err
	}
	// A supervisor that hangs shall not hold up the kill that follows.
	asking, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	err = e.sandboxes.Signal(asking, wire.Signal{Process: process(l, ""), Signal: int(sig)})
	if asking.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return false, fmt.Errorf("stop container %s: %w", l.key.id, err)
	}
	timer := time.NewTimer(o.Timeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("stop container %s: it was asked to end and goes on: stop it again: %w", l.key.id, context.Cause(ctx))
	}
}

// stopSignal is the signal that asks a container to end: the caller's, its own, its image's, or TERM.
func stopSignal(c Container, asked string) string {
	if asked == "" && c.Request != nil {
		asked = c.Request.StopSignal
	}
	if asked == "" {
		asked = c.ImageConfig.StopSignal
	}
	if asked == "" {
		asked = "SIGTERM"
	}
	return asked
}
