package cni

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/networktest"
)

// The plugins of the distribution (containernetworking-plugins).
const pluginDir = "/usr/lib/cni"

func needPlugins(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Stat(pluginDir + "/" + name); err != nil {
			t.Skipf("needs the CNI plugin %s, which is not installed (make deps-test)", name)
		}
	}
}

const dualStack = `"ipam":{"type":"host-local","ranges":[[{"subnet":"10.77.0.0/24"}],[{"subnet":"fd00:77::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`

func links(t *testing.T) []string {
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

// addresses are the files in which host-local keeps who has what.
func addresses(t *testing.T, network string) []string {
	t.Helper()
	entries, err := os.ReadDir("/var/lib/cni/networks/" + network)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "last_reserved") && e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestBridgeOfDebian(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "iptables", "ip6tables")
	needPlugins(t, "bridge", "host-local", "portmap", "firewall", "bandwidth")
	n := provider(t, []string{"/opt/cni/bin", pluginDir}, func(c *Config) { c.IPPref = "ipv6" })
	n.write(t, "10-test.conflist", `{"cniVersion":"1.0.0","name":"debian","plugins":[
		{"type":"bridge","bridge":"cnitest0","isGateway":true,"ipMasq":true,"hairpinMode":true,`+dualStack+`},
		{"type":"portmap","capabilities":{"portMappings":true}},
		{"type":"firewall"},
		{"type":"bandwidth","capabilities":{"bandwidth":true}}]}`)
	if s := n.Status(t.Context()); !s.Ready {
		t.Fatalf("status %+v", s)
	}
	before := links(t)
	r := request(t, "web")
	r.Bandwidth = network.Bandwidth{Ingress: 100e6, Egress: 100e6}
	a, err := n.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.IPs) != 2 || !a.IPs[0].Is6() || !a.IPs[1].Is4() {
		t.Errorf("addresses %v", a.IPs)
	}
	networktest.Serve(t, r.NetNS, "web", netip.MustParseAddrPort("[::]:80"))
	for _, to := range []string{"127.0.0.1:8080", "10.77.0.1:8080", netip.AddrPortFrom(a.IPs[0], 80).String(), netip.AddrPortFrom(a.IPs[1], 80).String()} {
		// The plugin's bridge looks for duplicates of its IPv6 address first.
		testenv.Eventually(t, 10*time.Second, "an answer by "+to, func() bool {
			got, _, err := networktest.Ask(t, "", "tcp", netip.MustParseAddrPort(to))
			return err == nil && got == "web"
		})
	}
	// CHECK of one without ports, but with bandwidth: that of portmap 1.1 takes the rules of IPv4 for those of IPv6, and
	// that of bandwidth 1.1 expects some.
	quiet := request(t, "quiet")
	quiet.Ports, quiet.Bandwidth = nil, r.Bandwidth
	b, err := n.Attach(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Check(t.Context(), quiet, b); err != nil {
		t.Error(err)
	}
	if err := n.Detach(t.Context(), quiet, &b); err != nil {
		t.Error(err)
	}
	if err := n.Detach(t.Context(), network.Request{ID: r.ID, NetNS: r.NetNS}, stored(t, a)); err != nil {
		t.Fatal(err)
	}
	if left := addresses(t, "debian"); len(left) > 0 {
		t.Errorf("addresses are left: %v", left)
	}
	after := slices.DeleteFunc(links(t), func(l string) bool { return l == "cnitest0" })
	if !slices.Equal(before, after) {
		t.Errorf("links before: %v, after: %v", before, after)
	}
	if _, _, err := networktest.Ask(t, "", "tcp", netip.MustParseAddrPort("127.0.0.1:8080")); err == nil {
		t.Error("the port is still published")
	}
	testenv.Run(t, "ip", "link", "del", "cnitest0")
}

func TestPointToPointAndMacvlanOfDebian(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ip")
	needPlugins(t, "ptp", "macvlan", "host-local")
	networktest.NewLAN(t, 1500)
	n := provider(t, []string{pluginDir}, func(c *Config) { c.MaxConfNum = 0 })
	n.write(t, "10-ptp.conf", `{"cniVersion":"0.3.1","name":"ptp","type":"ptp","mtu":1400,"ipam":{"type":"host-local","subnet":"10.78.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}`)
	n.write(t, "20-macvlan.conflist", `{"cniVersion":"1.0.0","name":"macvlan","plugins":[{"type":"macvlan","master":"uplink","ipam":{"type":"host-local","subnet":"10.79.0.0/24"}}]}`)
	before := links(t)
	r := request(t, "web")
	a, err := n.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Links) != 2 || a.IPs[0].String() != "10.78.0.2" || len(a.IPs) != 1 || a.Links[1].Addresses[0].String() != "10.79.0.2/24" {
		t.Errorf("attachment %+v", a)
	}
	networktest.Serve(t, r.NetNS, "web", netip.MustParseAddrPort("0.0.0.0:80"))
	if got, _, err := networktest.Ask(t, "", "tcp", netip.MustParseAddrPort("10.78.0.2:80")); err != nil || got != "web" {
		t.Errorf("%q, %v", got, err)
	}
	// 0.3.1 has no CHECK, 1.0.0 has.
	if err := n.Check(t.Context(), r, a); err != nil {
		t.Error(err)
	}
	if err := n.Detach(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if left := append(addresses(t, "ptp"), addresses(t, "macvlan")...); len(left) > 0 {
		t.Errorf("addresses are left: %v", left)
	}
	if after := links(t); !slices.Equal(before, after) {
		t.Errorf("links before: %v, after: %v", before, after)
	}
}

// TestAFailingChainOfDebian has a second plugin that cannot do what it is told.
func TestAFailingChainOfDebian(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ip")
	needPlugins(t, "bridge", "host-local", "tuning")
	n := provider(t, []string{pluginDir})
	n.write(t, "10-test.conflist", `{"cniVersion":"1.0.0","name":"failing","plugins":[
		{"type":"bridge","bridge":"cnitest1","isGateway":true,`+dualStack+`},
		{"type":"tuning","sysctl":{"net.ipv4.no_such_thing":"1"}}]}`)
	before := links(t)
	r := request(t, "web")
	if _, err := n.Attach(t.Context(), r); err == nil || !strings.Contains(err.Error(), `type="tuning"`) {
		t.Fatalf("attached: %v", err)
	}
	if left := addresses(t, "failing"); len(left) > 0 {
		t.Errorf("addresses are left: %v", left)
	}
	after := slices.DeleteFunc(links(t), func(l string) bool { return l == "cnitest1" })
	if !slices.Equal(before, after) {
		t.Errorf("links before: %v, after: %v", before, after)
	}
	testenv.Run(t, "ip", "link", "del", "cnitest1")
}
