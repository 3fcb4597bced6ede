package engine

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
)

// freeze lets the processes of a container stand still until thaw, as far as it has any. Its state says nothing of it:
// nobody else comes between while the container is locked. But its record does, before they are frozen: should the
// daemon die, the next one thaws them.
func (e *Engine) freeze(ctx context.Context, l *live) (thaw func(), err error) {
	if p, err := l.proc(""); l.state() != Running || err != nil || p.ended() != nil {
		return func() {}, nil
	}
	if err := e.note(l, func(c *Container) { c.Frozen = true }); err != nil {
		return nil, err
	}
	thaw = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		err := e.sandboxes.Resume(ctx, process(l, ""))
		if err == nil || errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) { // it runs, or has ended
			err = e.note(l, func(c *Container) { c.Frozen = false })
		}
		if err != nil && !errdefs.IsNotFound(err) {
			e.Log.Warn("a container may stay frozen until the daemon starts again", "id", l.key.id, "error", err)
		}
	}
	err = e.sandboxes.Pause(ctx, process(l, ""))
	if err == nil {
		err = failpoint.Hit("frozen")
	}
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		err = nil // it has just ended
	}
	if err != nil {
		thaw()
		return nil, err
	}
	return thaw, nil
}

// thawLeft thaws a container that the last daemon has left frozen, and says whether it runs now.
func (e *Engine) thawLeft(l *live) bool {
	if !l.record().Frozen {
		return false
	}
	ctx, cancel := context.WithTimeout(e.ctx, killTimeout)
	defer cancel()
	if err := e.sandboxes.Resume(ctx, process(l, "")); err != nil {
		e.Log.Error("a container stays paused: resume it", "id", l.key.id, "error", err)
		return false
	}
	return true
}
