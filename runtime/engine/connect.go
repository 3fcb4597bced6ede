package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
)

// Connect puts a container in one more network: at once when it runs, else when it starts.
func (e *Engine) Connect(ctx context.Context, ns, id string, wanted NetworkAttachment) (Container, error) {
	l, to, unlock, err := e.toReconnect(ctx, ns, id, wanted.Network)
	if err != nil {
		return Container{}, fmt.Errorf("connect container %s to network %s: %w", id, wanted.Network, err)
	}
	defer unlock()
	if err := e.connect(ctx, l, to, wanted); err != nil {
		return Container{}, fmt.Errorf("connect container %s to network %s: %w", id, wanted.Network, err)
	}
	e.publish(l, "connect", map[string]string{"network": to.Name, "network_id": to.ID})
	return l.seen(), nil
}

// Disconnect takes a container out of a network.
func (e *Engine) Disconnect(ctx context.Context, ns, id, name string) (Container, error) {
	l, from, unlock, err := e.toReconnect(ctx, ns, id, name)
	if err != nil {
		return Container{}, fmt.Errorf("disconnect container %s from network %s: %w", id, name, err)
	}
	defer unlock()
	if err := e.disconnect(ctx, l, from); err != nil {
		return Container{}, fmt.Errorf("disconnect container %s from network %s: %w", id, name, err)
	}
	e.publish(l, "disconnect", map[string]string{"network": from.Name, "network_id": from.ID})
	return l.seen(), nil
}

// toReconnect finds a container whose networks can be changed, with its lock held, and a network.
func (e *Engine) toReconnect(ctx context.Context, ns, id, name string) (*live, network.Record, func(), error) {
	r, err := e.joinable(ctx, ns, name)
	if err != nil {
		return nil, r, nil, err
	}
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return nil, r, nil, err
	}
	c := l.record()
	err = l.require("change the networks of", Created, Running, Paused, Exited)
	switch {
	case err != nil:
	case !c.Net.managed() || c.Net.Mode == NetworkHost || c.Net.joined() != "":
		err = fmt.Errorf("its network is not its own: make it anew: %w", errdefs.ErrFailedPrecondition)
	case isPredefined(r) && !r.IsDefault():
		err = fmt.Errorf("it is no network to be in: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		unlock()
		return nil, r, nil, err
	}
	return l, r, unlock, nil
}

// place is the number of a network among a container's; -1: it is in none.
func place(c Container, r network.Record) int {
	return slices.IndexFunc(c.Net.Networks, func(a NetworkAttachment) bool { return named(a.Network, r) })
}

// named says whether a network is meant by a name, an id or the beginning of an id.
func named(name string, r network.Record) bool {
	return name == r.Name || len(name) >= id.ShortLen && len(name) <= len(r.ID) && r.ID[:len(name)] == name
}

// connect joins the network, when the container runs, and records it.
func (e *Engine) connect(ctx context.Context, l *live, to network.Record, wanted NetworkAttachment) error {
	c := l.record()
	if err := wanted.check(); err != nil {
		return err
	}
	if place(c, to) >= 0 {
		return fmt.Errorf("it is in it already: %w", errdefs.ErrAlreadyExists)
	}
	runs := c.State == Running || c.State == Paused
	if runs && len(c.Net.Networks) == 0 {
		return fmt.Errorf("it runs without any network: stop it first: %w", errdefs.ErrFailedPrecondition)
	}
	networks := append(slices.Clone(c.Net.Networks), wanted)
	attachments := slices.Clone(c.Attachments)
	var r network.Request
	if runs {
		next := c
		next.Net.Networks = networks
		r = e.endpointRequest(next, len(networks)-1)
		r.Interface = freeInterface(c.Attachments)
		a, err := e.attachTo(ctx, to, wanted, r)
		if err != nil {
			return err
		}
		attachments = append(attachments, a)
	}
	err := failpoint.Hit("connect-attached")
	if err == nil {
		err = e.save(l, func(c *Container) { c.Net.Mode, c.Net.Networks, c.Attachments = "", networks, attachments })
	}
	if err != nil {
		if runs {
			err = errors.Join(err, e.Network.Detach(context.WithoutCancel(ctx), r, &attachments[len(attachments)-1]))
		}
		return err
	}
	return e.rewrite(ctx, l)
}

// freeInterface is the first name of an interface that no attachment has.
func freeInterface(all []network.Attachment) string {
	for i := 0; ; i++ {
		name := fmt.Sprint("eth", i)
		if !slices.ContainsFunc(all, func(a network.Attachment) bool {
			return slices.ContainsFunc(a.Links, func(l network.Link) bool { return l.Interface == name })
		}) {
			return name
		}
	}
}

// disconnect leaves the network, when the container runs, and records it.
func (e *Engine) disconnect(ctx context.Context, l *live, from network.Record) error {
	c := l.record()
	at := place(c, from)
	if at < 0 {
		return fmt.Errorf("it is not in it: %w", errdefs.ErrNotFound)
	}
	attachments := slices.Clone(c.Attachments)
	if at < len(attachments) {
		changed, err := e.Network.DetachFrom(ctx, e.endpointRequest(c, at), attachments[at])
		if err != nil {
			return err
		}
		for _, a := range changed {
			if i := slices.IndexFunc(attachments, func(b network.Attachment) bool { return a.Network == b.Network }); i >= 0 {
				attachments[i] = a
			}
		}
		attachments = slices.Delete(attachments, at, at+1)
	}
	networks := slices.Delete(slices.Clone(c.Net.Networks), at, at+1)
	err := failpoint.Hit("disconnect-detached")
	if err == nil {
		err = e.save(l, func(c *Container) {
			c.Net.Networks, c.Attachments = networks, attachments
			if len(networks) == 0 {
				c.Net.Mode = NetworkNone
			}
		})
	}
	if err != nil {
		return err
	}
	return e.rewrite(ctx, l)
}

// rewrite writes what is made of a container's networks anew: its bundle, for the next start, and its files in /etc.
func (e *Engine) rewrite(ctx context.Context, l *live) error {
	c := l.record()
	if !e.joinsOthers(c) { // else the next start writes it
		if _, err := e.writeBundle(ctx, c); err != nil {
			return err
		}
	}
	if c.State != Running && c.State != Paused {
		return nil
	}
	return e.writeEtc(c)
}

// nameEndpoints makes the networks of a container that runs know it by its new name.
func (e *Engine) nameEndpoints(ctx context.Context, l *live) {
	c := l.record()
	attachments := slices.Clone(c.Attachments)
	for i, a := range attachments {
		if len(a.Names) == 0 {
			continue
		}
		attachments[i].Names = endpointNames(c, i)
		if err := e.Network.SetNames(ctx, attachments[i]); err != nil {
			e.Log.Warn("a network knows a container by its old name", "id", c.ID, "network", a.Network, "error", err)
		}
	}
	if len(attachments) == 0 {
		return
	}
	if err := e.note(l, func(c *Container) { c.Attachments = attachments }); err != nil {
		e.Log.Warn("record the names of a container in its networks", "id", c.ID, "error", err)
	}
}

// endpointNames are what a network's DNS server answers for.
func endpointNames(c Container, i int) []string {
	var names []string
	for _, name := range append([]string{c.Name, id.Short(c.ID)}, c.Net.Networks[i].Aliases...) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
