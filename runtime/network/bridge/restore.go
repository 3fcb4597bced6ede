package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/minirt/mini/runtime/network/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Restore takes in the attachments of the records and makes the host as they need it. Links that belong to none of them
// are deleted, before their addresses are given to others.
func (n *Network) Restore(ctx context.Context, all []network.Attachment) error {
	n.host.Lock()
	defer n.host.Unlock()
	errs := n.takeIn(all)
	has, err := bridgeAddresses(n.pods.link)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("built-in network: %w", err))...)
	}
	users := n.users()
	for _, s := range users {
		errs = append(errs, n.makeSegment(ctx, s))
	}
	n.restoreInside(ctx)
	n.restoreRelays(ctx)
	switch {
	case len(has) > 0 || n.needed():
		errs = append(errs, n.make(ctx))
	case len(users) > 0:
		errs = append(errs, n.writeTable(ctx))
	default:
		return errors.Join(errs...) // nothing is there: it is made for the first pod
	}
	return errors.Join(append(errs, n.sweep())...)
}

// needed says whether something is attached to the bridge of pods.
func (n *Network) needed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.attached {
		if n.segmentOf(a) == &n.pods {
			return true
		}
	}
	return false
}

// takeIn reserves addresses and ports in memory. One attachment that cannot be is no reason to lose the others.
func (n *Network) takeIn(all []network.Attachment) []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	n.restored = true
	for _, a := range all {
		if a.Provider != network.ProviderBuiltin || len(a.Links) == 0 {
			continue
		}
		for _, l := range a.Links {
			for _, p := range l.Addresses {
				s, err := n.subnetOf(a, p)
				if err == nil {
					err = s.Reserve(p.Addr(), l.HostInterface)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("built-in network: pod %s: %w", a.ID, err))
				}
			}
		}
		if err := n.ports.Claim(keyOf(a), a.Pod, a.Ports); err != nil {
			errs = append(errs, fmt.Errorf("built-in network: pod %s: %w", a.ID, err))
			a.Ports = nil
		}
		n.attached[keyOf(a)] = a
		n.announce(a)
	}
	return errs
}

// subnetOf finds the subnet of an attachment's address; of pods, it makes it one of those that are not for new ones.
func (n *Network) subnetOf(a network.Attachment, p netip.Prefix) (*ipam.Subnet, error) {
	segment := n.segmentOf(a)
	if segment == nil {
		return nil, fmt.Errorf("there is no record of its network %s: %w", a.Links[0].Network, errdefs.ErrNotFound)
	}
	for _, s := range segment.all() {
		if s.Prefix() == p.Masked() {
			return s, nil
		}
	}
	if segment != &n.pods {
		return nil, fmt.Errorf("address %s: not of the network %s: %w", p, segment.name(), errdefs.ErrInvalidArgument)
	}
	s, err := ipam.NewSubnet(p)
	if err == nil {
		n.pods.old = append(n.pods.old, s)
	}
	return s, err
}

// rejoin puts the host's ends into their bridge again, should it have been made anew.
func (n *Network) rejoin(s *segment) error {
	n.mu.Lock()
	master := s.index
	links := n.linksOf(s)
	n.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(links)) {
		requests := []rtnl.Request{rtnl.SetMaster(name, master), rtnl.Hairpin(name)}
		if s.settings.Isolated {
			requests = append(requests, rtnl.Isolate(name))
		}
		if err := n.conn.Do(requests...); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// linksOf are the host's ends of the attachments to a segment; nil: of all. Called with mu held.
func (n *Network) linksOf(s *segment) map[string]network.Link {
	links := map[string]network.Link{}
	for _, all := range []map[string]network.Attachment{n.attached, n.prepared} {
		for _, a := range all {
			if s != nil && n.segmentOf(a) != s {
				continue
			}
			for _, l := range a.Links {
				links[l.HostInterface] = l
			}
		}
	}
	return links
}

// Collect deletes links of ours that belong to no attachment.
func (n *Network) Collect(context.Context) error {
	n.host.Lock()
	defer n.host.Unlock()
	return n.sweep()
}

func (n *Network) sweep() error {
	// Links are looked at before what is known: one that is being made has its place in memory first.
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("built-in network: list the links: %w", err)
	}
	n.mu.Lock()
	keep := n.linksOf(nil)
	for _, s := range n.everything() {
		for _, holder := range s.Holders() {
			keep[holder] = network.Link{}
		}
	}
	bridges := n.bridgeNames()
	n.mu.Unlock()
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() == "bridge" && strings.HasPrefix(name, n.names.user) && !slices.Contains(bridges, name) {
			errs = append(errs, netlink.LinkDel(l))
			continue
		}
		veth := name
		if rest, ok := strings.CutPrefix(name, n.names.ifb); ok {
			veth = n.names.veth + rest
		}
		if _, ok := keep[veth]; ok || !strings.HasPrefix(veth, n.names.veth) || l.Type() != "veth" && l.Type() != "ifb" {
			continue
		}
		if err := n.conn.Do(rtnl.DeleteLink(name)); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("built-in network: %w", err))
		}
	}
	return errors.Join(errs...)
}

// SetPodCIDR makes the subnets those of new pods. Pods that are there keep their addresses.
func (n *Network) SetPodCIDR(ctx context.Context, cidrs []netip.Prefix) error {
	if len(cidrs) == 0 {
		return fmt.Errorf("built-in network: no subnet is given: %w", errdefs.ErrInvalidArgument)
	}
	if err := checkSubnets(cidrs); err != nil {
		return fmt.Errorf("built-in network: %w", err)
	}
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	restored, made := n.restored, n.pods.index != 0
	same := slices.EqualFunc(n.pods.subnets, cidrs, func(s *ipam.Subnet, p netip.Prefix) bool { return s.Prefix() == p.Masked() })
	if !same {
		n.generation++
	}
	n.mu.Unlock()
	if !restored {
		return fmt.Errorf("built-in network: the attachments are not restored yet: %w", errdefs.ErrUnavailable)
	}
	if !slices.Equal(n.told, cidrs) {
		if err := writeSubnets(n.config.File, cidrs); err != nil {
			return fmt.Errorf("built-in network: %w", err)
		}
		n.told = slices.Clone(cidrs)
	}
	switch {
	case same:
		return nil
	case !made: // they are chosen when the bridge is made
		n.mu.Lock()
		n.pods.old, n.pods.subnets = n.pods.all(), nil
		n.mu.Unlock()
		return nil
	}
	if err := n.use(cidrs); err != nil {
		return fmt.Errorf("built-in network: %w", err)
	}
	return n.make(ctx)
}

// Destroy takes the bridge, the links and the rules away. The attachments in memory are forgotten; their namespaces are
// without a network.
func (n *Network) Destroy(context.Context) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.relays.CloseAll()
	n.mu.Lock()
	clear(n.attached)
	clear(n.prepared)
	clear(n.reaping)
	for _, s := range n.everything() {
		for _, holder := range s.Holders() {
			s.Release(holder)
		}
	}
	n.pods.index = 0
	users := slices.Collect(maps.Values(n.segments))
	clear(n.segments)
	n.mu.Unlock()
	errs := []error{n.table.Withdraw(), n.table.Remove(), n.sweep(), deleteBridge(n.pods.link)}
	for _, s := range users {
		errs = append(errs, s.closeServer(), deleteLink(s))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("built-in network: remove everything: %w", err)
	}
	return nil
}
