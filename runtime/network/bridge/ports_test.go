package bridge

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
)

func published(protocol, ip string, host, container uint16) network.Port {
	p := network.Port{Protocol: protocol, HostPort: host, ContainerPort: container}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

// TestPublishedPorts asks from everywhere for a port of the host by each of its addresses, with the packets of a bridge
// going through netfilter, as Kubernetes wants it, and without.
func TestPublishedPorts(t *testing.T) {
	testenv.Root(t)
	for _, filtered := range []string{"1", "0"} {
		for _, family := range []string{"ip", "ip6"} {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+family+"tables", []byte(filtered), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		t.Run("bridge-nf-call="+filtered, askFromEverywhere)
	}
}

func askFromEverywhere(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	server := attach(t, n, request(t, "server", published("tcp", "", 8080, 80), published("udp", "", 8080, 80)))
	other := attach(t, n, request(t, "other"))
	networktest.Serve(t, server.NetNS, "server", ap(server.ip(t, false), 80))
	networktest.Serve(t, server.NetNS, "server", ap(server.ip(t, true), 80))
	bridge4, bridge6 := n.pods.subnets[0].Gateway(), n.pods.subnets[1].Gateway()
	for _, test := range []struct {
		name, from, to string
		seen           string // empty: not looked at
	}{
		{"a neighbour", lan.Path, lan.Host4.String(), lan.Peer4.String()},
		{"a neighbour", lan.Path, lan.Host6.String(), lan.Peer6.String()},
		{"the host", "", "127.0.0.1", bridge4.String()},
		{"the host", "", "127.0.0.2", bridge4.String()},
		{"the host", "", lan.Host4.String(), lan.Host4.String()},
		{"the host", "", lan.Host6.String(), lan.Host6.String()},
		{"the host", "", bridge4.String(), bridge4.String()},
		{"the host", "", bridge6.String(), bridge6.String()},
		{"another pod", other.NetNS, lan.Host4.String(), ""},
		{"another pod", other.NetNS, lan.Host6.String(), ""},
		{"another pod", other.NetNS, bridge4.String(), ""},
		{"another pod", other.NetNS, bridge6.String(), ""},
		{"the pod itself", server.NetNS, lan.Host4.String(), ""},
		{"the pod itself", server.NetNS, lan.Host6.String(), ""},
		{"the pod itself", server.NetNS, bridge4.String(), ""},
		{"the pod itself", server.NetNS, bridge6.String(), ""},
	} {
		for _, protocol := range []string{"tcp", "udp"} {
			seen := wantAnswer(t, test.name, test.from, protocol, ap(netip.MustParseAddr(test.to), 8080), "server")
			if test.seen != "" && seen.String() != test.seen {
				t.Errorf("%s by %s %s: seen as %s, want %s", test.name, protocol, test.to, seen, test.seen)
			}
		}
	}
	for _, protocol := range []string{"tcp", "udp"} {
		wantAnswer(t, "the host", "", protocol, netip.MustParseAddrPort("[::1]:8080"), "server")
	}
	if err := n.Detach(t.Context(), server.Request, &server.Attachment); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"", lan.Path} {
		if _, _, err := networktest.Ask(t, from, "tcp", ap(lan.Host4, 8080)); err == nil {
			t.Error("a port of no pod answers")
		}
	}
}

func TestPublishedOnOneAddress(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	local := attach(t, n, request(t, "local", published("tcp", "127.0.0.1", 8080, 80)))
	outside := attach(t, n, request(t, "outside", published("tcp", lan.Host4.String(), 8080, 80), published("tcp", lan.Host6.String(), 8080, 80)))
	for _, p := range []pod{local, outside} {
		networktest.Serve(t, p.NetNS, p.Name, netip.MustParseAddrPort("[::]:80"))
	}
	wantAnswer(t, "by 127.0.0.1", "", "tcp", netip.MustParseAddrPort("127.0.0.1:8080"), "local")
	wantAnswer(t, "by the address", "", "tcp", ap(lan.Host4, 8080), "outside")
	wantAnswer(t, "from outside", lan.Path, "tcp", ap(lan.Host6, 8080), "outside")
	if _, _, err := networktest.Ask(t, "", "tcp", netip.MustParseAddrPort("127.0.0.2:8080")); err == nil {
		t.Error("published on an address that was not given")
	}
}

// TestAFlowDoesNotOutliveItsPod sends from one socket, as a resolver does: the kernel sees one flow.
func TestAFlowDoesNotOutliveItsPod(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	var conn net.Conn
	err := netns.DoAt(lan.Path, func() (err error) {
		conn, err = net.Dial("udp", ap(lan.Host4, 53).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func() string {
		buffer := make([]byte, 100)
		for range 5 {
			_, _ = conn.Write([]byte("?")) // refused before there is a pod
			_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if k, err := conn.Read(buffer); err == nil {
				return strings.Fields(string(buffer[:k]))[0]
			}
		}
		return ""
	}
	if got := ask(); got != "" {
		t.Fatalf("%q answers already", got)
	}
	for _, name := range []string{"first", "second"} {
		p := attach(t, n, request(t, name, published("udp", "", 53, 53)))
		networktest.Serve(t, p.NetNS, name, netip.MustParseAddrPort("0.0.0.0:53"))
		if got := ask(); got != name {
			t.Errorf("%q answers, want %s", got, name)
		}
		if err := n.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortConflicts(t *testing.T) {
	n := fresh(t, Config{})
	one := attach(t, n, request(t, "one", published("tcp", "", 8080, 80), published("sctp", "", 8080, 80)))
	l, err := net.Listen("tcp", "127.0.0.1:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "[::]:8082")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	before := hostLinks(t)
	rules := ruleset(t)
	r := request(t, "two")
	for _, test := range []struct {
		port  network.Port
		want  string
		class func(error) bool
	}{
		{published("tcp", "", 8080, 80), "pod default/one has it", errdefs.IsAlreadyExists},
		{published("sctp", "127.0.0.1", 8080, 80), "pod default/one has it", errdefs.IsAlreadyExists},
		{published("tcp", "", 8081, 80), "a process of the host has it", errdefs.IsAlreadyExists},
		{published("udp", "", 8082, 80), "a process of the host has it", errdefs.IsAlreadyExists},
		{published("sctp", "::1", 8083, 80), "Linux forwards nothing from there", errdefs.IsInvalidArgument},
		{published("icmp", "", 8083, 80), "not tcp, udp or sctp", errdefs.IsInvalidArgument},
	} {
		r.Ports = []network.Port{published("tcp", "", 9999, 99), test.port}
		_, err := n.Attach(t.Context(), r)
		if !test.class(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v", test.port, err)
		}
		if after := hostLinks(t); len(after) != len(before) {
			t.Errorf("%v: left %v", test.port, after)
		}
		if after := ruleset(t); after != rules {
			t.Errorf("%v: rules before:\n%s\nafter:\n%s", test.port, rules, after)
		}
	}
	// All is given back: also the ports and the address of the failed attempts.
	r.Ports = []network.Port{published("tcp", "127.0.0.1", 8082, 80), published("tcp", "", 9999, 99)}
	two := attach(t, n, r)
	if got := n.pods.subnets[0].Used(); got != 2 {
		t.Errorf("%d addresses in use", got)
	}
	for _, p := range []pod{one, two} {
		if err := n.Detach(t.Context(), p.Request, nil); err != nil {
			t.Fatal(err)
		}
	}
	n.reapNow(t.Context())
	if got := used(n); got != 0 {
		t.Errorf("%d addresses and ports are still in use", got)
	}
}

// TestThePodsDoNotReachTheHostsLoopback has a pod that routes 127.0.0.1 to the host.
func TestThePodsDoNotReachTheHostsLoopback(t *testing.T) {
	n := fresh(t, Config{})
	evil := attach(t, n, request(t, "evil", published("tcp", "127.0.0.1", 8080, 80)))
	networktest.Serve(t, "", "host", netip.MustParseAddrPort("127.0.0.1:9"))
	err := netns.DoAt(evil.NetNS, func() error {
		for _, name := range []string{"all", "eth0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/route_localnet", []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, "ip", "nsenter")
	testenv.Run(t, "nsenter", "--net="+evil.NetNS, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	testenv.Run(t, "nsenter", "--net="+evil.NetNS, "ip", "route", "add", "127.0.0.1/32", "via", n.pods.subnets[0].Gateway().String())
	if got, _, err := networktest.Ask(t, evil.NetNS, "tcp", netip.MustParseAddrPort("127.0.0.1:9")); err == nil {
		t.Errorf("%q answers", got)
	}
	// The test can fail: without the guard the host answers.
	testenv.Need(t, "nft")
	testenv.Run(t, "nft", "flush", "chain", "inet", n.names.table, "guard")
	if got, _, err := networktest.Ask(t, evil.NetNS, "tcp", netip.MustParseAddrPort("127.0.0.1:9")); err != nil || got != "host" {
		t.Errorf("without the guard: %q, %v", got, err)
	}
}

// TestFirewall has a host whose iptables drops what is forwarded, as Docker makes it.
func TestFirewall(t *testing.T) {
	testenv.Need(t, "iptables-nft", "ip6tables-nft", "nft")
	lan := networktest.NewLAN(t, 1500)
	networktest.Serve(t, lan.Path, "lan", netip.MustParseAddrPort("[::]:7"))
	n := fresh(t, Config{})
	t.Cleanup(func() { _ = n.table.Withdraw() })
	one := attach(t, n, request(t, "one", published("tcp", "", 8080, 7)))
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
		testenv.Run(t, program, "-P", "FORWARD", "DROP")
	}
	if _, _, err := networktest.Ask(t, one.NetNS, "tcp", ap(lan.Peer4, 7)); err == nil {
		t.Fatal("the firewall drops nothing")
	}
	n.checked = time.Time{} // long ago
	if s := n.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	wantAnswer(t, "to the world", one.NetNS, "tcp", ap(lan.Peer4, 7), "lan")
	wantAnswer(t, "to the world", one.NetNS, "tcp", ap(lan.Peer6, 7), "lan")
	wantAnswer(t, "from the world", lan.Path, "tcp", ap(lan.Host4, 8080), "one")
	testenv.Run(t, "nft", "flush", "ruleset")
	n.checked = time.Time{}
	attach(t, n, request(t, "two")) // a pod's start is enough
	wantAnswer(t, "after a flush", lan.Path, "tcp", ap(lan.Host4, 8080), "one")
}
