package engine

import (
	"context"

	"github.com/containerd/errdefs"
)

// checkPodRecord looks for what the record of a pod promises and the host does not have, and for one that is left half
// made or half removed, with nobody at it, which it removes to repair it.
func (e *Engine) checkPodRecord(ctx context.Context, p *livePod, repair bool) []Problem {
	found := func(what, remedy string, repaired bool) []Problem {
		return []Problem{{Kind: "pod", Object: p.key.String(), Problem: what, Remedy: remedy, Repaired: repaired}}
	}
	unlock, free := e.locks.TryLock(podLock(p.key))
	if !free {
		return nil // somebody is at it
	}
	defer unlock()
	if p.isGone() {
		return nil // somebody has just been
	}
	rec := p.record()
	switch {
	case rec.State == PodCreating:
		return found("left half made", "remove it", repair && e.undoPod(ctx, p) == nil)
	case rec.State == PodRemoving:
		return found("left half removed", "remove it", repair && e.undoPod(ctx, p) == nil)
	case rec.State == PodReady && !e.isPinned(rec):
		return found("recorded as ready, and its namespaces are gone", "remove it, and run another", false)
	}
	return nil
}

// ownedPod says whether there is a pod with this id, or a record of one that cannot be read.
func (e *Engine) ownedPod(ns, id string) bool {
	e.mu.RLock()
	p := e.pods[key{ns, id}]
	e.mu.RUnlock()
	if p != nil {
		return true
	}
	_, err := e.Pods.Get(ns, id)
	return err == nil || errdefs.IsDataLoss(err) || errdefs.IsFailedPrecondition(err)
}
