package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network/rules"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probe asks the kernel whether a process of the host has the port, by binding it for a moment: published ports are
// looked at before the host's own, so that process would lose its connections without a word.
func probe(f rules.Forward) error {
	kind, protocol := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch f.Protocol {
	case "udp":
		kind, protocol = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case "sctp":
		protocol = unix.IPPROTO_SCTP
	}
	domain, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(f.Host.Port()), Addr: f.Host.Addr().As16()})
	if f.Host.Addr().Is4() {
		domain, at = unix.AF_INET, &unix.SockaddrInet4{Port: int(f.Host.Port()), Addr: f.Host.Addr().As4()}
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil // a kernel without the protocol or the family has no process that uses it
	}
	defer unix.Close(fd)
	if domain == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if kind == unix.SOCK_STREAM {
		// Connections that have ended do not count, only who listens (socket(7)).
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	// An address that the host does not have (EADDRNOTAVAIL) may come later.
	if err := unix.Bind(fd, at); errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("host port %s/%s: a process of the host has it (`ss -lnp sport = %d` says which): stop it, or publish another port: %w",
			f.Host, f.Protocol, f.Host.Port(), errdefs.ErrAlreadyExists)
	}
	return nil
}

// forgetFlows makes the kernel forget the flows to ports whose publishing has changed. Other than those of TCP they have
// no end, and a flow keeps going where it went at first: a client that sends again and again would never reach a new pod.
func (n *Network) forgetFlows(ctx context.Context, forwards []rules.Forward) {
	for _, f := range forwards {
		if f.Protocol == "tcp" {
			continue
		}
		family, protocol := netlink.InetFamily(unix.AF_INET), uint8(unix.IPPROTO_UDP)
		if f.Host.Addr().Is6() {
			family = unix.AF_INET6
		}
		if f.Protocol == "sctp" {
			protocol = unix.IPPROTO_SCTP
		}
		filter := &netlink.ConntrackFilter{}
		err := errors.Join(filter.AddProtocol(protocol), filter.AddPort(netlink.ConntrackOrigDstPort, f.Host.Port()))
		if !f.Host.Addr().IsUnspecified() {
			err = errors.Join(err, filter.AddIP(netlink.ConntrackOrigDstIP, f.Host.Addr().AsSlice()))
		}
		if err == nil {
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		}
		if err != nil {
			n.config.Log.WarnContext(ctx, "old flows to a published port go on until they are idle", "port", f.Host, "protocol", f.Protocol, "error", err)
		}
	}
}
