package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/minirt/mini/runtime/network/rules"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensure makes the bridge and the table when they are not there, and remembers what went wrong for Status.
func (n *Network) ensure(ctx context.Context) error {
	n.host.Lock()
	defer n.host.Unlock()
	n.mu.Lock()
	restored, bridge := n.restored, n.pods.index
	n.mu.Unlock()
	if !restored {
		return fmt.Errorf("built-in network: the attachments are not restored yet: %w", errdefs.ErrUnavailable)
	}
	if bridge != 0 {
		if index, err := n.conn.Index(n.pods.link); err == nil && index == bridge {
			return nil
		}
	}
	return n.make(ctx)
}

// make is called with host held.
func (n *Network) make(ctx context.Context) error {
	err := n.choose()
	if err == nil {
		err = n.makeBridge(&n.pods, n.config.MTU)
	}
	if err == nil {
		err = n.rejoin(&n.pods)
	}
	if err == nil {
		err = n.writeTable(ctx)
	}
	if err != nil {
		err = fmt.Errorf("built-in network: bridge %s: %w", n.pods.link, err)
	}
	n.mu.Lock()
	n.trouble = err
	n.mu.Unlock()
	return err
}

// choose decides the subnets of new pods, unless that is done: those that SetPodCIDR said, those configured, those that
// the bridge has already, or the first that nothing on the host uses.
func (n *Network) choose() error {
	n.mu.Lock()
	chosen := len(n.pods.subnets) > 0
	n.mu.Unlock()
	if chosen {
		return nil
	}
	want := n.told
	if len(want) > 0 {
		inUse, err := routes(n.pods.link)
		if err != nil {
			return err
		}
		if _, free := ipam.Pick(want[:1], inUse); !free {
			// A CNI plugin has it: then this is the network of containers only.
			n.config.Log.Warn("the node's subnet of pods is used by another link of the host; the built-in network has one of its own", "subnet", want[0])
			want = nil
		}
	}
	if len(want) == 0 {
		want = n.config.Subnets
	}
	if len(want) == 0 {
		has, err := bridgeAddresses(n.pods.link)
		if err != nil {
			return err
		}
		want = onePerFamily(has)
	}
	if len(want) == 0 {
		inUse, err := routes(n.pods.link)
		if err != nil {
			return err
		}
		four, ok := ipam.Pick(candidates(), inUse)
		if !ok {
			return fmt.Errorf("every subnet from 10.88.0.0/16 on is used by a route of the host: set pod_cidr: %w", errdefs.ErrUnavailable)
		}
		machine, err := os.ReadFile("/etc/machine-id")
		if err != nil { // then all machines without one have the same subnet, which never leaves them
			machine = nil
		}
		want = []netip.Prefix{four, ulaOf(strings.TrimSpace(string(machine)), n.config.Name)}
	}
	return n.use(want)
}

// use makes the subnets those of new pods. The others are kept while pods have addresses of them.
func (n *Network) use(want []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.pods.all()
	n.pods.subnets, n.pods.old = nil, nil
	for _, p := range want {
		if p.Addr().Is6() && !haveIPv6() {
			continue
		}
		i := slices.IndexFunc(known, func(s *ipam.Subnet) bool { return s.Prefix() == p.Masked() })
		if i >= 0 {
			n.pods.subnets = append(n.pods.subnets, known[i])
			known = slices.Delete(known, i, i+1)
			continue
		}
		s, err := ipam.NewSubnet(p)
		if err != nil {
			return err
		}
		n.pods.subnets = append(n.pods.subnets, s)
	}
	for _, s := range known {
		if s.Used() > 0 {
			n.pods.old = append(n.pods.old, s)
		}
	}
	if len(n.pods.subnets) == 0 {
		return fmt.Errorf("no subnet of %v can be used: this kernel has no IPv6: %w", want, errdefs.ErrInvalidArgument)
	}
	return nil
}

// onePerFamily keeps the first subnet of each family.
func onePerFamily(all []netip.Prefix) []netip.Prefix {
	var one []netip.Prefix
	for _, p := range all {
		if !slices.ContainsFunc(one, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			one = append(one, p.Masked())
		}
	}
	return one
}

// makeBridge makes the link as far as it is missing, gives it the gateways' addresses, and sets what it needs of the host.
func (n *Network) makeBridge(s *segment, mtu int) error {
	if mtu == 0 {
		mtu = uplinkMTU(n.names.isBridge)
	}
	n.mu.Lock()
	all := s.all()
	mac := macOf(all[0].Gateway())
	var gateways []netip.Prefix
	for _, subnet := range all {
		gateways = append(gateways, netip.PrefixFrom(subnet.Gateway(), subnet.Prefix().Bits()))
	}
	n.mu.Unlock()

	// The address is given, or the bridge would take on that of one pod's link after the other.
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr, attrs.Flags = s.link, mtu, mac, net.FlagUp
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make it: %w", err)
	}
	link, err := netlink.LinkByName(s.link)
	if err != nil {
		return err
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("there is a link of that name which is a %s: rename the daemon or the link: %w", link.Type(), errdefs.ErrAlreadyExists)
	}
	if err := errors.Join(netlink.LinkSetMTU(link, mtu), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	if err := setAddresses(link, gateways); err != nil {
		return err
	}
	if err := sysctls(s.link); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.index, s.mtu = link.Attrs().Index, mtu
	return nil
}

// setAddresses gives the bridge exactly these addresses, besides its link-local one.
func setAddresses(link netlink.Link, want []netip.Prefix) error {
	has, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	for _, p := range want {
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("give it the address %s: %w", p, err)
		}
	}
	for _, a := range has {
		p, ok := prefixOf(a.IPNet)
		if ok && !p.Addr().IsLinkLocalUnicast() && !slices.Contains(want, p) {
			if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("take the address %s from it: %w", p, err)
			}
		}
	}
	return nil
}

// writeTable writes the whole table, with the ports of all attachments.
func (n *Network) writeTable(ctx context.Context) error {
	if err := n.table.Apply(n.state()); err != nil {
		return err
	}
	n.checked = time.Now()
	for _, s := range n.users() {
		if s.moved {
			n.forgetFlows(ctx, s.toServer())
			s.moved = false
		}
	}
	n.admit(ctx)
	return nil
}

func (n *Network) state() rules.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	var s rules.State
	if len(n.pods.all()) > 0 {
		s.Networks = append(s.Networks, n.pods.rules())
	}
	for _, id := range slices.Sorted(maps.Keys(n.segments)) {
		if n.segments[id].onParent() {
			continue // the host is not on their way
		}
		s.Networks = append(s.Networks, n.segments[id].rules())
		s.Forwards = append(s.Forwards, n.segments[id].toServer()...)
	}
	for _, a := range n.attached {
		if forwards, err := forwardsOf(a); err == nil { // it was, when the attachment was made
			s.Forwards = append(s.Forwards, forwards...)
		}
	}
	return s
}

// lookAfterEvery is how long others' changes of the firewall may go unnoticed while the status is asked for, as kubelet
// does, or pods are started.
const lookAfterEvery = 10 * time.Second

// lookAfter writes the table again when someone flushed it, and passes a firewall that has come up meanwhile.
func (n *Network) lookAfter(ctx context.Context) {
	if !n.host.TryLock() {
		return // someone is at it
	}
	defer n.host.Unlock()
	if time.Since(n.checked) < lookAfterEvery {
		return
	}
	n.checked = time.Now()
	missing, err := n.table.Repair()
	if missing {
		n.config.Log.WarnContext(ctx, "someone deleted the rules of the pods' network; they are written again", "table", n.names.table)
	}
	n.mu.Lock()
	n.trouble = err
	n.mu.Unlock()
	n.admit(ctx)
}

// admit is no reason to start no pods: most firewalls need nothing.
func (n *Network) admit(ctx context.Context) {
	bridges := n.bridges()
	if err := n.table.Admit(bridges); err != nil {
		n.config.Log.WarnContext(ctx, "a firewall of this host may drop what pods send: allow forwarding to and from the bridges in it", "bridges", bridges, "error", err)
	}
}

// bridgeAddresses are the subnets of a bridge that exists already.
func bridgeAddresses(name string) ([]netip.Prefix, error) {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range all {
		if p, ok := prefixOf(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

// routes are the destinations that the host reaches otherwise than by the bridge.
func routes(bridge string) ([]netip.Prefix, error) {
	own := 0
	if link, err := netlink.LinkByName(bridge); err == nil {
		own = link.Attrs().Index
	}
	all, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	var to []netip.Prefix
	for _, r := range all {
		if p, ok := prefixOf(r.Dst); ok && r.LinkIndex != own {
			to = append(to, p)
		}
	}
	return to, nil
}

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// uplinkMTU is the smallest MTU of the links that default routes use.
func uplinkMTU(isBridge func(string) bool) int {
	mtu := 0
	all, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return defaultMTU
	}
	for _, r := range all {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || isBridge(link.Attrs().Name) || link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		if m := link.Attrs().MTU; mtu == 0 || m < mtu {
			mtu = m
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}
