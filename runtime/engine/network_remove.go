package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
)

// RemoveNetwork removes a network that no container belongs to, whether it runs or not.
func (e *Engine) RemoveNetwork(ctx context.Context, ns, name string) (network.Record, error) {
	unlock, err := e.locks.Lock(ctx, networksLock)
	if err != nil {
		return network.Record{}, err
	}
	defer unlock()
	r, err := e.findNetwork(ctx, ns, name)
	if err != nil {
		return network.Record{}, err
	}
	if isPredefined(r) {
		return network.Record{}, fmt.Errorf("network %s is predefined and cannot be removed: %w", r.Name, errdefs.ErrPermissionDenied)
	}
	if members := e.membersOf(ns, r); len(members) > 0 {
		return network.Record{}, fmt.Errorf("network %s is in use by container %s: remove that first, or disconnect it: %w", r.Name, membersText(members), errdefs.ErrFailedPrecondition)
	}
	if r.ConfigOnly {
		return r, e.forgetConfig(ctx, r)
	}
	return r, e.eraseNetwork(ctx, r)
}

func membersText(members []NetworkMember) string {
	var names []string
	for _, m := range members {
		name := m.Name
		if name == "" {
			name = id.Short(m.ID)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// eraseNetwork takes away what of a network is there, its record last. It may be repeated.
func (e *Engine) eraseNetwork(ctx context.Context, r network.Record) error {
	r.State = network.NetworkRemoving
	if err := e.Networks.Put(r.Namespace, r.ID, r); err != nil {
		return fmt.Errorf("remove network %s: %w", r.Name, err)
	}
	if err := failpoint.Hit("network-removing"); err != nil {
		return err
	}
	if err := e.Network.RemoveNetwork(ctx, r); err != nil {
		return fmt.Errorf("remove network %s: %w", r.Name, err)
	}
	if err := e.Networks.Delete(r.Namespace, r.ID); err != nil {
		return fmt.Errorf("remove the record of network %s: %w", r.Name, err)
	}
	e.publishNetwork(r, "remove")
	return nil
}

// PruneNetworks removes the networks of a namespace that users have made, that no container belongs to, and that match.
func (e *Engine) PruneNetworks(ctx context.Context, ns string, match func(network.Record) bool) ([]network.Record, error) {
	all, err := e.ListNetworks(ctx, ns)
	if err != nil {
		return nil, err
	}
	var removed []network.Record
	var errs []error
	for _, n := range all {
		if isPredefined(n.Record) || len(n.Members) > 0 || !match(n.Record) {
			continue
		}
		r, err := e.RemoveNetwork(ctx, ns, n.ID)
		switch {
		case err == nil:
			removed = append(removed, r)
		case !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err): // somebody was faster, or has begun to use it
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// recoverNetworks removes the networks that a crash left half made or half removed, and returns the others.
func (e *Engine) recoverNetworks(ctx context.Context) []network.Record {
	var ready []network.Record
	for _, r := range e.userNetworks() {
		if r.State == network.NetworkReady {
			ready = append(ready, r)
			continue
		}
		if err := e.eraseNetwork(ctx, r); err != nil {
			e.Log.Warn("a network is not wholly removed; remove it later", "name", r.Name, "error", err)
		}
	}
	return ready
}
