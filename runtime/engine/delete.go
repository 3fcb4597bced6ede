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
	settleTimeout = time.Second           // for news of processes that ended with their container
	askAgain      = 20 * time.Millisecond // whether a process that nobody waits for has ended
)

// DeleteOptions changes how a container is deleted.
type DeleteOptions struct {
	Force        bool // kill it first when it runs
	KeepSnapshot bool
	Volumes      bool // the anonymous ones that were made for it too, unless others use them
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
	if o.KeepSnapshot || o.Volumes {
		err := e.save(l, func(c *Container) {
			c.KeepSnapshot, c.TakeVolumes = c.KeepSnapshot || o.KeepSnapshot, c.TakeVolumes || o.Volumes
		})
		if err != nil {
			return nil, err
		}
	}
	if err := e.undo(ctx, l); err != nil {
		return nil, fmt.Errorf("delete container %s: %w", l.key.id, err)
	}
	return l.record().Exit, nil
}

// undo is remove, whatever becomes of the caller.
func (e *Engine) undo(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	return e.remove(ctx, l)
}

// remove is the undo of everything: from whatever state, it tries every resource, joins the errors, and deletes the
// record last. While something stays, so does the record, and remove can be called again. The caller has the lock.
func (e *Engine) remove(ctx context.Context, l *live) (err error) {
	l.at("removing it")
	l.leaves(nil)
	defer func() { l.leaves(err) }()
	l.noRestart()
	if s := l.state(); s != Removing && s != Creating { // what is being made is removed after a crash just the same
		if err := e.note(l, func(c *Container) { c.State = Removing }); err != nil {
			return err
		}
	}
	if err := failpoint.Hit("remove-recorded"); err != nil {
		return err
	}
	recorded := e.flushed()
	// While a process lives, which may be in the mounts, they stay.
	if err := e.kill(ctx, l); err != nil {
		return err
	}
	if err := e.wipe(ctx, process(l, "")); err != nil {
		return err
	}
	e.settleExecs(ctx, l)
	// From here on goes what a power cut would leave: half of it, and a record that says nothing of that.
	if err := <-recorded; err != nil {
		return fmt.Errorf("record its removal: %w", err)
	}
	if err := failpoint.Hit("remove-stopped"); err != nil {
		return err
	}
	c := l.record()
	if err := errors.Join(e.leaveNetworks(ctx, l), e.untuned(c), e.releaseVolumes(ctx, c), e.detachBundle(e.Bundle(c)), e.removeSnapshot(ctx, c)); err != nil {
		return err
	}
	if err := e.takeVolumes(ctx, c); err != nil {
		return err
	}
	if err := failpoint.Hit("remove-unmounted"); err != nil {
		return err
	}
	l.endShipping()
	if err := errors.Join(e.unlinkLog(c), os.RemoveAll(e.Bundle(c)), os.RemoveAll(e.home(c))); err != nil {
		return err
	}
	if err := failpoint.Hit("remove-before-record"); err != nil {
		return err
	}
	return e.forget(l)
}

// closers are so many ends of root filesystems at once: a wait for the disk serves those that follow it, unless others keep
// the disk busy, and each has a thread.
const closers = 4

// detachBundle is unmountBundle, and leaves the end of the root filesystem to the background: the kernel waits until the
// whole disk is written back, for the sake of files that are about to be deleted. Nobody uses it any more, and the end of
// the daemon is its end too.
func (e *Engine) detachBundle(bundle string) error {
	root, err := mount.Detach(rootfsDir(bundle))
	if root != nil {
		e.background.Go(func() {
			e.closing <- struct{}{}
			defer func() { <-e.closing }()
			root.Close()
		})
	}
	return errors.Join(err, unmountBeside(bundle))
}

// flushed has what is recorded put on disk, beside what is done meanwhile.
func (e *Engine) flushed() <-chan error {
	done := make(chan error, 1)
	e.background.Go(func() { done <- e.Store.Flush() })
	return done
}

// kill ends what runs of the container.
func (e *Engine) kill(ctx context.Context, l *live) error {
	p, err := l.proc("")
	if err != nil {
		return nil
	}
	if p.ended() == nil {
		if err := e.sigkill(ctx, process(l, "")); err != nil {
			return err
		}
	}
	return awaitExit(ctx, p, killTimeout)
}

// sigkill kills a container that may have ended by itself.
func (e *Engine) sigkill(ctx context.Context, p wire.Process) error {
	err := e.sandboxes.Signal(ctx, wire.Signal{Process: p, Signal: int(syscall.SIGKILL), All: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	// On cgroup v1 a frozen process dies when it thaws.
	if err := e.sandboxes.Resume(ctx, p); err != nil {
		e.Log.Debug("thaw a container to let it die", "id", p.ID, "error", err)
	}
	return nil
}

// wipe makes the supervisor forget a container with all that it made of it. One that runs, though it is not known here
// to run (the answer to a start was lost, or a crash came between), is killed.
func (e *Engine) wipe(ctx context.Context, p wire.Process) error {
	_, err := e.sandboxes.Delete(ctx, p)
	if errdefs.IsFailedPrecondition(err) {
		err = e.wipeRunning(ctx, p)
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (e *Engine) wipeRunning(ctx context.Context, p wire.Process) error {
	if err := e.sigkill(ctx, p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for tick := time.NewTicker(askAgain); ; {
		_, err := e.sandboxes.Delete(ctx, p)
		if !errdefs.IsFailedPrecondition(err) {
			tick.Stop()
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("not ended after SIGKILL; the kernel may hold it in a system call: try again later: %w: %w", err, errdefs.ErrUnavailable)
		}
	}
}

// settleExecs waits for the exits of what was executed in a container that is gone, which are on their way. Those that
// do not come are taken for killed with it: nobody shall wait for them for ever.
func (e *Engine) settleExecs(ctx context.Context, l *live) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, p := range l.execs() {
		select {
		case <-p.exited:
			continue
		case <-ctx.Done():
		}
		p.end(wire.Exit{
			PID: p.info(false).PID, Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), Time: time.Now(),
			Reason: "its container is gone",
		})
	}
}

func (e *Engine) removeSnapshot(ctx context.Context, c Container) error {
	if err := errors.Join(e.removeImageViews(ctx, c), e.removeComparison(ctx, c)); err != nil {
		return err
	}
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
	l.mu.Lock()
	announced := l.rec.State != Creating
	err := e.Containers.DeleteSoon(l.key.ns, l.key.id) // should it come back, it is removed again
	l.gone = err == nil                                // no save comes between, which would bring the record back
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("delete the record of container %s: %w", l.key.id, err)
	}
	e.mu.Lock()
	delete(e.containers, l.key)
	e.keys.drop(l.key.ns, l.name, l)
	e.mu.Unlock()
	e.freeName(l, l.record().Name)
	e.releaseLabels(l.record())
	if announced {
		e.publish(l, "delete", nil)
	}
	e.tellRemoved(l, announced)
	return nil
}
