package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// loadPods reads the records of the last daemon, before the containers', whose specs depend on them.
func (e *Engine) loadPods() error {
	records, err := e.Pods.List("")
	if errdefs.IsDataLoss(err) {
		e.Log.Error("some pods are not known; see what check says", "error", err)
	} else if err != nil {
		return fmt.Errorf("load the pods: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range records {
		k := key{r.Namespace, r.Key}
		e.pods[k] = &livePod{key: k, rec: r.Value}
	}
	return nil
}

// recoverPods settles what has become of each pod, once the containers are known: what a crash left half made or half
// removed is removed in the background, and one whose namespaces a reboot has taken is stopped. The network is made as
// the records of the others need it.
func (e *Engine) recoverPods(ctx context.Context) error {
	var attachments []network.Attachment
	var remove []*livePod
	for _, p := range e.livePods("") {
		rec := p.record()
		switch next := settlePod(rec, e.isPinned(rec)); next {
		case PodRemoving:
			p.end()
			remove = append(remove, p)
		case PodStopped:
			if rec.State != PodStopped {
				if err := e.savePod(p, func(rec *Pod) { rec.State = PodStopped }); err != nil {
					return err
				}
			}
		}
		if rec.Attachment != nil {
			attachments = append(attachments, *rec.Attachment)
		}
	}
	if err := e.Network.Restore(ctx, attachments); err != nil {
		e.Log.Error("the network of the pods is not as it should be", "error", err)
	}
	e.background.Go(func() { e.removePods(remove, attachments) })
	return nil
}

// settlePod is what a pod is after a restart: as it was recorded, but for what was under way, and what did not survive.
func settlePod(rec Pod, pinned bool) PodState {
	switch {
	case rec.State == PodCreating || rec.State == PodRemoving:
		return PodRemoving
	case rec.State == PodReady && !pinned:
		return PodStopped
	}
	return rec.State
}

// removePods removes what is left, a few at a time, and then has the network drop what belongs to nobody.
func (e *Engine) removePods(list []*livePod, attachments []network.Attachment) {
	slots := make(chan struct{}, removals)
	for _, p := range list {
		slots <- struct{}{}
		e.background.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(e.ctx, removeTimeout)
			defer cancel()
			unlock, err := e.lockedPod(ctx, p)
			if err == nil {
				defer unlock()
				err = e.removePod(ctx, p)
			}
			if err != nil && !errdefs.IsNotFound(err) {
				e.Log.Warn("a pod is not wholly removed; remove it later", "id", p.key.id, "error", err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(e.ctx, removeTimeout)
	defer cancel()
	if err := e.Network.Collect(ctx, attachments); err != nil {
		e.Log.Warn("what belongs to no pod is not wholly removed from the network", "error", err)
	}
}
