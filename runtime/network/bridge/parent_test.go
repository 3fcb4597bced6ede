package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	miekg "github.com/miekg/dns"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/networktest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newParent makes a wire whose one end is a parent.
func newParent(t testing.TB, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = name, net.FlagUp
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.LinkByName(name + "p")
	if err == nil {
		err = netlink.LinkSetUp(peer)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(link)
		}
	})
}

// supported skips a test of links that this kernel does not have.
func supported(t testing.TB, link netlink.Link) {
	t.Helper()
	link.Attrs().Name = "probe0"
	err := netlink.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV) {
		t.Skipf("this kernel has no %s links", link.Type())
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func indexOf(t testing.TB, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

// TestMacvlan has containers beside the host on a wire: they reach each other, by names too, and all of it is taken away.
func TestMacvlan(t *testing.T) {
	n := fresh(t, Config{})
	newParent(t, "wire0")
	supported(t, &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: indexOf(t, "wire0")}, Mode: netlink.MACVLAN_MODE_BRIDGE})
	lan := made(t, n, network.Record{
		Name: "lan", Driver: network.DriverMacvlan, Options: map[string]string{"parent": "wire0"},
		Subnets: []network.Subnet{{Subnet: netip.MustParsePrefix("10.66.0.0/24"), Gateway: netip.MustParseAddr("10.66.0.254"), Auxiliary: map[string]netip.Addr{"printer": netip.MustParseAddr("10.66.0.1")}}},
	})
	links := len(hostLinks(t))
	r := request(t, "one")
	r.Addresses = []netip.Addr{netip.MustParseAddr("10.66.0.7")}
	one := join(t, n, lan, r)
	two := join(t, n, lan, request(t, "two"))
	if fmt.Sprint(one.IPs, two.IPs, one.Attachment.DNS.Servers) != "[10.66.0.7] [10.66.0.8] [127.0.0.11]" {
		t.Errorf("addresses %v, %v, dns %v", one.IPs, two.IPs, one.Attachment.DNS.Servers)
	}
	if len(hostLinks(t)) != links {
		t.Errorf("the host has %v", hostLinks(t))
	}
	networktest.Serve(t, one.Request.NetNS, "one", ap(one.IPs[0], 80))
	wantAnswer(t, "the neighbour", two.Request.NetNS, "tcp", netip.MustParseAddrPort("10.66.0.7:80"), "one")
	names := func(when string, n *Network) {
		t.Helper()
		for _, protocol := range []string{"udp", "tcp"} {
			if code, answers := ask(t, two.Request.NetNS, insideDNS, protocol, "one", miekg.TypeA); code != 0 || fmt.Sprint(answers) != "[10.66.0.7]" {
				t.Errorf("%s, by %s: %d, %v", when, protocol, code, answers)
			}
		}
	}
	names("at first", n)
	for _, p := range []pod{one, two} {
		if err := n.Check(t.Context(), p.Request, p.Attachment); err != nil {
			t.Error(err)
		}
	}
	if _, err := n.PlanNetwork(t.Context(), network.Record{ID: "x", Driver: network.DriverMacvlan, Options: map[string]string{"parent": "wire0"}}, []network.Record{lan}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second network on the parent: %v", err)
	}
	t.Log("the next daemon knows them")
	for _, server := range n.inside { // as with a daemon that was killed
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	clear(n.inside)
	next := again(t, []network.Record{lan}, one.Attachment, two.Attachment)
	names("after a restart", next)
	r = request(t, "three")
	r.Addresses = []netip.Addr{netip.MustParseAddr("10.66.0.7")}
	if _, err := joinAs(t, next, lan, r); !errdefs.IsAlreadyExists(err) {
		t.Errorf("an address that is taken: %v", err)
	}
	t.Log("one leaves, and its address and its link's name are free at once")
	if _, err := next.DetachFrom(t.Context(), one.Request, one.Attachment); err != nil {
		t.Fatal(err)
	}
	one = join(t, next, lan, one.Request)
	t.Log("what a killed daemon has not recorded is in nobody's way")
	next.forget(one.Attachment)
	next.closeInside(one.Attachment)
	next.release(one.Links[0])
	one = join(t, next, lan, one.Request)
	for _, p := range []pod{one, two} {
		if err := next.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Fatal(err)
		}
	}
	if len(next.inside) > 0 {
		t.Errorf("servers are left: %v", next.inside)
	}
	if err := next.RemoveNetwork(t.Context(), lan); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("wire0"); err != nil {
		t.Errorf("the parent is gone: %v", err)
	}
}

func TestIPvlan(t *testing.T) {
	n := fresh(t, Config{})
	newParent(t, "wire1")
	supported(t, &netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: indexOf(t, "wire1")}})
	for _, mode := range []string{"l2", "l3"} {
		lan := made(t, n, network.Record{
			Name: "ip" + mode, Driver: network.DriverIPvlan, Options: map[string]string{"parent": "wire1", "ipvlan_mode": mode},
			Subnets: []network.Subnet{{Subnet: netip.MustParsePrefix("10.67.0.0/24")}},
		})
		one, two := join(t, n, lan, request(t, "one"+mode)), join(t, n, lan, request(t, "two"+mode))
		networktest.Serve(t, one.Request.NetNS, "one", ap(one.IPs[0], 80))
		wantAnswer(t, "the neighbour", two.Request.NetNS, "tcp", netip.AddrPortFrom(one.IPs[0], 80), "one")
		for _, p := range []pod{one, two} {
			if err := n.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.RemoveNetwork(t.Context(), lan); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVLANParentIsMadeAndDeleted(t *testing.T) {
	n := fresh(t, Config{})
	newParent(t, "wire2")
	supported(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: indexOf(t, "wire2")}, VlanId: 9, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	lan := made(t, n, network.Record{Name: "tagged", Driver: network.DriverMacvlan, Options: map[string]string{"parent": "wire2.50"}})
	indexOf(t, "wire2.50")
	if err := n.RemoveNetwork(t.Context(), lan); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("wire2.50"); err == nil {
		t.Error("the VLAN is still there")
	}
}

func TestParentsThatAreNone(t *testing.T) {
	n := fresh(t, Config{})
	for parent, want := range map[string]string{"nothing0": "there is no such link", "nothing0.50": "link nothing0", "lo.5000": "there is no such link"} {
		r, err := n.PlanNetwork(t.Context(), network.Record{ID: strings.Repeat("e", 64), Name: "x", Driver: network.DriverMacvlan, Options: map[string]string{"parent": parent}}, nil)
		if err == nil {
			err = n.MakeNetwork(t.Context(), r)
		}
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", parent, err)
		}
		if err := n.RemoveNetwork(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
}

// TestABridgeAsParentStays has a parent that is itself a bridge, which no removal may take for ours.
func TestABridgeAsParentStays(t *testing.T) {
	n := fresh(t, Config{})
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "others0"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	lan := made(t, n, network.Record{Name: "onbridge", Driver: network.DriverMacvlan, Options: map[string]string{"parent": "others0"}})
	if err := n.RemoveNetwork(t.Context(), lan); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveNetwork(t.Context(), lan); err != nil { // as after a restart
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("others0")
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Error(err)
	}
}
