package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/dns"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/ports"
	"github.com/minirt/mini/runtime/network/rtnl"
)

// AttachTo gives a container an interface in a network.
func (n *Network) AttachTo(ctx context.Context, to network.Record, r network.Request) (network.Attachment, error) {
	a, err := n.attachTo(ctx, to, r)
	if err != nil {
		return network.Attachment{}, fmt.Errorf("network %s: %w", to.Name, err)
	}
	return a, nil
}

func (n *Network) attachTo(ctx context.Context, to network.Record, r network.Request) (network.Attachment, error) {
	if to.IsDefault() {
		return n.Attach(ctx, r)
	}
	n.mu.Lock()
	s := n.segments[to.ID]
	n.mu.Unlock()
	if s == nil {
		return network.Attachment{}, fmt.Errorf("it is not made, or removed: %w", errdefs.ErrNotFound)
	}
	for i, p := range r.Ports {
		if to.Internal && p.HostPort != 0 {
			return network.Attachment{}, fmt.Errorf("port %d: the network is internal, nothing of it is published: %w", p.ContainerPort, errdefs.ErrInvalidArgument)
		}
		if !p.HostIP.IsValid() && s.settings.HostIP.IsValid() {
			r.Ports = slices.Clone(r.Ports)
			r.Ports[i].HostIP = s.settings.HostIP
		}
	}
	published, err := ports.Normalize(r.Ports)
	if err != nil {
		return network.Attachment{}, err
	}
	ns, err := netns.Open(r.NetNS)
	if err != nil {
		return network.Attachment{}, err
	}
	defer ns.Close()
	if err := n.open(ctx, s); err != nil {
		return network.Attachment{}, err
	}
	return n.attach(ctx, s, ns, r, published)
}

// describe adds what containers have beside pods.
func (n *Network) describe(a *network.Attachment, r network.Request) {
	for _, name := range append([]string{r.Name, id.Short(r.ID)}, r.Aliases...) {
		if name != "" && !slices.Contains(a.Names, name) {
			a.Names = append(a.Names, name)
		}
	}
	n.mu.Lock()
	s := n.segmentOf(*a)
	n.mu.Unlock()
	if s == nil || s == &n.pods {
		return // the default network has no DNS server
	}
	a.DNS.Servers = []string{s.subnets[0].Gateway().String()}
	if s.onParent() { // the gateway is somebody else's
		a.DNS.Servers, a.Inside = []string{insideDNS}, r.NetNS
	}
	a.Upstreams = r.DNS.Servers
}

// announce makes the DNS servers know an attachment. Called with mu held.
func (n *Network) announce(a network.Attachment) {
	s := n.segmentOf(a)
	if s == nil || s == &n.pods {
		return
	}
	h := dns.Host{ID: a.ID, Network: a.Network, NetworkName: s.name(), Names: a.Names, IPs: a.IPs, Outside: !s.record.Internal}
	for _, upstream := range a.Upstreams {
		if addr, err := netip.ParseAddr(upstream); err == nil {
			h.Upstreams = append(h.Upstreams, netip.AddrPortFrom(addr, portOfDNS))
		}
	}
	n.directory.Set(h)
}

// SetNames makes the DNS servers answer for other names.
func (n *Network) SetNames(_ context.Context, a network.Attachment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.attached[keyOf(a)]
	if !ok {
		return fmt.Errorf("container %s is not attached to this network: %w", a.ID, errdefs.ErrNotFound)
	}
	known.Names = a.Names
	n.attached[keyOf(a)] = known
	n.announce(known)
	return nil
}

// DetachFrom takes one attachment of a container that goes on, and gives its default routes to another one.
func (n *Network) DetachFrom(ctx context.Context, r network.Request, a network.Attachment) ([]network.Attachment, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := errors.Join(n.unhang(r.NetNS, a), n.takeAway(ctx, a, true)); err != nil {
		return nil, fmt.Errorf("network %s: %w", a.Links[0].Network, err)
	}
	changed := n.reroute(a)
	if len(changed) == 0 || r.NetNS == "" {
		return changed, nil
	}
	ns, err := netns.Open(r.NetNS)
	if err != nil {
		return changed, err
	}
	defer ns.Close()
	inside, err := rtnl.OpenIn(ns)
	if err != nil {
		return changed, err
	}
	defer inside.Close()
	var errs []error
	for _, c := range changed {
		l := c.Links[0]
		index, err := inside.Index(l.Interface)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, gateway := range l.Gateways {
			errs = append(errs, inside.Do(rtnl.NewDefaultRoute(index, gateway)))
		}
	}
	return changed, errors.Join(errs...)
}

// reroute decides which attachments the default routes of one that is gone go by, in the order of the interfaces, and
// remembers it.
func (n *Network) reroute(gone network.Attachment) []network.Attachment {
	others := n.of(gone.ID)
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.SortFunc(others, func(a, b network.Attachment) int { return compareLinks(a.Links[0].Interface, b.Links[0].Interface) })
	changed := map[string]network.Attachment{}
	for _, gateway := range gone.Links[0].Gateways {
		if n.routed(gone.ID)[gateway.Is4()] {
			continue
		}
		for _, a := range others {
			a = n.attached[keyOf(a)]
			via, ok := n.gatewayOf(a, gateway.Is4())
			if !ok {
				continue
			}
			a.Links = slices.Clone(a.Links)
			a.Links[0].Gateways = append(slices.Clone(a.Links[0].Gateways), via)
			n.attached[keyOf(a)], changed[keyOf(a)] = a, a
			break
		}
	}
	var all []network.Attachment
	for _, a := range changed {
		all = append(all, a)
	}
	return all
}

// compareLinks orders eth2 before eth10.
func compareLinks(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	return 1
}

// gatewayOf is the way out of an attachment's network for a family. Called with mu held.
func (n *Network) gatewayOf(a network.Attachment, four bool) (netip.Addr, bool) {
	s := n.segmentOf(a)
	if s == nil || s.record.Internal {
		return netip.Addr{}, false
	}
	for _, subnet := range s.all() {
		for _, p := range a.Links[0].Addresses {
			if p.Masked() == subnet.Prefix() && p.Addr().Is4() == four {
				return subnet.Gateway(), true
			}
		}
	}
	return netip.Addr{}, false
}
