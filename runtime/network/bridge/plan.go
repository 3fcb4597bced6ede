package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/vishvananda/netlink"
)

// use is a subnet that is in use, and what uses it.
type use struct {
	prefix netip.Prefix
	by     string
}

// PlanNetwork decides what is not said of a network.
func (n *Network) PlanNetwork(_ context.Context, wanted network.Record, others []network.Record) (network.Record, error) {
	if wanted.Driver != network.DriverBridge && !wanted.OnParent() {
		return wanted, fmt.Errorf("driver %s: there are %s, %s and %s: %w", wanted.Driver, network.DriverBridge, network.DriverMacvlan, network.DriverIPvlan, errdefs.ErrInvalidArgument)
	}
	settings, err := network.SettingsOf(wanted)
	if err != nil {
		return wanted, err
	}
	if settings.Bridge != "" {
		if _, err := netlink.LinkByName(settings.Bridge); err == nil {
			return wanted, fmt.Errorf("bridge %s: there is a link of that name: choose another one: %w", settings.Bridge, errdefs.ErrAlreadyExists)
		}
	}
	inUse := n.inUse(others)
	if wanted.OnParent() {
		for _, other := range others {
			if other.OnParent() && settings.Parent != "" && other.Options["parent"] == settings.Parent {
				return wanted, fmt.Errorf("network %s is already using parent interface %s: use another one, or a VLAN of it: %w", other.Name, settings.Parent, errdefs.ErrAlreadyExists)
			}
		}
		// The host is in the parent's network too, so that it has a route there.
		return plan(wanted, inUse, func() netip.Prefix { return ulaOf(wanted.ID, n.config.Name) })
	}
	// The links of our own networks have routes, which the networks' names tell more of.
	routes, err := routesBut(n.names.isBridge)
	if err != nil {
		return wanted, err
	}
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil { // then all machines without one have the same subnets, which never leave them
		machine = nil
	}
	seed := strings.TrimSpace(string(machine)) + "\x00" + wanted.ID
	return plan(wanted, append(inUse, routes...), func() netip.Prefix { return ulaOf(seed, n.config.Name) })
}

// inUse are the subnets of the other networks.
func (n *Network) inUse(others []network.Record) []use {
	var all []use
	n.mu.Lock()
	for _, s := range n.pods.all() {
		all = append(all, use{s.Prefix(), "network " + network.Default})
	}
	n.mu.Unlock()
	for _, r := range others {
		for _, s := range r.Subnets {
			all = append(all, use{s.Subnet.Masked(), "network " + r.Name})
		}
	}
	return all
}

// plan is the decision: subnets that are given must be free, those that are not are chosen.
func plan(wanted network.Record, inUse []use, ula func() netip.Prefix) (network.Record, error) {
	given := wanted.Subnets
	wanted.Subnets = nil
	families := map[bool]bool{}
	for _, s := range given {
		s, err := planSubnet(s, inUse)
		if err != nil {
			return wanted, err
		}
		four := s.Subnet.Addr().Is4()
		if families[four] {
			return wanted, fmt.Errorf("subnet %s: another one of its family is given: give at most one of IPv4 and one of IPv6: %w", s.Subnet, errdefs.ErrInvalidArgument)
		}
		families[four] = true
		wanted.Subnets = append(wanted.Subnets, s)
	}
	if wanted.NoIPv4 {
		if families[true] {
			return wanted, fmt.Errorf("a subnet of IPv4 is given, and IPv4 is switched off: leave one out: %w", errdefs.ErrInvalidArgument)
		}
		wanted.IPv6 = true
	}
	if !families[true] && !wanted.NoIPv4 {
		var prefixes []netip.Prefix
		for _, u := range inUse {
			prefixes = append(prefixes, u.prefix)
		}
		four, ok := ipam.Pick(userCandidates(), prefixes)
		if !ok {
			return wanted, fmt.Errorf("every subnet that could be chosen is in use: give one, or remove networks: %w", errdefs.ErrResourceExhausted)
		}
		wanted.Subnets = append([]network.Subnet{{Subnet: four, Gateway: four.Addr().Next()}}, wanted.Subnets...)
	}
	if wanted.IPv6 && !families[false] {
		six := ula()
		wanted.Subnets = append(wanted.Subnets, network.Subnet{Subnet: six, Gateway: six.Addr().Next()})
	}
	wanted.IPv6 = wanted.IPv6 || families[false]
	return wanted, nil
}

func planSubnet(s network.Subnet, inUse []use) (network.Subnet, error) {
	subnet, err := ipam.New(s.Subnet, s.Gateway, s.Range)
	if err != nil {
		return s, err
	}
	s.Subnet, s.Gateway = subnet.Prefix(), subnet.Gateway()
	if s.Range.IsValid() {
		s.Range = s.Range.Masked()
	}
	for name, addr := range s.Auxiliary {
		if err := subnet.Reserve(addr, auxiliary+name); err != nil {
			return s, fmt.Errorf("auxiliary address %s: %w", name, err)
		}
	}
	for _, u := range inUse {
		if u.prefix.Bits() > 0 && u.prefix.Overlaps(s.Subnet) { // a default route is not a use
			return s, fmt.Errorf("subnet %s overlaps with %s of %s: choose another one: %w", s.Subnet, u.prefix, u.by, errdefs.ErrAlreadyExists)
		}
	}
	return s, nil
}

// userCandidates are the IPv4 subnets that one is chosen from for a user's network: those that users of Docker know.
func userCandidates() []netip.Prefix {
	var all []netip.Prefix
	for second := byte(18); second < 32; second++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second}), 16))
	}
	for third := 0; third < 256; third += 16 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(third)}), 20))
	}
	return all
}

// routesBut are the destinations of the host's routes by other links than those.
func routesBut(own func(string) bool) ([]use, error) {
	all, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	names := map[int]string{}
	var to []use
	for _, r := range all {
		p, ok := prefixOf(r.Dst)
		if !ok || p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
			continue
		}
		if names[r.LinkIndex] == "" {
			names[r.LinkIndex] = "?"
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				names[r.LinkIndex] = link.Attrs().Name
			}
		}
		if name := names[r.LinkIndex]; !own(name) {
			to = append(to, use{p, "a route of the host by " + name})
		}
	}
	return to, nil
}
