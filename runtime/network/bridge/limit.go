package bridge

import (
	"fmt"
	"net"

	"github.com/minirt/mini/runtime/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// limit paces a pod's traffic with token buckets (tc-tbf(8)) on the host, where the pod cannot reach them. What the pod
// gets leaves the host's end of its link, and waits there. What it sends comes in, and there is no queue for that: it is
// sent through a device of its own that has one.
func (n *Network) limit(l network.Link) error {
	if l.Bandwidth == (network.Bandwidth{}) {
		return nil
	}
	link, err := netlink.LinkByName(l.HostInterface)
	if err != nil {
		return fmt.Errorf("bandwidth: link %s: %w", l.HostInterface, err)
	}
	if rate := l.Bandwidth.Ingress; rate > 0 {
		if err := netlink.QdiscReplace(bucket(link.Attrs().Index, rate, l.MTU)); err != nil {
			return fmt.Errorf("bandwidth: limit what the pod gets: %w", err)
		}
	}
	if rate := l.Bandwidth.Egress; rate > 0 {
		if err := n.limitEgress(link, rate, l); err != nil {
			return fmt.Errorf("bandwidth: limit what the pod sends: %w", err)
		}
	}
	return nil
}

func (n *Network) limitEgress(link netlink.Link, rate uint64, l network.Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = n.names.ifbOf(l.HostInterface), l.MTU, net.FlagUp
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return err
	}
	ifb, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := netlink.QdiscAdd(ingress); err != nil {
		return err
	}
	everything := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL},
		ClassId:     netlink.MakeHandle(1, 1),
		Actions:     []netlink.Action{netlink.NewMirredAction(ifb.Attrs().Index)},
	}
	if err := netlink.FilterAdd(everything); err != nil {
		return err
	}
	return netlink.QdiscReplace(bucket(ifb.Attrs().Index, rate, l.MTU))
}

// bucket lets through rate bits per second on average. It holds what 20 ms at that rate send, but not less than a few
// packets, or single large ones would never pass; what would have to wait longer than 50 ms is dropped, so that the
// sender slows down.
func bucket(link int, rate uint64, mtu int) *netlink.Tbf {
	bytes := max(rate/8, 1)
	burst := max(bytes/50, uint64(4*mtu), 16<<10)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Buffer:     netlink.Xmittime(bytes, uint32(min(burst, 1<<31))),
		Limit:      uint32(min(burst+bytes/20, 1<<31)),
	}
}
