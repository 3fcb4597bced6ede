package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/dns"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/minirt/mini/runtime/network/rules"
	"github.com/vishvananda/netlink"
)

// segment is one bridge: that of pods, or that of a network of users. Its parts are guarded by the network's mu; they
// change while host is held.
type segment struct {
	record   network.Record // of users' networks only
	settings network.Settings
	link     string         // the bridge
	index    int            // number of the link; 0: not made
	subnets  []*ipam.Subnet // new attachments get their addresses from these
	old      []*ipam.Subnet // of attachments that are still there
	mtu      int
	server   *dns.Server // of users' networks only; held by host
	moved    bool        // the server listens elsewhere than before; held by host
}

// all are the subnets, of new attachments and old ones. Called with mu held.
func (s *segment) all() []*ipam.Subnet { return slices.Concat(s.subnets, s.old) }

// auxiliary begins the holders of addresses that others have.
const auxiliary = "auxiliary address "

// name is what people call the segment.
func (s *segment) name() string {
	if s.record.Name != "" {
		return s.record.Name
	}
	return s.link
}

// newSegment reads a planned record.
func (n *Network) newSegment(r network.Record) (*segment, error) {
	settings, err := network.SettingsOf(r)
	if err != nil {
		return nil, err
	}
	s := &segment{record: r, settings: settings, link: settings.Bridge}
	if r.OnParent() {
		s.link = cmp.Or(settings.Parent, dummyOf(r.ID))
	}
	if s.link == "" {
		s.link = n.names.bridgeOf(r.ID)
	}
	for _, want := range r.Subnets {
		if want.Subnet.Addr().Is6() && !haveIPv6() {
			return nil, fmt.Errorf("subnet %s: this kernel has no IPv6, or it is switched off: %w", want.Subnet, errdefs.ErrFailedPrecondition)
		}
		subnet, err := ipam.New(want.Subnet, want.Gateway, want.Range)
		if err != nil {
			return nil, err
		}
		for name, addr := range want.Auxiliary {
			if err := subnet.Reserve(addr, auxiliary+name); err != nil {
				return nil, fmt.Errorf("auxiliary address %s: %w", name, err)
			}
		}
		s.subnets = append(s.subnets, subnet)
	}
	if len(s.subnets) == 0 {
		return nil, fmt.Errorf("it has no subnet: %w", errdefs.ErrInvalidArgument)
	}
	return s, nil
}

// fits refuses static addresses that no subnet has.
func (s *segment) fits(wanted []netip.Addr) error {
	var subnets []string
	for _, subnet := range s.subnets {
		subnets = append(subnets, subnet.Prefix().String())
	}
	for _, addr := range wanted {
		if !slices.ContainsFunc(s.subnets, func(subnet *ipam.Subnet) bool { return subnet.Prefix().Contains(addr) }) {
			return fmt.Errorf("address %s: not in the network %s, which has %v: %w", addr, s.name(), subnets, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func (s *segment) rules() rules.Network {
	n := rules.Network{Bridge: s.link, Internal: s.record.Internal, NoMasquerade: s.settings.NoMasquerade, Isolated: s.settings.Isolated}
	for _, subnet := range s.all() {
		n.Subnets = append(n.Subnets, subnet.Prefix())
	}
	return n
}

const portOfDNS = 53

// toServer leads questions to the gateway to where the server listens.
func (s *segment) toServer() []rules.Forward {
	if s.server == nil {
		return nil
	}
	var all []rules.Forward
	for _, e := range s.server.Endpoints() {
		all = append(all, rules.Forward{Protocol: e.Protocol, Host: netip.AddrPortFrom(e.At.Addr(), portOfDNS), To: e.At})
	}
	return all
}

// gateways are the host's addresses in the subnets.
func (s *segment) gateways() []netip.Addr {
	var all []netip.Addr
	for _, subnet := range s.subnets {
		all = append(all, subnet.Gateway())
	}
	return all
}

func (s *segment) closeServer() error {
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	s.server = nil
	return err
}

// keyOf is what an attachment is known by: a pod has one, a container one for each network.
func keyOf(a network.Attachment) string {
	if a.Network == "" {
		return a.ID
	}
	return a.ID + " " + a.Network
}

// segmentOf is where an attachment is; nil when there is no record of its network. Called with mu held.
func (n *Network) segmentOf(a network.Attachment) *segment {
	if a.Network == "" || a.Network == network.PredefinedID(network.Default) {
		return &n.pods
	}
	return n.segments[a.Network]
}

// users are the segments of users' networks.
func (n *Network) users() []*segment {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.segments))
}

// everything are the subnets of all segments. Called with mu held.
func (n *Network) everything() []*ipam.Subnet {
	all := n.pods.all()
	for _, s := range n.segments {
		all = append(all, s.all()...)
	}
	return all
}

// bridges are the links of all segments that are made.
func (n *Network) bridges() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bridgeNames()
}

// bridgeNames is bridges with mu held.
func (n *Network) bridgeNames() []string {
	var all []string
	if n.pods.index != 0 {
		all = append(all, n.pods.link)
	}
	for _, s := range n.segments {
		if !s.onParent() {
			all = append(all, s.link)
		}
	}
	slices.Sort(all)
	return all
}

// RestoreNetworks takes the records in; Restore makes what they announce.
func (n *Network) RestoreNetworks(_ context.Context, all []network.Record) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, r := range all {
		s, err := n.newSegment(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", r.Name, err))
			continue
		}
		n.segments[r.ID] = s
	}
	return errors.Join(errs...)
}

// MakeNetwork makes the bridge of a user's network, its rules and its DNS server.
func (n *Network) MakeNetwork(ctx context.Context, r network.Record) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	restored, s := n.restored, n.segments[r.ID]
	n.mu.Unlock()
	if !restored {
		return fmt.Errorf("the attachments are not restored yet: %w", errdefs.ErrUnavailable)
	}
	if s == nil {
		var err error
		if s, err = n.newSegment(r); err != nil {
			return err
		}
		n.mu.Lock()
		n.segments[r.ID] = s
		n.mu.Unlock()
	}
	if err := n.makeSegment(ctx, s); err != nil {
		return err
	}
	if err := failpoint.Hit("network-segment-made"); err != nil {
		return err
	}
	return n.writeTable(ctx)
}

// makeSegment makes what is missing of a user's network, but for the rules. Called with host held.
func (n *Network) makeSegment(ctx context.Context, s *segment) error {
	if s.onParent() {
		if err := n.makeParent(s); err != nil {
			return fmt.Errorf("network %s: %w", s.name(), err)
		}
		return nil
	}
	err := n.makeBridge(s, s.settings.MTU)
	if err == nil {
		err = failpoint.Hit("network-bridge-made")
	}
	if err == nil {
		err = n.rejoin(s)
	}
	if err == nil {
		err = n.openServer(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("network %s, bridge %s: %w", s.name(), s.link, err)
	}
	return nil
}

// openServer opens the DNS server anew: one on a bridge that is gone hears nothing.
func (n *Network) openServer(ctx context.Context, s *segment) error {
	if err := s.closeServer(); err != nil {
		n.config.Log.WarnContext(ctx, "a network's dns server does not end", "network", s.name(), "error", err)
	}
	server, err := dns.Listen(ctx, dns.Config{Addresses: s.gateways(), Directory: &n.directory, Log: n.config.Log})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.server, s.moved = server, true
	return nil
}

// RemoveNetwork takes the bridge, the rules and the server away.
func (n *Network) RemoveNetwork(ctx context.Context, r network.Record) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	s := n.segments[r.ID]
	for _, a := range n.attached {
		if s != nil && n.segmentOf(a) == s {
			n.mu.Unlock()
			return fmt.Errorf("%s is attached to it: %w", a.Pod, errdefs.ErrFailedPrecondition)
		}
	}
	delete(n.segments, r.ID)
	n.mu.Unlock()
	if s == nil { // half made by an earlier daemon
		var err error
		if s, err = n.newSegment(r); err != nil {
			return nil // then nothing could be made of it
		}
		return deleteLink(s)
	}
	// What has just ended may still have its link.
	n.reapNow(ctx)
	err := errors.Join(s.closeServer(), n.writeTable(ctx), failpoint.Hit("network-unlisted"))
	return errors.Join(err, deleteLink(s))
}

func deleteBridge(name string) error {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil && link.Type() == "bridge" {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete the bridge %s: %w", name, err)
	}
	return nil
}

// DefaultNetwork is the network of pods as containers see it. It has no subnets before it is made.
func (n *Network) DefaultNetwork(context.Context) (network.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := network.Record{ID: network.PredefinedID(network.Default), Name: network.Default, Driver: network.DriverBridge, State: network.NetworkReady}
	for _, s := range n.pods.subnets {
		r.Subnets = append(r.Subnets, network.Subnet{Subnet: s.Prefix(), Gateway: s.Gateway()})
		r.IPv6 = r.IPv6 || s.Prefix().Addr().Is6()
	}
	return r, nil
}

var _ interface {
	network.Provider
	network.Preparer
	network.Segments
} = (*Network)(nil)

// errRemoved: somebody was faster.
var errRemoved = fmt.Errorf("it is removed: %w", errdefs.ErrNotFound)

// open makes sure that the bridge of a user's network is there, should someone have deleted it.
func (n *Network) open(ctx context.Context, s *segment) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	there := n.segments[s.record.ID] == s
	n.mu.Unlock()
	if !there {
		return errRemoved
	}
	if index, err := n.conn.Index(s.link); err == nil && index == s.index {
		return nil
	}
	if err := n.makeSegment(ctx, s); err != nil {
		return err
	}
	return n.writeTable(ctx)
}
