package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { os.Exit(networktest.Main(m)) }

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// reopen makes a provider as a daemon that starts does.
func reopen(t testing.TB, c Config, all ...network.Attachment) *Network {
	t.Helper()
	if c.Name == "" {
		c.Name = "minitest"
	}
	c.Log = logger(t)
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.Restore(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return n
}

// fresh makes a provider and expects the host to be as before when the test has ended.
func fresh(t testing.TB, c Config) *Network {
	t.Helper()
	testenv.Root(t)
	before := hostLinks(t)
	var n *Network
	t.Cleanup(func() {
		if after := hostLinks(t); !slices.Equal(before, after) {
			t.Errorf("links before: %v, after: %v", before, after)
		}
		if rules := ruleset(t); rules != "" {
			t.Errorf("rules are left:\n%s", rules)
		}
	})
	n = reopen(t, c)
	t.Cleanup(func() {
		if err := n.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func hostLinks(t testing.TB) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

func ruleset(t testing.TB) string {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/nft"); err != nil {
		return ""
	}
	out, err := exec.Command("/usr/sbin/nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Errorf("nft: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

type pod struct {
	network.Request
	network.Attachment
}

func (p pod) ip(t testing.TB, six bool) netip.Addr {
	t.Helper()
	for _, ip := range p.IPs {
		if ip.Is6() == six {
			return ip
		}
	}
	t.Fatalf("no such address in %v", p.IPs)
	return netip.Addr{}
}

func request(t testing.TB, name string, ports ...network.Port) network.Request {
	t.Helper()
	return network.Request{ID: "id-of-" + name, Name: name, Namespace: "default", NetNS: networktest.Namespace(t), Ports: ports}
}

func attach(t testing.TB, n *Network, r network.Request) pod {
	t.Helper()
	a, err := n.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return pod{r, a}
}

// used is how many addresses, ports and links are held, of pods that are there and of pods that were.
func used(n *Network) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := len(n.attached) + len(n.prepared) + len(n.reaping) + len(n.ports.Holders())
	for _, s := range n.everything() {
		count += s.Used()
	}
	return count
}

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// wantAnswer asks and expects an answer of the name; it returns the address that the server saw.
func wantAnswer(t testing.TB, what, from, protocol string, to netip.AddrPort, name string) netip.Addr {
	t.Helper()
	got, seen, err := networktest.Ask(t, from, protocol, to)
	for range 2 { // on a busy machine the search for a neighbour may take longer than the question waits
		if err == nil {
			break
		}
		got, seen, err = networktest.Ask(t, from, protocol, to)
	}
	if err != nil || got != name {
		t.Errorf("%s: %s %s: answer of %q, %v; want that of %q", what, protocol, to, got, err, name)
	}
	return seen
}

func TestAttach(t *testing.T) {
	lan := networktest.NewLAN(t, 1400)
	n := fresh(t, Config{})
	one, two := attach(t, n, request(t, "one")), attach(t, n, request(t, "two"))
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	networktest.Serve(t, "", "host", ap(lan.Host4, 7))
	networktest.Serve(t, "", "host", ap(lan.Host6, 7))
	networktest.Serve(t, two.NetNS, "two", netip.MustParseAddrPort("[::]:7"))
	for _, six := range []bool{false, true} {
		peer, host := lan.Peer4, lan.Host4
		if six {
			peer, host = lan.Peer6, lan.Host6
		}
		for _, protocol := range []string{"tcp", "udp"} {
			if seen := wantAnswer(t, "pod to pod", one.NetNS, protocol, ap(two.ip(t, six), 7), "two"); seen != one.ip(t, six) {
				t.Errorf("pod to pod: seen as %s", seen)
			}
			wantAnswer(t, "host to pod", "", protocol, ap(two.ip(t, six), 7), "two")
			if seen := wantAnswer(t, "pod to host", one.NetNS, protocol, ap(host, 7), "host"); seen != one.ip(t, six) {
				t.Errorf("pod to host: seen as %s", seen)
			}
			if seen := wantAnswer(t, "pod to the world", one.NetNS, protocol, ap(peer, 7), "lan"); seen != host {
				t.Errorf("pod to the world: seen as %s, not masqueraded", seen)
			}
			wantAnswer(t, "pod to itself", two.NetNS, protocol, ap(two.ip(t, six), 7), "two")
		}
	}
	if l := one.Links[0]; l.MTU != 1400 || l.Interface != "eth0" {
		t.Errorf("link %+v", l)
	}
	err := netns.DoAt(one.NetNS, func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil && (link.MTU != 1400 || link.HardwareAddr.String() != one.Links[0].MAC) {
			t.Errorf("in the pod: %+v", link)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := n.Check(t.Context(), one.Request, one.Attachment); err != nil {
		t.Error(err)
	}
	if s := n.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	if _, err := n.Attach(t.Context(), one.Request); !errdefs.IsAlreadyExists(err) {
		t.Errorf("attached twice: %v", err)
	}
	for range 2 {
		if err := n.Detach(t.Context(), one.Request, &one.Attachment); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Check(t.Context(), one.Request, one.Attachment); !errdefs.IsNotFound(err) {
		t.Errorf("check of what is detached: %v", err)
	}
	wantAnswer(t, "the other pod", "", "tcp", ap(two.ip(t, false), 7), "two")
}

func TestSubnets(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	_ = lan
	// Something else has the default.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "other"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("other")
	if err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(link)
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.88.0.1/16"))}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	before := hostLinks(t)
	n := reopen(t, Config{})
	one := attach(t, n, request(t, "one"))
	if got := one.ip(t, false); got.String() != "10.89.0.2" {
		t.Errorf("the pod got %s", got)
	}
	// A new subnet is for new pods; the old ones go on.
	if err := n.SetPodCIDR(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.200.1.0/24"), netip.MustParsePrefix("fd00:5::/64")}); err != nil {
		t.Fatal(err)
	}
	if n.Generation() != 1 {
		t.Error("what was prepared before is still used")
	}
	two := attach(t, n, request(t, "two"))
	if fmt.Sprint(two.IPs) != "[10.200.1.2 fd00:5::2]" {
		t.Errorf("the second pod got %v", two.IPs)
	}
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	for _, six := range []bool{false, true} {
		wantAnswer(t, "new to old", two.NetNS, "tcp", ap(one.ip(t, six), 7), "one")
	}
	// After a restart the configuration says something else again.
	again := reopen(t, Config{Subnets: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16")}}, one.Attachment, two.Attachment)
	three := attach(t, again, request(t, "three"))
	if fmt.Sprint(three.IPs) != "[10.201.0.2]" {
		t.Errorf("the third pod got %v", three.IPs)
	}
	for _, six := range []bool{false, true} {
		wantAnswer(t, "old to old", two.NetNS, "tcp", ap(one.ip(t, six), 7), "one")
	}
	wantAnswer(t, "newest to old", three.NetNS, "tcp", ap(one.ip(t, false), 7), "one")
	if err := again.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := hostLinks(t); !slices.Equal(before, after) {
		t.Errorf("links before: %v, after: %v", before, after)
	}
}

// TestThePodSubnetIsKept: kubelet says it once, not to each daemon.
func TestThePodSubnetIsKept(t *testing.T) {
	c := Config{File: filepath.Join(t.TempDir(), "network", "pod-subnets")}
	n := fresh(t, c)
	if err := n.SetPodCIDR(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.5.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, c)
	if one := attach(t, again, request(t, "one")); fmt.Sprint(one.IPs) != "[10.5.0.2]" {
		t.Errorf("the pod got %v", one.IPs)
	}
	for _, bad := range []string{"{", `["10.0.0.0/8","10.1.0.0/16"]`} {
		if err := os.WriteFile(c.File, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Name: "minitest", File: c.File, Log: logger(t)}); !errdefs.IsDataLoss(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestAnotherHasThePodSubnet, as a CNI plugin does: the built-in network is that of containers, and takes another one.
func TestAnotherHasThePodSubnet(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = "cni0", net.FlagUp
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("cni0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the check of fresh, which has seen it before
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.5.0.1/24"))}); err != nil {
		t.Fatal(err)
	}
	n := fresh(t, Config{})
	if err := n.SetPodCIDR(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.5.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	if one := attach(t, n, request(t, "one")); one.ip(t, false).String() != "10.88.0.2" {
		t.Errorf("the container got %v", one.IPs)
	}
}

func TestFull(t *testing.T) {
	n := fresh(t, Config{Subnets: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/30")}})
	one := attach(t, n, request(t, "one"))
	r := request(t, "two")
	if _, err := n.Attach(t.Context(), r); !errdefs.IsResourceExhausted(err) {
		t.Fatalf("a second pod: %v", err)
	}
	if err := n.Detach(t.Context(), one.Request, &one.Attachment); err != nil {
		t.Fatal(err)
	}
	// The address is still held for the link, and free when it is needed.
	if two := attach(t, n, r); two.IPs[0] != one.IPs[0] {
		t.Errorf("got %s", two.IPs)
	}
}

func TestNames(t *testing.T) {
	for daemon, want := range map[string]string{
		"minid": "minid0", "minid-0a1b2c": "minid-0a1b2c0", "a-very-long-name": "a-very-lo-", "a/b c": "a_b_c0",
	} {
		n := namesOf(daemon)
		if !strings.HasPrefix(n.bridge, want) || len(n.bridge) > 15 || len(n.newVeth()) > 15 || len(n.ifbOf(n.newVeth())) > 15 {
			t.Errorf("%s: bridge %s, veth %s", daemon, n.bridge, n.newVeth())
		}
	}
	if namesOf("a").veth == namesOf("b").veth {
		t.Error("two daemons' links look alike")
	}
}
