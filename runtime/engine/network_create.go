package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
)

// NewNetwork is a network that is asked for.
type NewNetwork struct {
	Name     string
	Driver   string // empty: bridge
	Labels   map[string]string
	Options  map[string]string // of the driver
	Subnets  []network.Subnet  // at most one of each family; none: chosen
	Internal bool              // no way out of it
	IPv6     bool              // with a subnet of IPv6, which is chosen when none is given
	NoIPv4   bool              // with no other
	// ConfigOnly asks for a configuration that others can be made like; ConfigFrom names the one that this is made like.
	ConfigOnly bool
	ConfigFrom string
	Attachable bool // told again, and no more
}

var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// CreateNetwork makes a network: decided first, then recorded, then made on the host. When it fails nothing is left.
func (e *Engine) CreateNetwork(ctx context.Context, ns string, o NewNetwork) (NetworkInfo, error) {
	if err := checkNetwork(o); err != nil {
		return NetworkInfo{}, err
	}
	unlock, err := e.locks.Lock(ctx, networksLock)
	if err != nil {
		return NetworkInfo{}, err
	}
	defer unlock()
	all, err := e.listNetworks(ctx, ns)
	if err != nil {
		return NetworkInfo{}, err
	}
	for _, r := range all {
		if r.Name == o.Name {
			return NetworkInfo{}, fmt.Errorf("network %s exists in namespace %s as %s: remove it first, or choose another name: %w", o.Name, ns, id.Short(r.ID), errdefs.ErrAlreadyExists)
		}
	}
	if o, err = like(all, ns, o); err != nil {
		return NetworkInfo{}, fmt.Errorf("network %s: %w", o.Name, err)
	}
	rec := network.Record{
		ID: id.New(), Namespace: ns, Name: o.Name, Driver: o.Driver, Labels: o.Labels, Options: o.Options, Subnets: o.Subnets,
		Internal: o.Internal, IPv6: o.IPv6, NoIPv4: o.NoIPv4, CreatedAt: time.Now(), State: network.NetworkCreating,
		ConfigFrom: o.ConfigFrom, Attachable: o.Attachable,
	}
	if o.ConfigOnly {
		return e.keepConfig(rec)
	}
	if rec.Driver == "" {
		rec.Driver = network.DriverBridge
	}
	if rec, err = e.Network.PlanNetwork(ctx, rec, e.userNetworks()); err != nil {
		return NetworkInfo{}, fmt.Errorf("network %s: %w", o.Name, err)
	}
	if err := e.Namespaces.Ensure(ns); err != nil {
		return NetworkInfo{}, err
	}
	if err := e.Networks.Create(ns, rec.ID, rec); err != nil {
		return NetworkInfo{}, fmt.Errorf("record network %s: %w", o.Name, err)
	}
	if err := e.makeNetwork(ctx, &rec); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		return NetworkInfo{}, errors.Join(fmt.Errorf("make network %s: %w", o.Name, err), e.eraseNetwork(ctx, rec))
	}
	e.publishNetwork(rec, "create")
	return NetworkInfo{Record: rec}, nil
}

func checkNetwork(o NewNetwork) error {
	switch {
	case !networkName.MatchString(o.Name):
		return fmt.Errorf("network name %q: use letters, digits, _ . - and begin with a letter or digit, at most 128: %w", o.Name, errdefs.ErrInvalidArgument)
	case isPredefined(network.Record{Name: o.Name}):
		return fmt.Errorf("network %s is predefined and always there: choose another name: %w", o.Name, errdefs.ErrAlreadyExists)
	}
	return nil
}

func (e *Engine) makeNetwork(ctx context.Context, rec *network.Record) error {
	if err := failpoint.Hit("network-recorded"); err != nil {
		return err
	}
	if err := e.Network.MakeNetwork(ctx, *rec); err != nil {
		return err
	}
	if err := failpoint.Hit("network-made"); err != nil {
		return err
	}
	rec.State = network.NetworkReady
	return e.Networks.Put(rec.Namespace, rec.ID, *rec)
}
