package bridge

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	miekg "github.com/miekg/dns"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
	"github.com/vishvananda/netlink"
)

// made plans a network and makes it.
func made(t testing.TB, n *Network, r network.Record, others ...network.Record) network.Record {
	t.Helper()
	r.ID = hex.EncodeToString([]byte(r.Name)) + strings.Repeat("0", 64-len(r.Name)*2)
	if r.Driver == "" {
		r.Driver = network.DriverBridge
	}
	r, err := n.PlanNetwork(t.Context(), r, others)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.MakeNetwork(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

// again makes a provider as a daemon that starts does, with networks of users.
func again(t testing.TB, records []network.Record, all ...network.Attachment) *Network {
	t.Helper()
	n, err := New(Config{Name: "minitest", Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.RestoreNetworks(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return n
}

// joinAs joins a network by way of what gives the request its network.
func joinAs(t testing.TB, n *Network, to network.Record, r network.Request) (pod, error) {
	t.Helper()
	all, err := network.New(network.Options{Log: logger(t)}, nil, n)
	if err != nil {
		t.Fatal(err)
	}
	a, err := all.AttachTo(t.Context(), to, r)
	return pod{r, a}, err
}

func join(t testing.TB, n *Network, to network.Record, r network.Request) pod {
	t.Helper()
	p, err := joinAs(t, n, to, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends a question to port 53 of the server, from the namespace at the path.
func ask(t testing.TB, path, server, protocol, name string, kind uint16) (rcode int, answers []string) {
	t.Helper()
	var conn net.Conn
	dialer := net.Dialer{Timeout: 2 * time.Second}
	if protocol == "udp" { // by one port: where the kernel remembers an older flow, the answer is that of an older server
		dialer.LocalAddr = &net.UDPAddr{Port: 20053}
	}
	dial := func() (err error) {
		conn, err = dialer.Dial(protocol, net.JoinHostPort(server, "53"))
		return err
	}
	if err := inside(path, dial); err != nil {
		t.Errorf("%s: %v", name, err)
		return -1, nil
	}
	defer conn.Close()
	c := &miekg.Client{Net: protocol, Timeout: 2 * time.Second}
	answer, _, err := c.ExchangeWithConn(new(miekg.Msg).SetQuestion(miekg.Fqdn(name), kind), &miekg.Conn{Conn: conn})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return -1, nil
	}
	for _, rr := range answer.Answer {
		switch rr := rr.(type) {
		case *miekg.A:
			answers = append(answers, rr.A.String())
		case *miekg.AAAA:
			answers = append(answers, rr.AAAA.String())
		case *miekg.PTR:
			answers = append(answers, rr.Ptr)
		}
	}
	slices.Sort(answers)
	return answer.Rcode, answers
}

func inside(path string, do func() error) error {
	if path == "" {
		return do()
	}
	return netns.DoAt(path, do)
}

// resolves expects these addresses of a name.
func resolves(t testing.TB, when string, p pod, name string, kind uint16, want ...string) {
	t.Helper()
	for _, protocol := range []string{"udp", "tcp"} {
		code, got := ask(t, p.NetNS, p.Attachment.DNS.Servers[0], protocol, name, kind)
		slices.Sort(want)
		if code != miekg.RcodeSuccess || !slices.Equal(got, want) {
			t.Errorf("%s: %s by %s: %v, %s; want %v", when, name, protocol, got, miekg.RcodeToString[code], want)
		}
	}
}

// unreachable expects no answer.
func unreachable(t testing.TB, what, from string, to netip.AddrPort) {
	t.Helper()
	for _, protocol := range []string{"tcp", "udp"} {
		if name, _, err := networktest.Ask(t, from, protocol, to); err == nil {
			t.Errorf("%s: %s %s: an answer of %q", what, protocol, to, name)
		}
	}
}

func v6(r network.Record) network.Record {
	r.IPv6 = true
	return r
}

// TestUsersNetworks is two networks with two containers each, and one that is in both.
func TestUsersNetworks(t *testing.T) {
	lan := networktest.NewLAN(t, 1400)
	n := fresh(t, Config{})
	red := made(t, n, v6(network.Record{Name: "red"}))
	blue := made(t, n, v6(network.Record{Name: "blue", Options: map[string]string{"mtu": "1300"}}), red)
	if red.Subnets[0].Subnet.String() != "172.18.0.0/16" || blue.Subnets[0].Subnet.String() != "172.19.0.0/16" || len(blue.Subnets) != 2 {
		t.Fatalf("planned: %v and %v", red.Subnets, blue.Subnets)
	}
	web := request(t, "web", published("tcp", "", 8080, 7))
	web.Aliases = []string{"www"}
	one, db := join(t, n, red, web), join(t, n, red, request(t, "db"))
	other := join(t, n, blue, request(t, "other"))
	plain := attach(t, n, request(t, "plain"))
	both := request(t, "both")
	bothRed := join(t, n, red, both)
	both.Interface = "eth1"
	bothBlue := join(t, n, blue, both)

	for p, name := range map[*pod]string{&one: "web", &db: "db", &other: "other", &plain: "plain"} {
		networktest.Serve(t, p.NetNS, name, netip.MustParseAddrPort("[::]:7"))
	}
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	for _, six := range []bool{false, true} {
		wantAnswer(t, "neighbours", db.NetNS, "tcp", ap(one.ip(t, six), 7), "web")
		wantAnswer(t, "both to red", both.NetNS, "tcp", ap(one.ip(t, six), 7), "web")
		wantAnswer(t, "both to blue", both.NetNS, "udp", ap(other.ip(t, six), 7), "other")
		peer, host := lan.Peer4, lan.Host4
		if six {
			peer, host = lan.Peer6, lan.Host6
		}
		if seen := wantAnswer(t, "out", one.NetNS, "tcp", ap(peer, 7), "lan"); seen != host {
			t.Errorf("the world sees %s", seen)
		}
		wantAnswer(t, "host to container", "", "tcp", ap(one.ip(t, six), 7), "web")
		wantAnswer(t, "the published port", lan.Path, "tcp", ap(host, 8080), "web")
		wantAnswer(t, "the published port from the other network", other.NetNS, "tcp", ap(host, 8080), "web")
		unreachable(t, "blue to red", other.NetNS, ap(one.ip(t, six), 7))
		unreachable(t, "red to blue", one.NetNS, ap(other.ip(t, six), 7))
		unreachable(t, "pods to red", plain.NetNS, ap(one.ip(t, six), 7))
		unreachable(t, "red to pods", one.NetNS, ap(plain.ip(t, six), 7))
	}
	if l := bothRed.Links[0]; l.Interface != "eth0" || len(l.Gateways) != 2 || l.MTU != 1400 {
		t.Errorf("the first interface: %+v", l)
	}
	if l := bothBlue.Links[0]; l.Interface != "eth1" || len(l.Gateways) != 0 || l.MTU != 1300 {
		t.Errorf("the second interface: %+v", l)
	}

	four, six := one.ip(t, false).String(), one.ip(t, true).String()
	for _, name := range []string{"web", "WWW", "www", "id-of-web", "web.red"} {
		resolves(t, "in red", db, name, miekg.TypeA, four)
		resolves(t, "in red", db, name, miekg.TypeAAAA, six)
	}
	resolves(t, "from both", bothRed, "other", miekg.TypeA, other.ip(t, false).String())
	resolves(t, "from both", bothBlue, "web", miekg.TypeA, four)
	resolves(t, "another kind", db, "web", miekg.TypeMX)
	for _, ip := range one.IPs {
		name, err := miekg.ReverseAddr(ip.String())
		if err != nil {
			t.Fatal(err)
		}
		resolves(t, "in return", db, name, miekg.TypePTR, "web.red.")
	}
	if code, _ := ask(t, other.NetNS, other.Attachment.DNS.Servers[0], "udp", "web", miekg.TypeA); code != miekg.RcodeNameError {
		t.Errorf("a name of another network: %s", miekg.RcodeToString[code])
	}
	if code, _ := ask(t, "", one.Attachment.DNS.Servers[0], "udp", "web", miekg.TypeA); code != miekg.RcodeRefused {
		t.Errorf("a question of the host: %s", miekg.RcodeToString[code])
	}

	if err := n.RemoveNetwork(t.Context(), blue); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removed while it is used: %v", err)
	}
	for _, p := range []pod{one, db, other, plain, bothRed, bothBlue} {
		if err := n.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		for _, r := range []network.Record{red, blue} {
			if err := n.RemoveNetwork(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := used(n); got != 0 {
		t.Errorf("%d still in use", got)
	}
	for _, link := range hostLinks(t) {
		if strings.HasPrefix(link, n.names.user) {
			t.Errorf("link %s is left", link)
		}
	}
	if _, err := joinAs(t, n, red, request(t, "late")); !errdefs.IsNotFound(err) {
		t.Errorf("joined a network that is removed: %v", err)
	}
}

// TestAPublishedPort53 and the server of the network are in nobody's way.
func TestAPublishedPort53(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	red := made(t, n, network.Record{Name: "red"})
	dns := join(t, n, red, request(t, "dns", published("udp", "", 53, 7)))
	networktest.Serve(t, dns.NetNS, "dns", netip.MustParseAddrPort("[::]:7"))
	wantAnswer(t, "from outside", lan.Path, "udp", ap(lan.Host4, 53), "dns")
	resolves(t, "inside", dns, "dns", miekg.TypeA, dns.ip(t, false).String())
}

func TestInternal(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	inner := made(t, n, v6(network.Record{Name: "inner", Internal: true}))
	outer := made(t, n, v6(network.Record{Name: "outer"}), inner)
	one, two := join(t, n, inner, request(t, "one")), join(t, n, inner, request(t, "two"))
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	wantAnswer(t, "inside", two.NetNS, "tcp", ap(one.ip(t, true), 7), "one")
	resolves(t, "inside", two, "one", miekg.TypeA, one.ip(t, false).String())
	unreachable(t, "out", one.NetNS, ap(lan.Peer4, 7))
	// With a route of its own making, it is the rules that keep it in.
	via := func(p pod, gateway netip.Addr) error {
		return netns.DoAt(p.NetNS, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
		})
	}
	if err := via(one, inner.Subnets[0].Gateway); err != nil {
		t.Fatal(err)
	}
	unreachable(t, "out by the gateway", one.NetNS, ap(lan.Peer4, 7))
	if code, _ := ask(t, one.NetNS, one.Attachment.DNS.Servers[0], "udp", "example.com", miekg.TypeA); code != miekg.RcodeServerFailure {
		t.Errorf("a name of the world: %s", miekg.RcodeToString[code])
	}
	if _, err := joinAs(t, n, inner, request(t, "three", published("tcp", "", 80, 80))); !errdefs.IsInvalidArgument(err) {
		t.Errorf("published: %v", err)
	}
	// The default route goes by the first that leads out; when that is left, by none.
	r := request(t, "four")
	first := join(t, n, inner, r)
	r.Interface = "eth1"
	second := join(t, n, outer, r)
	if len(first.Links[0].Gateways) != 0 || len(second.Links[0].Gateways) != 2 {
		t.Errorf("default routes by %v and %v", first.Links[0].Gateways, second.Links[0].Gateways)
	}
	wantAnswer(t, "out by the second", r.NetNS, "tcp", ap(lan.Peer4, 7), "lan")
	changed, err := n.DetachFrom(t.Context(), r, second.Attachment)
	if err != nil || len(changed) != 0 {
		t.Errorf("left: %v, %v", changed, err)
	}
	unreachable(t, "after it has left", r.NetNS, ap(lan.Peer4, 7))
	wantAnswer(t, "after it has left", r.NetNS, "tcp", ap(one.ip(t, false), 7), "one")
}

// TestLeaving a network gives the default routes to another one.
func TestLeaving(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	red := made(t, n, v6(network.Record{Name: "red"}))
	blue := made(t, n, v6(network.Record{Name: "blue"}), red)
	r := request(t, "one")
	first := join(t, n, red, r)
	r.Interface = "eth1"
	second := join(t, n, blue, r)
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	changed, err := n.DetachFrom(t.Context(), r, first.Attachment)
	if err != nil || len(changed) != 1 || changed[0].Network != blue.ID || len(changed[0].Links[0].Gateways) != 2 {
		t.Fatalf("changed: %+v, %v", changed, err)
	}
	wantAnswer(t, "by the other", r.NetNS, "tcp", ap(lan.Peer4, 7), "lan")
	wantAnswer(t, "by the other", r.NetNS, "tcp", ap(lan.Peer6, 7), "lan")
	resolves(t, "by the other", second, "one", miekg.TypeA, second.ip(t, false).String())
	if err := n.RemoveNetwork(t.Context(), red); err != nil {
		t.Error(err)
	}
}

func TestStaticAddresses(t *testing.T) {
	n := fresh(t, Config{})
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	red := made(t, n, network.Record{Name: "red", Subnets: []network.Subnet{
		{Subnet: p("10.77.0.0/24"), Gateway: a("10.77.0.254"), Range: p("10.77.0.128/29")},
		{Subnet: p("fd77::/64")},
	}})
	one := request(t, "one")
	one.Addresses, one.MAC = []netip.Addr{a("10.77.0.5"), a("fd77::5")}, "02:00:00:00:00:05"
	first := join(t, n, red, one)
	if fmt.Sprint(first.IPs) != "[10.77.0.5 fd77::5]" || fmt.Sprint(first.Links[0].Gateways) != "[10.77.0.254 fd77::1]" {
		t.Errorf("got %v by way of %v", first.IPs, first.Links[0].Gateways)
	}
	err := netns.DoAt(one.NetNS, func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil && link.HardwareAddr.String() != one.MAC {
			t.Errorf("hardware address %s", link.HardwareAddr)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if two := join(t, n, red, request(t, "two")); two.IPs[0].String() != "10.77.0.128" {
		t.Errorf("chosen: %v", two.IPs)
	}
	for what, change := range map[string]func(*network.Request){
		"taken":               func(r *network.Request) { r.Addresses = []netip.Addr{a("10.77.0.5")} },
		"in no subnet":        func(r *network.Request) { r.Addresses = []netip.Addr{a("10.78.0.5")} },
		"the gateway's":       func(r *network.Request) { r.Addresses = []netip.Addr{a("10.77.0.254")} },
		"not hardware":        func(r *network.Request) { r.MAC = "02:00" },
		"hardware for groups": func(r *network.Request) { r.MAC = "01:00:00:00:00:05" },
	} {
		r := request(t, "bad")
		change(&r)
		if _, err := joinAs(t, n, red, r); !errdefs.IsInvalidArgument(err) && !errdefs.IsAlreadyExists(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Stopped and started again at once, with a new namespace: the address is not free before the old link is gone.
	if err := n.Detach(t.Context(), one, &first.Attachment); err != nil {
		t.Fatal(err)
	}
	one.NetNS = networktest.Namespace(t)
	if second := join(t, n, red, one); second.IPs[0] != first.IPs[0] {
		t.Errorf("the second time: %v", second.IPs)
	}
}

// TestApart keeps the containers of a network from each other, but not from the world. Published ports they reach where
// bridges do not call iptables; where they do, the packet has its destination before the bridge keeps it from there.
func TestApart(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	for _, name := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		if err := setSysctl(name, "0"); err != nil { // of the test's own network namespace; none without br_netfilter
			t.Fatal(err)
		}
	}
	n := fresh(t, Config{})
	red := made(t, n, network.Record{Name: "red", Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}})
	one, two := join(t, n, red, request(t, "one", published("tcp", "", 8080, 7))), join(t, n, red, request(t, "two"))
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	unreachable(t, "neighbours", two.NetNS, ap(one.ip(t, false), 7))
	wantAnswer(t, "out", two.NetNS, "tcp", ap(lan.Peer4, 7), "lan")
	wantAnswer(t, "the published port", two.NetNS, "tcp", ap(lan.Host4, 8080), "one")
}

// TestRestoreUsersNetworks starts the daemon again: with all in place, and with the bridge and the rules gone.
func TestRestoreUsersNetworks(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	red := made(t, n, v6(network.Record{Name: "red"}))
	gone := made(t, n, network.Record{Name: "gone"}, red)
	one := join(t, n, red, request(t, "one", published("tcp", "", 8080, 7)))
	two := join(t, n, red, request(t, "two"))
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	check := func(when string) {
		t.Helper()
		wantAnswer(t, when, lan.Path, "tcp", ap(lan.Host4, 8080), "one")
		wantAnswer(t, when, two.NetNS, "tcp", ap(one.ip(t, true), 7), "one")
		resolves(t, when, two, "one", miekg.TypeA, one.ip(t, false).String())
	}
	check("before")
	reopened := again(t, []network.Record{red}, one.Attachment, two.Attachment)
	check("after a restart")
	if slices.Contains(hostLinks(t), n.names.bridgeOf(gone.ID)) {
		t.Error("the bridge of a network without a record is left")
	}
	if _, err := joinAs(t, reopened, red, one.Request); !errdefs.IsAlreadyExists(err) {
		t.Errorf("joined twice: %v", err)
	}
	three := join(t, reopened, red, request(t, "three"))
	if three.ip(t, false) == one.ip(t, false) || three.ip(t, false) == two.ip(t, false) {
		t.Errorf("%v was given twice", three.IPs)
	}
	if err := deleteBridge(n.names.bridgeOf(red.ID)); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "nft", "flush", "ruleset")
	reopened = again(t, []network.Record{red}, one.Attachment, two.Attachment, three.Attachment)
	check("without the bridge and the rules")

	// Without a restart, the next container makes the bridge again.
	if err := deleteBridge(n.names.bridgeOf(red.ID)); err != nil {
		t.Fatal(err)
	}
	four := join(t, reopened, red, request(t, "four"))
	check("after the next container")
	renamed := one.Attachment
	renamed.Names = []string{"eins"}
	if err := reopened.SetNames(t.Context(), renamed); err != nil {
		t.Fatal(err)
	}
	resolves(t, "renamed", two, "eins", miekg.TypeA, one.ip(t, false).String())
	if code, _ := ask(t, two.NetNS, two.Attachment.DNS.Servers[0], "udp", "one", miekg.TypeA); code != miekg.RcodeNameError {
		t.Errorf("the old name: %s", miekg.RcodeToString[code])
	}
	for _, p := range []pod{one, two, three, four} {
		if err := reopened.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Error(err)
		}
	}
	if err := reopened.RemoveNetwork(t.Context(), red); err != nil {
		t.Error(err)
	}
	if got := used(reopened); got != 0 {
		t.Errorf("%d still in use", got)
	}
}

func TestPlan(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	inUse := []use{{p("172.18.0.0/16"), "network red"}, {p("10.0.0.0/8"), "a route of the host by eth0"}, {p("0.0.0.0/0"), "a route of the host by eth0"}}
	ula := func() netip.Prefix { return p("fd00:1::/64") }
	for _, test := range []struct {
		what   string
		given  network.Record
		want   string
		refuse string
	}{
		{"nothing said", network.Record{}, "[{172.19.0.0/16 172.19.0.1 invalid Prefix}]", ""},
		{"IPv6", network.Record{IPv6: true}, "[{172.19.0.0/16 172.19.0.1 invalid Prefix} {fd00:1::/64 fd00:1::1 invalid Prefix}]", ""},
		{"a subnet", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.9/24")}}}, "[{192.168.7.0/24 192.168.7.1 invalid Prefix}]", ""},
		{"a subnet of IPv6", network.Record{Subnets: []network.Subnet{{Subnet: p("fd00:9::/64"), Gateway: a("fd00:9::9")}}}, "[{172.19.0.0/16 172.19.0.1 invalid Prefix} {fd00:9::/64 fd00:9::9 invalid Prefix}]", ""},
		{"no IPv4", network.Record{NoIPv4: true, Subnets: []network.Subnet{{Subnet: p("fd00:9::/64")}}}, "[{fd00:9::/64 fd00:9::1 invalid Prefix}]", ""},
		{"no IPv4 and no subnet", network.Record{NoIPv4: true}, "[{fd00:1::/64 fd00:1::1 invalid Prefix}]", ""},
		{"no IPv4 and a subnet of it", network.Record{NoIPv4: true, Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24")}}}, "", "IPv4 is switched off"},
		{"an auxiliary address elsewhere", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24"), Auxiliary: map[string]netip.Addr{"x": a("192.168.8.1")}}}}, "", "auxiliary address x"},
		{"a range", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24"), Range: p("192.168.7.128/25")}}}, "[{192.168.7.0/24 192.168.7.1 192.168.7.128/25}]", ""},
		{"a network's", network.Record{Subnets: []network.Subnet{{Subnet: p("172.18.5.0/24")}}}, "", "172.18.0.0/16 of network red"},
		{"a route's", network.Record{Subnets: []network.Subnet{{Subnet: p("10.5.0.0/24")}}}, "", "10.0.0.0/8 of a route of the host by eth0"},
		{"two of a family", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24")}, {Subnet: p("192.168.8.0/24")}}}, "", "another one of its family"},
		{"a gateway elsewhere", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24"), Gateway: a("192.168.8.1")}}}, "", "gateway 192.168.8.1"},
		{"a range elsewhere", network.Record{Subnets: []network.Subnet{{Subnet: p("192.168.7.0/24"), Range: p("192.168.8.0/25")}}}, "", "range 192.168.8.0/25"},
	} {
		got, err := plan(test.given, inUse, ula)
		if test.refuse != "" {
			if err == nil || !strings.Contains(err.Error(), test.refuse) {
				t.Errorf("%s: %v", test.what, err)
			}
			continue
		}
		if err != nil || strings.ReplaceAll(fmt.Sprint(got.Subnets), " map[]", "") != test.want {
			t.Errorf("%s: %v, %v", test.what, got.Subnets, err)
		}
	}
}

// TestPlanOnTheHost looks at the host's own routes and links.
func TestPlanOnTheHost(t *testing.T) {
	networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	for what, r := range map[string]network.Record{
		"192.0.2.0/24 of a route of the host by uplink": {Subnets: []network.Subnet{{Subnet: netip.MustParsePrefix("192.0.0.0/16")}}},
		"there is a link of that name":                  {Options: map[string]string{"bridge": "uplink"}},
		"not known":                                     {Options: map[string]string{"colour": "red"}},
		"not between":                                   {Options: map[string]string{"mtu": "7"}},
	} {
		r.Name, r.Driver = "red", network.DriverBridge
		if _, err := n.PlanNetwork(t.Context(), r, nil); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/conf/" + n.names.user); err == nil {
		t.Error("planning made something")
	}
}
