package engine

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

const networkTimeout = 10 * time.Second // for each step of the network's recovery, unless the configuration says otherwise

// loadPods reads the records of the last daemon, before the containers', whose specs depend on them. all says that none
// is damaged.
func (e *Engine) loadPods() (all bool, err error) {
	records, err := e.Pods.List("")
	all = err == nil
	if errdefs.IsDataLoss(err) {
		e.Log.Error("some pods are not known; see what check says", "error", err)
	} else if err != nil {
		return false, fmt.Errorf("load the pods: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range records {
		k := key{r.Namespace, r.Key}
		p := &livePod{key: k, rec: r.Value}
		e.pods[k] = p
		e.reserveLabel(r.Value.SELinux)
		if e.podKeys[key{k.ns, r.Value.Key}] == nil || r.Value.State != PodRemoving { // the one that stays
			e.podKeys.put(k.ns, r.Value.Key, p)
		}
	}
	return all, nil
}

// recoverPods settles what has become of each pod, once the containers are known: what a crash left half made or half
// removed is removed in the background, and one whose namespaces a reboot has taken is stopped. The network is made as
// the records need it.
func (e *Engine) recoverPods(ctx context.Context, all bool) error {
	var attachments []network.Attachment
	var rest []*livePod
	for _, p := range e.livePods("") {
		rec := p.record()
		next := settlePod(rec, e.isPinned(rec))
		if next == PodStopped && rec.State != PodStopped {
			if err := e.savePod(p, func(rec *Pod) { rec.State = PodStopped }); err != nil {
				return err
			}
			e.publishPod(p, "stop")
		}
		if next == PodRemoving || next == PodStopped && !e.isDown(p) {
			p.end()
			rest = append(rest, p)
		}
		if rec.Attachment != nil {
			attachments = append(attachments, *rec.Attachment)
		}
	}
	attachments = append(attachments, e.attached()...)
	e.recoverNetwork(ctx, attachments, all)
	e.background.Go(func() { e.endPods(rest) })
	return nil
}

// recoverNetwork makes the network as the attachments need it, and has it drop what belongs to none. It ends before the
// first new pod, which the list does not have. Where a record is damaged, what belongs to none may be that pod's, and
// stays.
func (e *Engine) recoverNetwork(ctx context.Context, attachments []network.Attachment, all bool) {
	bounded := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(e.Config.RecoveryTimeout, networkTimeout))
		defer cancel()
		return do(ctx)
	}
	networks := e.recoverNetworks(ctx)
	if err := bounded(func(ctx context.Context) error { return e.Network.Restore(ctx, networks, attachments) }); err != nil {
		e.Log.Error("the network is not as it should be", "error", err)
	}
	if !all {
		return
	}
	ids := make([]string, len(attachments))
	for i, a := range attachments {
		ids[i] = a.ID
	}
	if err := bounded(func(ctx context.Context) error { return e.Network.Collect(ctx, ids) }); err != nil {
		e.Log.Warn("what belongs to no pod is not wholly removed from the network; it will be at the next start", "error", err)
	}
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

// endPods removes what is left half made or half removed, and stops for good what a reboot has stopped, a few at a time.
func (e *Engine) endPods(list []*livePod) {
	slots := make(chan struct{}, removals)
	for _, p := range list {
		slots <- struct{}{}
		e.background.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(e.ctx, removeTimeout)
			defer cancel()
			err := e.endPod(ctx, p)
			if err != nil && !errdefs.IsNotFound(err) {
				e.Log.Warn("a pod is not wholly stopped or removed; remove it later", "id", p.key.id, "error", err)
			}
		})
	}
}

func (e *Engine) endPod(ctx context.Context, p *livePod) error {
	unlock, err := e.lockedPod(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	if p.record().State == PodStopped {
		return e.stopPod(ctx, p)
	}
	return e.removePod(ctx, p)
}
