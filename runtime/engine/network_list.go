package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/minirt/mini/runtime/network"
)

// NetworkInfo is a network and who is in it.
type NetworkInfo struct {
	network.Record
	Members []NetworkMember
}

// NetworkMember is a container that belongs to a network. One that does not run has no attachment.
type NetworkMember struct {
	ID, Name   string
	Attachment *network.Attachment
}

// ListNetworks returns the networks that a namespace sees: the predefined ones, then the others by name.
func (e *Engine) ListNetworks(ctx context.Context, ns string) ([]NetworkInfo, error) {
	all, err := e.listNetworks(ctx, ns)
	if err != nil {
		return nil, err
	}
	infos := make([]NetworkInfo, len(all))
	for i, r := range all {
		infos[i] = NetworkInfo{Record: r, Members: e.membersOf(ns, r)}
	}
	return infos, nil
}

// InspectNetwork returns a network by its name, its id, or an unambiguous prefix of its id.
func (e *Engine) InspectNetwork(ctx context.Context, ns, name string) (NetworkInfo, error) {
	r, err := e.findNetwork(ctx, ns, name)
	if err != nil {
		return NetworkInfo{}, err
	}
	return NetworkInfo{Record: r, Members: e.membersOf(ns, r)}, nil
}

// membersOf are the containers of the namespace that belong to a network, by name.
func (e *Engine) membersOf(ns string, r network.Record) []NetworkMember {
	e.mu.RLock()
	var lives []*live
	for k, l := range e.containers {
		if k.ns == ns {
			lives = append(lives, l)
		}
	}
	e.mu.RUnlock()
	var members []NetworkMember
	for _, l := range lives {
		if m, ok := memberOf(l.record(), r); ok {
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b NetworkMember) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return members
}
