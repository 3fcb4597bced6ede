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
	has, err := bridgeAddresses(n.names.bridge)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("built-in network: %w", err))...)
	}
	if len(has) == 0 && n.count() == 0 {
		return errors.Join(errs...) // nothing is there: it is made for the first pod
	}
	if err := n.make(ctx); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, n.sweep())
	return errors.Join(errs...)
}

func (n *Network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attached)
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
				s, err := n.subnetOf(p)
				if err == nil {
					err = s.Reserve(p.Addr(), l.HostInterface)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("built-in network: pod %s: %w", a.ID, err))
				}
			}
		}
		if err := n.ports.Claim(a.ID, a.Pod, a.Ports); err != nil {
			errs = append(errs, fmt.Errorf("built-in network: pod %s: %w", a.ID, err))
			a.Ports = nil
		}
		n.attached[a.ID] = a
	}
	return errs
}

// subnetOf finds the subnet of an address, or makes it one of those that are not for new pods.
func (n *Network) subnetOf(p netip.Prefix) (*ipam.Subnet, error) {
	for _, s := range n.all() {
		if s.Prefix() == p.Masked() {
			return s, nil
		}
	}
	s, err := ipam.NewSubnet(p)
	if err == nil {
		n.old = append(n.old, s)
	}
	return s, err
}

// rejoin puts the host's ends into the bridge again, should it have been made anew.
func (n *Network) rejoin() error {
	n.mu.Lock()
	master := n.bridge
	links := n.known()
	n.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if err := n.link.Do(rtnl.SetMaster(name, master), rtnl.Hairpin(name)); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// known are the host's ends of all attachments. Called with mu held.
func (n *Network) known() map[string]network.Link {
	links := map[string]network.Link{}
	for _, all := range []map[string]network.Attachment{n.attached, n.prepared} {
		for _, a := range all {
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
	keep := n.known()
	for _, s := range n.all() {
		for _, holder := range s.Holders() {
			keep[holder] = network.Link{}
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		veth := name
		if rest, ok := strings.CutPrefix(name, n.names.ifb); ok {
			veth = n.names.veth + rest
		}
		if _, ok := keep[veth]; ok || !strings.HasPrefix(veth, n.names.veth) || l.Type() != "veth" && l.Type() != "ifb" {
			continue
		}
		if err := n.link.Do(rtnl.DeleteLink(name)); err != nil && !errors.Is(err, unix.ENODEV) {
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
	restored, made := n.restored, n.bridge != 0
	same := slices.EqualFunc(n.subnets, cidrs, func(s *ipam.Subnet, p netip.Prefix) bool { return s.Prefix() == p.Masked() })
	if !same {
		n.generation++
	}
	n.mu.Unlock()
	if !restored {
		return fmt.Errorf("built-in network: the attachments are not restored yet: %w", errdefs.ErrUnavailable)
	}
	if same {
		return nil
	}
	if err := n.use(cidrs); err != nil {
		return fmt.Errorf("built-in network: %w", err)
	}
	if !made {
		return nil
	}
	return n.make(ctx)
}

// Destroy takes the bridge, the links and the rules away. The attachments in memory are forgotten; their namespaces are
// without a network.
func (n *Network) Destroy(context.Context) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	clear(n.attached)
	clear(n.prepared)
	clear(n.reaping)
	for _, s := range n.all() {
		for _, holder := range s.Holders() {
			s.Release(holder)
		}
	}
	n.bridge = 0
	n.mu.Unlock()
	errs := []error{n.table.Withdraw(), n.table.Remove(), n.sweep()}
	if link, err := netlink.LinkByName(n.names.bridge); err == nil && link.Type() == "bridge" {
		errs = append(errs, netlink.LinkDel(link))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("built-in network: remove everything: %w", err)
	}
	return nil
}
