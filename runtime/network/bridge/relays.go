package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/relay"
	"golang.org/x/sys/unix"
)

// relaysOf decides which of an attachment's ports are led to it by the daemon, because the kernel does not: those on ::1,
// and those on any IPv6 address of the host where the container has none. They lead to its IPv4 address when it has one,
// as more programs listen there. A port for all addresses may do without; it is not wanted.
func relaysOf(a network.Attachment) (wanted, optional []relay.Route) {
	var four, six netip.Addr
	for _, ip := range a.IPs {
		if ip.Is4() && !four.IsValid() {
			four = ip
		} else if ip.Is6() && !six.IsValid() {
			six = ip
		}
	}
	to := four
	if !to.IsValid() {
		to = six
	}
	for _, p := range a.Ports {
		if p.Protocol == "sctp" || !to.IsValid() {
			continue
		}
		r := relay.Route{Protocol: p.Protocol, To: netip.AddrPortFrom(to, p.ContainerPort)}
		every := !p.HostIP.IsValid() || p.HostIP == netip.IPv6Unspecified()
		switch {
		case every && six.IsValid():
			r.At = netip.AddrPortFrom(netip.IPv6Loopback(), p.HostPort)
		case every:
			r.At = netip.AddrPortFrom(netip.IPv6Unspecified(), p.HostPort)
		case p.HostIP == netip.IPv6Loopback() || p.HostIP.Is6() && !six.IsValid():
			r.At = netip.AddrPortFrom(p.HostIP, p.HostPort)
			wanted = append(wanted, r)
			continue
		default:
			continue
		}
		optional = append(optional, r)
	}
	return wanted, optional
}

// relay opens an attachment's relays.
func (n *Network) relay(ctx context.Context, a network.Attachment) error {
	wanted, optional := relaysOf(a)
	if !haveIPv6() {
		optional = nil
	}
	err := n.relays.Open(keyOf(a), append(wanted, optional...))
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("a process of the host has a port that is to be published: stop it, or publish another port: %w: %w", err, errdefs.ErrAlreadyExists)
	}
	if err != nil && len(wanted) == 0 { // without ::1 as with it switched off on that link
		n.config.Log.WarnContext(ctx, "published ports do not answer on ::1", "id", a.ID, "error", err)
		return nil
	}
	return err
}

// publishOutside has the ports of all attachments open on the machine, where that is not this network's host.
func (n *Network) publishOutside(ctx context.Context) error {
	if n.config.Outside == nil {
		return nil
	}
	n.mu.Lock()
	var all []network.Port
	for _, a := range n.attached {
		all = append(all, a.Ports...)
	}
	n.mu.Unlock()
	return n.config.Outside.Publish(ctx, all)
}

// restoreRelays opens what an earlier daemon had open.
func (n *Network) restoreRelays(ctx context.Context) {
	n.mu.Lock()
	var all []network.Attachment
	for _, a := range n.attached {
		if len(a.Ports) > 0 {
			all = append(all, a)
		}
	}
	n.mu.Unlock()
	for _, a := range all {
		if err := n.relay(ctx, a); err != nil {
			n.config.Log.WarnContext(ctx, "published ports do not answer on ::1", "id", a.ID, "error", err)
		}
	}
	if err := n.publishOutside(ctx); err != nil {
		n.config.Log.WarnContext(ctx, "published ports do not answer outside", "error", err)
	}
}
