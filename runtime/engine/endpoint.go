package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

// A container without a pod joins its networks when it starts and leaves them when it has ended, as with Docker: what does
// not run holds no address and no port. Its namespace is pinned in its bundle, so that the network is ready before the
// first process is, and lives as long as the record says, whatever becomes of that process or of the daemon.

// netns is the file of the pinned network namespace of a container that is in networks.
func (e *Engine) netns(c Container) string { return pin.Path(pinDir(e.Bundle(c)), pin.Network) }

// joinNetworks makes a container's network and its files in /etc before its first process starts. The caller has the
// lock. When it fails, nothing is left.
func (e *Engine) joinNetworks(ctx context.Context, l *live) error {
	c := l.record()
	if !c.Net.managed() {
		return nil
	}
	l.at("joining its networks")
	err := e.leaveNetworks(ctx, l) // of the last run, where the daemon was killed at it
	if err == nil && len(c.Net.Networks) > 0 {
		err = e.attachAll(ctx, l)
	}
	if err == nil {
		err = e.writeEtc(l.record())
	}
	if err == nil {
		err = failpoint.Hit("start-joined")
	}
	if err != nil {
		e.leaveQuietly(ctx, l)
	}
	return err
}

func (e *Engine) attachAll(ctx context.Context, l *live) error {
	c := l.record()
	if err := e.pinNetwork(ctx, c); err != nil {
		return err
	}
	unlock, err := e.locks.Lock(ctx, portsLock)
	if err != nil {
		return err
	}
	defer unlock()
	published, err := e.choosePorts(c)
	if err != nil {
		return err
	}
	for i, wanted := range c.Net.Networks {
		to, err := e.joinable(ctx, c.Namespace, wanted.Network)
		if err != nil {
			return err
		}
		r := e.endpointRequest(c, i)
		if !to.Internal && !to.OnParent() { // nothing of the others is published, as with Docker
			r.Ports, published = published, nil
		}
		a, err := e.attachTo(ctx, to, wanted, r)
		if err != nil {
			return fmt.Errorf("join network %s: %w", wanted.Network, err)
		}
		if err = failpoint.Hit("endpoint-attached"); err == nil {
			err = e.note(l, func(c *Container) { c.Attachments = append(c.Attachments[:i:i], a) })
		}
		if err != nil {
			return errors.Join(err, e.Network.Detach(context.WithoutCancel(ctx), r, &a))
		}
	}
	if len(published) > 0 {
		e.Log.Warn("ports are not published: the host does not stand between the container's networks and others", "id", c.ID)
	}
	return nil
}

// pinNetwork makes a container's network namespace. One that a user namespace owns is made together with that.
func (e *Engine) pinNetwork(ctx context.Context, c Container) error {
	switch {
	case len(c.Request.UIDMap) > 0:
	case c.Net.Networks[0].Network == NetworkBridge: // a spare one may be attached to it already
		return e.Network.NewNamespace(ctx, e.netns(c))
	default:
		return e.Network.NewBareNamespace(ctx, e.netns(c))
	}
	err := pin.Make(pin.Options{
		Dir: pinDir(e.Bundle(c)), Kinds: []string{pin.Network}, UIDMap: mountMap(c.Request.UIDMap), GIDMap: mountMap(c.Request.GIDMap),
	})
	if err != nil {
		return err
	}
	return e.Network.AdoptNamespace(ctx, e.netns(c))
}

// attachTo joins one network.
func (e *Engine) attachTo(ctx context.Context, to network.Record, wanted NetworkAttachment, r network.Request) (network.Attachment, error) {
	for _, ip := range []netip.Addr{wanted.IP, wanted.IP6} {
		if ip.IsValid() {
			r.Addresses = append(r.Addresses, ip)
		}
	}
	r.MAC, r.LinkLocal = wanted.MAC, wanted.LinkLocal
	if name := wanted.DriverOptions[interfaceName]; name != "" {
		r.Interface = name
	}
	switch {
	case len(r.Addresses) > 0 && to.IsDefault(): // its subnet changes with the node's
		return network.Attachment{}, fmt.Errorf("addresses can be chosen in networks that users have made, not in this one: %w", errdefs.ErrInvalidArgument)
	case to.Driver == network.Host || to.Name == network.None:
		return network.Attachment{}, fmt.Errorf("it is no network to join: make it the container's network mode, alone: %w", errdefs.ErrInvalidArgument)
	}
	return e.Network.AttachTo(ctx, to, r)
}

// endpointRequest is for a container's network number i.
func (e *Engine) endpointRequest(c Container, i int) network.Request {
	r := network.Request{
		Interface: "eth" + strconv.Itoa(i),
		ID:        c.ID, Name: orID(c), Namespace: c.Namespace, NetNS: e.netns(c), Hostname: hostname(c, e.Host.Hostname), DNS: c.Net.DNS, Labels: c.Labels,
	}
	if i < len(c.Net.Networks) {
		r.Aliases = c.Net.Networks[i].Aliases
	}
	if !pin.Pinned(pinDir(e.Bundle(c)), pin.Network) {
		r.NetNS = ""
	}
	return r
}

// leaveNetworks takes away what joinNetworks has made. It may be repeated.
func (e *Engine) leaveNetworks(ctx context.Context, l *live) error {
	c := l.record()
	pinned := pin.Pinned(pinDir(e.Bundle(c)), pin.Network)
	if len(c.Attachments) == 0 && !pinned {
		return nil
	}
	var errs []error
	for i, a := range c.Attachments {
		errs = append(errs, e.Network.Detach(ctx, e.endpointRequest(c, i), &a))
	}
	if len(c.Attachments) == 0 { // made, and not recorded
		errs = append(errs, e.Network.Detach(ctx, e.endpointRequest(c, 0), nil))
	}
	err := errors.Join(errs...)
	err = errors.Join(err, e.Network.RemoveNamespace(ctx, e.netns(c)), pin.Remove(pinDir(e.Bundle(c))))
	if err != nil {
		return fmt.Errorf("leave its networks: %w", err)
	}
	if len(c.Attachments) == 0 {
		return nil
	}
	return e.note(l, func(c *Container) { c.Attachments = nil })
}

// leaveQuietly is leaveNetworks, whatever becomes of the caller. The next start, or the removal, tries again.
func (e *Engine) leaveQuietly(ctx context.Context, l *live) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if err := e.leaveNetworks(ctx, l); err != nil {
		e.Log.Warn("a container has not wholly left its networks", "id", l.key.id, "error", err)
	}
}

// leaveAfterExit leaves the networks and the volumes of a container that has exited, unless it has been started again, or
// is gone.
func (e *Engine) leaveAfterExit(l *live) {
	if c := l.record(); len(volumeMounts(c)) == 0 && len(c.Net.Networks) == 0 && len(c.Attachments) == 0 && !pin.Pinned(pinDir(e.Bundle(c)), pin.Network) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		e.Log.Warn("a container that has exited is still in its networks, and has its volumes mounted", "id", l.key.id, "error", err)
		return
	}
	defer unlock()
	if s := l.state(); s != Running && s != Paused && !l.isGone() {
		e.leaveQuietly(ctx, l)
		e.releaseQuietly(ctx, l.record())
	}
}

// attached are the attachments of all containers.
func (e *Engine) attached() []network.Attachment {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []network.Attachment
	for _, l := range e.containers {
		all = append(all, l.record().Attachments...)
	}
	return all
}

// Attached says whether any container without a pod is in a network.
func (e *Engine) Attached() bool { return len(e.attached()) > 0 }

// resume goes on with what is to be done for containers that the last daemon has left: what runs is watched again, what
// has ended leaves its networks, and is started again where its policy says so.
func (e *Engine) resume() {
	e.mu.RLock()
	all := make([]*live, 0, len(e.containers))
	for _, l := range e.containers {
		all = append(all, l)
	}
	e.mu.RUnlock()
	slots := make(chan struct{}, removals)
	for _, l := range all {
		c := l.record()
		switch c.State {
		case Running, Paused:
			if p, err := l.proc(""); err == nil {
				e.watchHealth(l, p)
				e.startShipping(l, p.exited)
			}
		case Created, Exited:
			e.startShipping(l, over())
			if !c.Net.managed() && len(volumeMounts(c)) == 0 {
				e.planned(l, daemonStarted)
				continue
			}
			e.background.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				e.leaveAfterExit(l)
				e.planned(l, daemonStarted)
			})
		}
	}
}

// makeNetDir makes what a container's mounts of files in /etc need to be there.
func (e *Engine) makeNetDir(c Container) error {
	if !c.Net.managed() || c.Net.joined() != "" {
		return nil
	}
	dir := e.etcDir(c)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	for _, name := range etcFiles() {
		f, err := os.OpenFile(podFile(dir, name), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// gateway is the host in the container's first network, by which the container reaches it; not valid: there is none.
func gateway(c Container) netip.Addr {
	if c.Net.Mode == NetworkHost {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	for _, a := range c.Attachments {
		for _, l := range a.Links {
			for _, g := range l.Gateways {
				if g.Is4() {
					return g
				}
			}
			if len(l.Gateways) > 0 {
				return l.Gateways[0]
			}
		}
	}
	return netip.Addr{}
}

// orID is how people call a container.
func orID(c Container) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}
