package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/plugin"
)

// StopPod ends a pod for good: its containers are killed, its network is left, its namespaces go. It can be repeated.
func (e *Engine) StopPod(ctx context.Context, ns, id string) error {
	p, unlock, err := e.endingPod(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	// Once begun it is done, whatever becomes of the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	return e.stopPod(ctx, p)
}

// endingPod is a pod that nobody else works on any more: what was at work on it is told that it ends.
func (e *Engine) endingPod(ctx context.Context, ns, id string) (p *livePod, unlock func(), err error) {
	if p, err = e.findPod(ns, id); err != nil {
		return nil, nil, err
	}
	p.end()
	unlock, err = e.lockedPod(ctx, p)
	return p, unlock, err
}

// stopPod stops what is left to stop. The caller has the lock.
func (e *Engine) stopPod(ctx context.Context, p *livePod) error {
	before := p.record()
	if before.State != PodReady && e.isDown(p) {
		return nil
	}
	if err := e.dismantle(ctx, p); err != nil {
		return fmt.Errorf("stop pod %s: %s: %w", p.key.id, p.stage(), err)
	}
	err := e.savePod(p, func(rec *Pod) {
		rec.Attachment = nil
		if rec.State == PodReady { // what is half made or half removed remains so
			rec.State = PodStopped
		}
	})
	if err == nil && before.State == PodReady {
		e.publishPod(p, "stop")
		e.tellPod(ctx, plugin.PodStopped, p.record())
	}
	return err
}

// isDown says whether nothing is left to stop of a pod that is not ready.
func (e *Engine) isDown(p *livePod) bool {
	rec := p.record()
	for _, l := range e.inPod(p.key) {
		if first, err := l.proc(""); err == nil && first.ended() == nil {
			return false
		}
	}
	return rec.Attachment == nil && !pin.Any(e.pinDir(rec))
}

// RemovePod removes a pod with its containers and everything on the host that is its own.
func (e *Engine) RemovePod(ctx context.Context, ns, id string) error {
	p, unlock, err := e.endingPod(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := e.undoPod(ctx, p); err != nil {
		return fmt.Errorf("remove pod %s: %s: %w", p.key.id, p.stage(), err)
	}
	return nil
}

// undoPod is removePod, whatever becomes of the caller.
func (e *Engine) undoPod(ctx context.Context, p *livePod) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	return e.removePod(ctx, p)
}

// removePod is the undo of everything: from whatever state, it tries every resource, joins the errors, and deletes the
// record last. The caller has the lock.
func (e *Engine) removePod(ctx context.Context, p *livePod) (err error) {
	p.end()
	p.leaves(nil)
	defer func() { p.leaves(err) }()
	before := p.record().State
	if before != PodCreating && before != PodRemoving { // what is being made is removed after a crash just the same
		if err := e.savePod(p, func(rec *Pod) { rec.State = PodRemoving }); err != nil {
			return err
		}
	}
	if before == PodReady {
		e.publishPod(p, "stop")
	}
	if err := failpoint.Hit("pod-removing"); err != nil {
		return err
	}
	if err := e.dismantle(ctx, p); err != nil {
		return err
	}
	p.at("remove its containers")
	if err := e.each(e.inPod(p.key), func(l *live) error { return e.alone(ctx, l, e.remove) }); err != nil {
		return err
	}
	p.at("remove its files")
	if err := removePodDir(e.podDir(p.record())); err != nil {
		return err
	}
	if err := failpoint.Hit("pod-before-record"); err != nil {
		return err
	}
	return e.forgetPod(ctx, p, before)
}

// removePodDir removes a pod's directory with what is mounted in it.
func removePodDir(dir string) error {
	if err := errors.Join(pin.Remove(pinDir(dir)), mount.Unmount(podShm(dir))); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// dismantle ends what lives of a pod: processes first, so that nobody uses the network when it goes. The rest is
// tried whatever becomes of a part of it.
func (e *Engine) dismantle(ctx context.Context, p *livePod) error {
	p.at("kill its containers")
	killed := e.each(e.inPod(p.key), func(l *live) error { return e.alone(ctx, l, e.kill) })
	if killed != nil {
		return killed // a process that lives keeps the network it uses
	}
	rec := p.record()
	errs := []error{hideLogs(rec)}
	if rec.Network == ModePod {
		p.at("leave the network")
		errs = append(errs, e.Network.Detach(ctx, e.networkRequest(rec), rec.Attachment))
		if len(rec.UIDMap) == 0 {
			errs = append(errs, e.Network.RemoveNamespace(ctx, pin.Path(e.pinDir(rec), pin.Network)))
		}
	}
	left := errors.Join(errs...)
	p.at("remove its namespaces")
	unpinned := pin.Remove(e.pinDir(rec))
	if left != nil {
		p.at("leave the network")
	}
	return errors.Join(left, unpinned)
}

// alone does something to a container with its lock held, unless it is gone. It is not looked for by its id, which
// another's may begin with.
func (e *Engine) alone(ctx context.Context, l *live, do func(context.Context, *live) error) error {
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		return fmt.Errorf("container %s is busy (%s): %w", l.key.id, l.stage(), err)
	}
	defer unlock()
	if l.isGone() {
		return nil
	}
	if err := do(ctx, l); err != nil {
		return fmt.Errorf("container %s: %w", l.key.id, err)
	}
	return nil
}

// each does something to all of them at once, and joins the errors.
func (e *Engine) each(list []*live, do func(*live) error) error {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, l := range list {
		all.Go(func() { errs[i] = do(l) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// forgetPod deletes the record, and the pod with it.
func (e *Engine) forgetPod(ctx context.Context, p *livePod, before PodState) error {
	p.mu.Lock()
	err := e.Pods.DeleteSoon(p.key.ns, p.key.id)
	p.gone = err == nil // no save comes between, which would bring the record back
	name := p.rec.Key
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("delete the record: %w", err)
	}
	e.mu.Lock()
	delete(e.pods, p.key)
	e.podKeys.drop(p.key.ns, name, p)
	e.mu.Unlock()
	e.releaseLabel(p.record().SELinux)
	e.publishPod(p, "delete")
	e.tellForgotten(ctx, p.record(), before)
	return nil
}
