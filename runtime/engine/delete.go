package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

const (
	removeTimeout = 60 * time.Second
	killTimeout   = 10 * time.Second
)

// DeleteOptions changes how a container is deleted.
type DeleteOptions struct {
	Force        bool // kill it first when it runs
	KeepSnapshot bool
}

// Delete removes a container and everything on the host that is its own, and returns how it ended, if it ever ran.
func (e *Engine) Delete(ctx context.Context, ns, id string, o DeleteOptions) (*wire.Exit, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !o.Force {
		if err := l.require("delete", Created, Exited, Removing, Creating); err != nil {
			return nil, err
		}
	}
	if o.KeepSnapshot {
		if err := e.save(l, func(c *Container) { c.KeepSnapshot = true }); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := e.remove(ctx, l); err != nil {
		return nil, fmt.Errorf("delete container %s: %w", l.key.id, err)
	}
	return l.record().Exit, nil
}

// remove is the undo of everything: from whatever state, it tries every resource, joins the errors, and deletes the
// record last. While something stays, so does the record, and remove can be called again. The caller has the lock.
func (e *Engine) remove(ctx context.Context, l *live) error {
	l.at("removing it")
	if l.state() != Removing {
		if err := e.save(l, func(c *Container) { c.State = Removing }); err != nil {
			return err
		}
	}
	if err := failpoint.Hit("remove-recorded"); err != nil {
		return err
	}
	c := l.record()
	err := e.kill(ctx, l)
	if _, gone := e.sandboxes.Delete(ctx, process(l, "")); gone != nil && !errdefs.IsNotFound(gone) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err // a process may live in the mounts: they stay until it is gone
	}
	if err := failpoint.Hit("remove-stopped"); err != nil {
		return err
	}
	err = errors.Join(mount.Unmount(rootfsDir(e.Bundle(c))), e.removeSnapshot(ctx, c))
	if err != nil {
		return err
	}
	if err := failpoint.Hit("remove-unmounted"); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(e.Bundle(c)), os.RemoveAll(e.home(c))); err != nil {
		return err
	}
	if err := failpoint.Hit("remove-before-record"); err != nil {
		return err
	}
	return e.forget(l)
}

// kill ends what runs of the container.
func (e *Engine) kill(ctx context.Context, l *live) error {
	p, err := l.proc("")
	if err != nil || p.ended() != nil {
		return nil
	}
	kill := wire.Signal{Process: process(l, ""), Signal: int(syscall.SIGKILL), All: true}
	if err := e.sandboxes.Signal(ctx, kill); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	// On cgroup v1 a frozen process dies when it thaws.
	if err := e.sandboxes.Resume(ctx, process(l, "")); err != nil {
		e.Log.Debug("thaw a container to let it die", "id", l.key.id, "error", err)
	}
	return awaitExit(ctx, p, killTimeout)
}

func (e *Engine) removeSnapshot(ctx context.Context, c Container) error {
	if c.Snapshot == "" || c.KeepSnapshot {
		return nil
	}
	s := e.Snapshotters[c.Snapshotter]
	if s == nil {
		return fmt.Errorf("snapshotter %s of container %s is not configured any more: configure it again: %w",
			c.Snapshotter, c.ID, errdefs.ErrFailedPrecondition)
	}
	err := s.Remove(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// forget deletes the record, and the container with it.
func (e *Engine) forget(l *live) error {
	if err := e.Containers.Delete(l.key.ns, l.key.id); err != nil {
		return fmt.Errorf("delete the record of container %s: %w", l.key.id, err)
	}
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	e.mu.Lock()
	delete(e.containers, l.key)
	e.mu.Unlock()
	e.publish(l, "delete", nil)
	return nil
}
