package engine

import (
	"context"
	"fmt"
	"maps"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// like is a network that is asked for with what the configuration has that it names: all but its own name, driver and
// whether there is a way out of it, as with Docker.
func like(all []network.Record, ns string, o NewNetwork) (NewNetwork, error) {
	if o.ConfigFrom == "" {
		return o, nil
	}
	if o.ConfigOnly {
		return o, fmt.Errorf("a configuration cannot be made like another one: leave out one of the two: %w", errdefs.ErrInvalidArgument)
	}
	if len(o.Subnets) > 0 || len(o.Options) > 0 || len(o.Labels) > 0 || o.IPv6 || o.NoIPv4 {
		return o, fmt.Errorf("subnets, options, labels and the like come from the configuration %s: leave them out: %w", o.ConfigFrom, errdefs.ErrInvalidArgument)
	}
	from, err := pickNetwork(all, ns, o.ConfigFrom)
	if err != nil {
		return o, fmt.Errorf("the configuration: %w", err)
	}
	if !from.ConfigOnly {
		return o, fmt.Errorf("network %s is no configuration: make one with config-only: %w", from.Name, errdefs.ErrInvalidArgument)
	}
	o.ConfigFrom, o.Subnets, o.Options, o.Labels = from.Name, from.Subnets, maps.Clone(from.Options), maps.Clone(from.Labels)
	o.IPv6, o.NoIPv4 = from.IPv6, from.NoIPv4
	return o, nil
}

// keepConfig records a configuration. There is nothing else of it.
func (e *Engine) keepConfig(rec network.Record) (NetworkInfo, error) {
	if rec.Internal || rec.Attachable {
		return NetworkInfo{}, fmt.Errorf("configuration %s: internal and attachable are said of the networks that are made like it: leave it out: %w", rec.Name, errdefs.ErrInvalidArgument)
	}
	if rec.Driver != "" && rec.Driver != network.DriverBridge {
		return NetworkInfo{}, fmt.Errorf("configuration %s: the driver is said of the networks that are made like it: leave it out: %w", rec.Name, errdefs.ErrInvalidArgument)
	}
	rec.Driver, rec.ConfigOnly, rec.State = "null", true, network.NetworkReady
	if err := e.Namespaces.Ensure(rec.Namespace); err != nil {
		return NetworkInfo{}, err
	}
	if err := e.Networks.Create(rec.Namespace, rec.ID, rec); err != nil {
		return NetworkInfo{}, fmt.Errorf("record network %s: %w", rec.Name, err)
	}
	e.publishNetwork(rec, "create")
	return NetworkInfo{Record: rec}, nil
}

// forgetConfig removes a configuration that no network was made like.
func (e *Engine) forgetConfig(ctx context.Context, rec network.Record) error {
	all, err := e.listNetworks(ctx, rec.Namespace)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.ConfigFrom == rec.Name {
			return fmt.Errorf("configuration network %s is in use by network %s: remove that first: %w", rec.Name, r.Name, errdefs.ErrFailedPrecondition)
		}
	}
	if err := e.Networks.Delete(rec.Namespace, rec.ID); err != nil {
		return fmt.Errorf("remove the record of network %s: %w", rec.Name, err)
	}
	e.publishNetwork(rec, "remove")
	return nil
}

// joinable is findNetwork, for one that containers can be in.
func (e *Engine) joinable(ctx context.Context, ns, name string) (network.Record, error) {
	r, err := e.findNetwork(ctx, ns, name)
	if err == nil && r.ConfigOnly {
		err = fmt.Errorf("network %s is a configuration only: make a network like it with --config-from %s: %w", r.Name, r.Name, errdefs.ErrPermissionDenied)
	}
	return r, err
}
