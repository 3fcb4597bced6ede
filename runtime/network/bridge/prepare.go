package bridge

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/vishvananda/netlink"
)

// Prepare puts an interface with addresses and routes into a namespace of no pod yet.
func (n *Network) Prepare(ctx context.Context, ns *os.File) (network.Attachment, error) {
	if err := n.ensure(ctx); err != nil {
		return network.Attachment{}, err
	}
	a, err := n.join(&n.pods, ns, network.Request{})
	if err != nil {
		return network.Attachment{}, fmt.Errorf("built-in network: prepare: %w", err)
	}
	n.mu.Lock()
	n.prepared[a.Links[0].HostInterface] = a
	n.mu.Unlock()
	return a, nil
}

// Discard takes a prepared attachment away.
func (n *Network) Discard(ctx context.Context, prepared network.Attachment, now bool) error {
	if err := n.takeAway(ctx, prepared, now); err != nil {
		return fmt.Errorf("built-in network: prepared interface: %w", err)
	}
	return nil
}

// Check looks whether both ends of the pod's link are there, the one in the bridge, the other with its addresses.
func (n *Network) Check(ctx context.Context, r network.Request, a network.Attachment) error {
	n.mu.Lock()
	_, ok := n.attached[keyOf(a)]
	s := n.segmentOf(a)
	if s == nil {
		s = &segment{}
	}
	bridge, name, onParent := s.index, s.link, s.onParent()
	n.mu.Unlock()
	if !ok {
		return fmt.Errorf("built-in network: pod %s: not attached: %w", r.ID, errdefs.ErrNotFound)
	}
	for _, l := range a.Links {
		host, err := netlink.LinkByName(l.HostInterface)
		if err != nil && !onParent {
			return fmt.Errorf("built-in network: pod %s: link %s: %w (%w)", r.ID, l.HostInterface, err, errdefs.ErrNotFound)
		}
		if !onParent && host.Attrs().MasterIndex != bridge {
			return fmt.Errorf("built-in network: pod %s: link %s is not in the bridge %s: %w", r.ID, l.HostInterface, name, errdefs.ErrFailedPrecondition)
		}
		var has []netip.Prefix
		err = netns.DoAt(r.NetNS, func() (err error) {
			has, err = bridgeAddresses(l.Interface)
			return err
		})
		if err != nil {
			return fmt.Errorf("built-in network: pod %s: interface %s: %w", r.ID, l.Interface, err)
		}
		for _, p := range l.Addresses {
			if !slices.Contains(has, p) {
				return fmt.Errorf("built-in network: pod %s: interface %s has no longer the address %s: %w", r.ID, l.Interface, p, errdefs.ErrFailedPrecondition)
			}
		}
	}
	return nil
}
