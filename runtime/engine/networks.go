package engine

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/network"
)

// networksLock is held while networks are made or removed, so that no two are given the same name or subnet.
const networksLock = "networks"

// userNetworks are the records of the networks that users have made, of all namespaces, but for those that are only a
// configuration.
func (e *Engine) userNetworks() []network.Record {
	records, err := e.Networks.List("")
	if errdefs.IsDataLoss(err) {
		e.Log.Error("some networks are not known; see what check says", "error", err)
	} else if err != nil {
		e.Log.Error("the networks are not known", "error", err)
	}
	all := make([]network.Record, 0, len(records))
	for _, r := range records {
		if !r.Value.ConfigOnly {
			all = append(all, r.Value)
		}
	}
	return all
}

// predefined are the networks that every namespace has. What the default one is like, the built-in network knows once it
// is made.
func (e *Engine) predefined(ctx context.Context) ([]network.Record, error) {
	bridge, err := e.Network.DefaultNetwork(ctx)
	if err != nil {
		return nil, err
	}
	all := []network.Record{bridge}
	for _, name := range []string{network.Host, network.None} {
		driver := name
		if name == network.None {
			driver = "null"
		}
		all = append(all, network.Record{ID: network.PredefinedID(name), Name: name, Driver: driver, State: network.NetworkReady})
	}
	return all, nil
}

func isPredefined(r network.Record) bool {
	return slices.Contains([]string{network.Default, network.Host, network.None}, r.Name)
}

// listNetworks are the networks that a namespace sees, the predefined ones first, the others by name.
func (e *Engine) listNetworks(ctx context.Context, ns string) ([]network.Record, error) {
	all, err := e.predefined(ctx)
	if err != nil {
		return nil, err
	}
	own, err := e.Networks.List(ns)
	if err != nil && !errdefs.IsDataLoss(err) {
		return nil, fmt.Errorf("list the networks: %w", err)
	}
	first := len(all)
	for _, r := range own {
		all = append(all, r.Value)
	}
	sort.Slice(all[first:], func(i, j int) bool { return all[first+i].Name < all[first+j].Name })
	return all, nil
}

// findNetwork is a network by its name, its id, or an unambiguous prefix of its id.
func (e *Engine) findNetwork(ctx context.Context, ns, name string) (network.Record, error) {
	if name == "" {
		return network.Record{}, fmt.Errorf("the name of the network is empty: give one: %w", errdefs.ErrInvalidArgument)
	}
	all, err := e.listNetworks(ctx, ns)
	if err != nil {
		return network.Record{}, err
	}
	return pickNetwork(all, ns, name)
}

func pickNetwork(all []network.Record, ns, name string) (network.Record, error) {
	var found []network.Record
	for _, r := range all {
		if r.Name == name || r.ID == name {
			return r, nil
		}
		if strings.HasPrefix(r.ID, name) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return network.Record{}, fmt.Errorf("network %s: not in namespace %s: create it first: %w", name, ns, errdefs.ErrNotFound)
	}
	var names []string
	for _, r := range found {
		names = append(names, r.Name)
	}
	return network.Record{}, fmt.Errorf("network %s is ambiguous, it begins the ids of %s: give more of it: %w", name, strings.Join(names, ", "), errdefs.ErrInvalidArgument)
}

func (e *Engine) publishNetwork(r network.Record, action string) {
	e.Events.Publish(events.Event{
		Time: time.Now(), Namespace: r.Namespace, Type: "network", Action: action, ID: r.ID,
		Attributes: map[string]string{"name": r.Name, "driver": r.Driver},
	})
}
