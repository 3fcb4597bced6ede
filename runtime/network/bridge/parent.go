package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/dns"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Networks of the drivers macvlan and ipvlan have no bridge: their containers get links that hang on a link of the host,
// the parent, and so are in the network that it is in, beside the host. The host does not route for them, cannot be reached
// by them through the parent (the kernel keeps the two apart), and publishes none of their ports. Their gateway is somebody
// else's. A parent like eth0.50 that is not there is made, as the VLAN 50 of eth0, and goes with the network; without a
// parent, a dummy link stands for one, so that the containers reach only each other.
//
// There is no end of the link on the host: what is outside of the container's namespace is nothing. The name that an
// attachment has there only holds its addresses.

// onParent says whether the containers of a segment hang on a link of the host.
func (s *segment) onParent() bool { return s.record.OnParent() }

// aliasOf marks a link that was made for a network (ip-link(8), alias).
func aliasOf(r network.Record) string { return "for network " + r.ID }

// dummyOf is what stands for a parent that is not given; Docker's name.
func dummyOf(id string) string { return "dm-" + id[:min(12, len(id))] }

// vlanOf reads PARENT.ID.
func vlanOf(name string) (parent string, id int, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return "", 0, false
	}
	id, err := strconv.Atoi(name[i+1:])
	if err != nil || id < 1 || id > 4094 { // IEEE 802.1Q: 0 and 4095 are reserved
		return "", 0, false
	}
	return name[:i], id, true
}

// makeParent makes the parent when it is not there, and notes what it is like. Called with host held.
func (n *Network) makeParent(s *segment) error {
	link, err := netlink.LinkByName(s.link)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		if err := addParent(s); err != nil {
			return err
		}
		if err := failpoint.Hit("network-parent-made"); err != nil {
			return err
		}
		link, err = netlink.LinkByName(s.link)
	}
	if err != nil {
		return fmt.Errorf("parent %s: %w", s.link, err)
	}
	if link.Attrs().Alias == aliasOf(s.record) || isMark(link, s) {
		if err := errors.Join(netlink.LinkSetAlias(link, aliasOf(s.record)), netlink.LinkSetUp(link)); err != nil {
			return fmt.Errorf("bring the parent %s up: %w", s.link, err)
		}
	}
	mtu := s.settings.MTU
	if mtu == 0 {
		mtu = link.Attrs().MTU
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.index, s.mtu = link.Attrs().Index, mtu
	return nil
}

// isMark tells the dummy of a network, which is nobody else's whatever its alias says.
func isMark(link netlink.Link, s *segment) bool { return link.Attrs().Name == dummyOf(s.record.ID) }

func addParent(s *segment) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Alias, attrs.Flags = s.link, aliasOf(s.record), net.FlagUp
	if s.settings.Parent == "" {
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make a dummy link for want of a parent: %w: give one with -o parent=LINK", err)
		}
		return nil
	}
	base, id, ok := vlanOf(s.link)
	if !ok {
		return fmt.Errorf("parent %s: there is no such link: see `ip link`, or write LINK.ID for a VLAN of one: %w", s.link, errdefs.ErrInvalidArgument)
	}
	link, err := netlink.LinkByName(base)
	if err != nil {
		return fmt.Errorf("parent %s: link %s: %w (%w)", s.link, base, err, errdefs.ErrInvalidArgument)
	}
	attrs.ParentIndex = link.Attrs().Index
	if err := addVLAN(s, attrs, id); err != nil {
		return fmt.Errorf("make the VLAN %d of %s: %w", id, base, err)
	}
	return nil
}

// addVLAN makes a VLAN that is known to be this network's from the beginning: a new link has no alias yet, so that it gets
// its name, which could be somebody else's, last.
func addVLAN(s *segment, attrs netlink.LinkAttrs, id int) error {
	attrs.Name, attrs.Flags = dummyOf(s.record.ID), 0 // a link that is up may not be renamed before Linux 6.0
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	if err := netlink.LinkAdd(vlan); err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(vlan, aliasOf(s.record)); err != nil {
		return err
	}
	if err := netlink.LinkSetName(vlan, s.link); err != nil {
		return err
	}
	return netlink.LinkSetUp(vlan)
}

// deleteParent deletes the parent if it was made for this network, and what a daemon was killed over while it made it.
func deleteParent(s *segment) error {
	return errors.Join(deleteOwn(s, s.link), deleteOwn(s, dummyOf(s.record.ID)))
}

func deleteOwn(s *segment, name string) error {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil && (link.Attrs().Alias == aliasOf(s.record) || isMark(link, s)) {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete the link %s: %w", name, err)
	}
	return nil
}

// deleteLink deletes what a segment has on the host.
func deleteLink(s *segment) error {
	if s.onParent() {
		return deleteParent(s)
	}
	return deleteBridge(s.link)
}

// hang makes a container's link and configures it.
func (n *Network) hang(s *segment, ns *os.File, l network.Link) error {
	n.mu.Lock()
	parent := s.index
	n.mu.Unlock()
	c := rtnl.Child{Kind: s.record.Driver, Parent: parent, Name: l.Interface, MTU: l.MTU, Mode: s.settings.Mode, Flags: s.settings.Flags, NS: ns}
	if s.record.Driver == network.DriverMacvlan {
		mac, err := parseMAC(l.MAC)
		if err != nil {
			return err
		}
		c.MAC = mac
	}
	inside, err := rtnl.OpenIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	err = n.conn.Do(rtnl.NewChild(c))
	if errors.Is(err, unix.EEXIST) { // of a daemon that was killed before it could note it
		if err = inside.Do(rtnl.DeleteLink(l.Interface)); err == nil {
			err = n.conn.Do(rtnl.NewChild(c))
		}
	}
	if err != nil {
		return err
	}
	if err := configure(inside, l, s.settings.Layer3() && !s.record.Internal); err != nil {
		return errors.Join(err, inside.Do(rtnl.DeleteLink(l.Interface)))
	}
	return nil
}

// unhang takes a container's link away, as nothing on the host leads to it.
func (n *Network) unhang(path string, a network.Attachment) error {
	n.mu.Lock()
	s := n.segmentOf(a)
	n.mu.Unlock()
	if s == nil || !s.onParent() {
		return nil
	}
	n.closeInside(a)
	if path == "" {
		return nil // it went with its namespace
	}
	return removeInside(path, a.Links[0].Interface)
}

// insideDNS is where a container asks whose networks have no gateway of the host's; Docker's address.
const insideDNS = "127.0.0.11"

// openInside opens a DNS server in the namespace of a container, unless it has one.
func (n *Network) openInside(ctx context.Context, a network.Attachment) error {
	n.mu.Lock()
	_, has := n.inside[a.ID]
	n.mu.Unlock()
	if has || a.Inside == "" || len(a.IPs) == 0 {
		return nil
	}
	ns, err := netns.Open(a.Inside)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	var server *dns.Server
	err = netns.Do(ns, func() (err error) {
		server, err = dns.Listen(ctx, dns.Config{Addresses: []netip.Addr{netip.MustParseAddr(insideDNS)}, Port: portOfDNS, As: a.IPs[0], Directory: &n.directory, Log: n.config.Log})
		return err
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inside == nil {
		n.inside = map[string]*dns.Server{}
	}
	n.inside[a.ID] = server
	return nil
}

// closeInside closes the server of a container that leaves the last of such networks: it holds the namespace.
func (n *Network) closeInside(gone network.Attachment) {
	n.mu.Lock()
	server := n.inside[gone.ID]
	for _, a := range n.attached {
		s := n.segmentOf(a)
		if a.ID == gone.ID && a.Network != gone.Network && s != nil && s.onParent() {
			server = nil // another one needs it
		}
	}
	if server != nil {
		delete(n.inside, gone.ID)
	}
	n.mu.Unlock()
	if server == nil {
		return
	}
	if err := server.Close(); err != nil {
		n.config.Log.Warn("a container's dns server does not end", "id", gone.ID, "error", err)
	}
}

// restoreInside opens the servers of the containers that a daemon before has left.
func (n *Network) restoreInside(ctx context.Context) {
	n.mu.Lock()
	var all []network.Attachment
	for _, a := range n.attached {
		if s := n.segmentOf(a); s != nil && s.onParent() {
			all = append(all, a)
		}
	}
	n.mu.Unlock()
	for _, a := range all {
		if err := n.openInside(ctx, a); err != nil {
			n.config.Log.Warn("a container has no dns", "id", a.ID, "error", err)
		}
	}
}
