package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/rtnl"
	"github.com/minirt/mini/runtime/network/rules"
	"golang.org/x/sys/unix"
)

// reserve takes an address of each subnet and the name of a link, in memory.
func (n *Network) reserve(s *segment, r network.Request) (network.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := network.Attachment{ID: r.ID, Network: r.Network(), Provider: network.ProviderBuiltin}
	if _, ok := n.attached[keyOf(a)]; ok {
		return network.Attachment{}, fmt.Errorf("it is attached already: detach it first: %w", errdefs.ErrAlreadyExists)
	}
	if err := s.fits(r.Addresses); err != nil {
		return network.Attachment{}, err
	}
	link := network.Link{Network: s.name(), Interface: cmp.Or(r.Interface, network.DefaultInterface), HostInterface: n.names.newVeth(), MTU: s.mtu, MAC: r.MAC, LinkLocal: r.LinkLocal}
	routed := n.routed(r.ID)
	for _, subnet := range s.subnets {
		// Held by the link's name, which does not change when the attachment becomes a pod's.
		addr, err := take(subnet, r.Addresses, link.HostInterface)
		if err != nil {
			return network.Attachment{}, errors.Join(err, releaseAll(s.subnets, link.HostInterface))
		}
		a.IPs = append(a.IPs, addr)
		link.Addresses = append(link.Addresses, netip.PrefixFrom(addr, subnet.Prefix().Bits()))
		if !s.record.Internal && !routed[addr.Is4()] {
			link.Gateways = append(link.Gateways, subnet.Gateway())
		}
	}
	if s.record.Driver == network.DriverIPvlan {
		if link.MAC != "" {
			return network.Attachment{}, errors.Join(fmt.Errorf("hardware address %s: a network of the driver ipvlan has that of its parent: leave it out: %w", link.MAC, errdefs.ErrInvalidArgument), releaseAll(s.subnets, link.HostInterface))
		}
	} else if link.MAC == "" {
		link.MAC = macOf(a.IPs[0]).String()
	}
	a.Links = []network.Link{link}
	return a, nil
}

// releaseAll gives back what was taken; it has no error.
func releaseAll(subnets []*ipam.Subnet, holder string) error {
	for _, s := range subnets {
		s.Release(holder)
	}
	return nil
}

// take takes the wanted address of the subnet, or else any.
func take(s *ipam.Subnet, wanted []netip.Addr, holder string) (netip.Addr, error) {
	for _, addr := range wanted {
		if s.Prefix().Contains(addr) {
			return addr, s.Reserve(addr, holder)
		}
	}
	return s.Allocate(holder)
}

// routed says for which families, IPv4 and not, another attachment has the default route. Called with mu held.
func (n *Network) routed(id string) map[bool]bool {
	families := map[bool]bool{}
	if id == "" {
		return families
	}
	for _, a := range n.attached {
		if a.ID == id {
			for _, gateway := range a.Links[0].Gateways {
				families[gateway.Is4()] = true
			}
		}
	}
	return families
}

// connect makes the veth pair and configures its end in the namespace: one batch outside, one inside.
func (n *Network) connect(s *segment, ns *os.File, l network.Link) error {
	if s.onParent() {
		return n.hang(s, ns, l)
	}
	n.mu.Lock()
	master := s.index
	n.mu.Unlock()
	mac, err := parseMAC(l.MAC)
	if err != nil {
		return err
	}
	veth := rtnl.Veth{Host: l.HostInterface, Master: master, MTU: l.MTU, Peer: l.Interface, MAC: mac, NS: ns}
	requests := []rtnl.Request{rtnl.NewVeth(veth), rtnl.Hairpin(l.HostInterface)}
	if s.settings.Isolated {
		requests = append(requests, rtnl.Isolate(l.HostInterface))
	}
	if err := n.conn.Do(requests...); err != nil {
		return err
	}
	inside, err := rtnl.OpenIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	return configure(inside, l, false)
}

func parseMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, fmt.Errorf("hardware address %q: not six bytes as 02:42:ac:11:00:02, or one for groups: %w", text, errdefs.ErrInvalidArgument)
	}
	return mac, nil
}

// configure brings an interface up, with its addresses and routes; toLink: everything is sent to it, and to no gateway.
func configure(inside *rtnl.Conn, l network.Link, toLink bool) error {
	index, err := inside.Index(l.Interface)
	if err != nil {
		return err
	}
	requests := []rtnl.Request{rtnl.SetUp(index)}
	for _, p := range l.Addresses {
		requests = append(requests, rtnl.NewAddress(index, p))
	}
	for _, addr := range l.LinkLocal {
		bits := 16 // of RFC 3927
		if addr.Is6() {
			bits = 64
		}
		requests = append(requests, rtnl.NewAddress(index, netip.PrefixFrom(addr, bits)))
	}
	for _, gateway := range l.Gateways {
		if toLink {
			requests = append(requests, rtnl.NewDeviceRoute(index, rtnl.Family(gateway)))
			continue
		}
		requests = append(requests, rtnl.NewDefaultRoute(index, gateway))
	}
	return inside.Do(requests...)
}

// claim makes what depends on the pod: the record in memory, ports and bandwidth. It returns what is to be undone when it
// fails.
func (n *Network) claim(ctx context.Context, r network.Request, a network.Attachment, published []network.Port) (network.Attachment, error) {
	a.ID, a.Pod, a.Network = r.ID, r.Namespace+"/"+r.Name, r.Network()
	if a.Network != "" {
		n.describe(&a, r)
	}
	a.Links = slices.Clone(a.Links)
	a.Links[0].Bandwidth = r.Bandwidth
	withPorts := a
	withPorts.Ports = published
	forwards, err := forwardsOf(withPorts)
	if err != nil {
		return a, err
	}
	if err := n.remember(withPorts); err != nil {
		return a, err
	}
	a = withPorts
	for _, f := range forwards {
		if err := probe(f); err != nil {
			return a, err
		}
	}
	if err := n.limit(a.Links[0]); err != nil {
		return a, err
	}
	if err := failpoint.Hit("network.attach.linked"); err != nil {
		return a, err
	}
	n.lookAfter(ctx)
	if err := n.relay(ctx, a); err != nil {
		return a, err
	}
	if err := n.publish(ctx, forwards); err != nil || len(a.Ports) == 0 {
		return a, err
	}
	return a, n.publishOutside(ctx)
}

// remember claims the ports and keeps the attachment.
func (n *Network) remember(a network.Attachment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.segmentOf(a) == nil {
		return errRemoved
	}
	if err := n.ports.Claim(keyOf(a), a.Pod, a.Ports); err != nil {
		return err
	}
	delete(n.prepared, a.Links[0].HostInterface)
	n.attached[keyOf(a)] = a
	n.announce(a)
	return nil
}

func (n *Network) publish(ctx context.Context, forwards []rules.Forward) error {
	if len(forwards) == 0 {
		return nil
	}
	if err := n.table.Update(forwards, nil); err != nil {
		return err
	}
	n.forgetFlows(ctx, forwards)
	return nil
}

// takeAway ends the publishing of an attachment's ports and forgets it; its links are deleted now, or watched until they
// go with their namespace. It may be repeated.
func (n *Network) takeAway(ctx context.Context, a network.Attachment, now bool) error {
	if forwards, err := forwardsOf(a); err == nil && len(forwards) > 0 && n.publishes(a) {
		if err := n.table.Update(nil, forwards); err != nil {
			return err
		}
		n.forgetFlows(ctx, forwards)
	}
	if n.publishes(a) {
		n.relays.Close(keyOf(a))
	}
	if now {
		for _, l := range a.Links {
			if err := n.removeLink(l); err != nil {
				return err
			}
			n.release(l)
		}
	}
	n.forget(a)
	if len(a.Ports) > 0 {
		if err := n.publishOutside(ctx); err != nil {
			n.config.Log.WarnContext(ctx, "ports of the machine stay open", "id", a.ID, "error", err)
		}
	}
	if !now {
		n.reapLater(a)
	}
	return nil
}

// publishes is false when the ports of an attachment were never its own, or are no more: then another may have them.
func (n *Network) publishes(a network.Attachment) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.attached[keyOf(a)]
	return ok
}

func (n *Network) forget(a network.Attachment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.attached[keyOf(a)]; ok && known.Links[0].HostInterface == a.Links[0].HostInterface {
		n.ports.Release(keyOf(a))
		delete(n.attached, keyOf(a))
		n.directory.Remove(a.ID, a.Network)
	}
}

// removeInside deletes the interface of a pod of which nothing else is known.
func removeInside(path, name string) error {
	ns, err := netns.Open(path)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	inside, err := rtnl.OpenIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := inside.Do(rtnl.DeleteLink(name)); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// forwardsOf decides the elements of the table for an attachment's ports.
func forwardsOf(a network.Attachment) ([]rules.Forward, error) {
	var all []rules.Forward
	for _, p := range a.Ports {
		if p.HostIP == netip.IPv6Loopback() {
			if p.Protocol == "sctp" {
				return nil, fmt.Errorf("host port %d/sctp on ::1: Linux forwards nothing from there: publish it on 127.0.0.1: %w", p.HostPort, errdefs.ErrInvalidArgument)
			}
			continue // see relaysOf
		}
		before := len(all)
		for _, ip := range a.IPs {
			host := p.HostIP
			switch {
			case !host.IsValid() && ip.Is4():
				host = netip.IPv4Unspecified()
			case !host.IsValid():
				host = netip.IPv6Unspecified()
			case host.Is4() != ip.Is4():
				continue
			}
			all = append(all, rules.Forward{Protocol: p.Protocol, Host: netip.AddrPortFrom(host, p.HostPort), To: netip.AddrPortFrom(ip, p.ContainerPort)})
		}
		if len(all) == before && (p.HostIP.Is4() || p.Protocol == "sctp") {
			return nil, fmt.Errorf("host port %d/%s on %s: the pod has no address of that family: %w", p.HostPort, p.Protocol, p.HostIP, errdefs.ErrInvalidArgument)
		}
	}
	return all, nil
}
