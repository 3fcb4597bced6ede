package rules

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
	"golang.org/x/sys/unix"
)

const testTable = "mini-test"

func example() State {
	p, ap := netip.MustParsePrefix, netip.MustParseAddrPort
	return State{
		Networks: []Network{
			{Bridge: "mini0", Subnets: []netip.Prefix{p("10.88.0.0/16"), p("fd00:1:2::/64")}},
			{Bridge: "mini1", Subnets: []netip.Prefix{p("10.89.4.128/25")}},
			{Bridge: "mini2", Subnets: []netip.Prefix{p("10.90.0.0/24")}, Internal: true},
			{Bridge: "mini3", Subnets: []netip.Prefix{p("10.91.0.0/24")}, NoMasquerade: true, Isolated: true},
		},
		Forwards: []Forward{
			{"tcp", ap("0.0.0.0:8080"), ap("10.88.0.2:80")},
			{"udp", ap("127.0.0.1:53"), ap("10.88.0.3:5353")},
			{"sctp", ap("[::]:9"), ap("[fd00:1:2::3]:9")},
			{"tcp", ap("[2001:db8::1]:443"), ap("[fd00:1:2::3]:8443")},
		},
	}
}

func TestText(t *testing.T) {
	const want = `table inet mini-test {
	map published4 {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { udp . 127.0.0.1 . 53 : 10.88.0.3 . 5353 }
	}
	map published4any {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 10.88.0.2 . 80 }
	}
	map published6 {
		type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service
		elements = { tcp . 2001:db8::1 . 443 : fd00:1:2::3 . 8443 }
	}
	map published6any {
		type inet_proto . inet_service : ipv6_addr . inet_service
		elements = { sctp . 9 : fd00:1:2::3 . 9 }
	}
	chain publish {
		meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @published4
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4any
		meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @published6
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6any
	}
	chain apart {
		oifname "mini0" drop
		oifname "mini1" drop
		oifname "mini2" drop
		oifname "mini3" drop
	}
	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname "mini0" ip daddr 127.0.0.0/8 drop
		iifname "mini0" ip saddr 127.0.0.0/8 drop
		iifname "mini1" ip daddr 127.0.0.0/8 drop
		iifname "mini1" ip saddr 127.0.0.0/8 drop
		iifname "mini2" ip daddr 127.0.0.0/8 drop
		iifname "mini2" ip saddr 127.0.0.0/8 drop
		iifname "mini3" ip daddr 127.0.0.0/8 drop
		iifname "mini3" ip saddr 127.0.0.0/8 drop
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump publish
	}
	chain output {
		type nat hook output priority -100; policy accept;
		ip6 daddr ::1 return
		fib daddr type local jump publish
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "mini0" ip saddr 10.88.0.0/16 masquerade
		oifname "mini0" ip saddr 10.88.0.0/16 ct status dnat masquerade
		oifname != "mini0" ip6 saddr fd00:1:2::/64 masquerade
		oifname "mini0" ip6 saddr fd00:1:2::/64 ct status dnat masquerade
		oifname "mini0" ip saddr 127.0.0.0/8 masquerade
		oifname != "mini1" ip saddr 10.89.4.128/25 masquerade
		oifname "mini1" ip saddr 10.89.4.128/25 ct status dnat masquerade
		oifname "mini1" ip saddr 127.0.0.0/8 masquerade
		oifname "mini2" ip saddr 10.90.0.0/24 ct status dnat masquerade
		oifname "mini2" ip saddr 127.0.0.0/8 masquerade
		oifname "mini3" ip saddr 10.91.0.0/24 ct status dnat masquerade
		oifname "mini3" ip saddr 127.0.0.0/8 masquerade
	}
	chain quiet {
		type filter hook output priority filter; policy accept;
		oifname "mini0" icmp type redirect drop
		oifname "mini0" icmpv6 type nd-redirect drop
		oifname "mini1" icmp type redirect drop
		oifname "mini1" icmpv6 type nd-redirect drop
		oifname "mini2" icmp type redirect drop
		oifname "mini2" icmpv6 type nd-redirect drop
		oifname "mini3" icmp type redirect drop
		oifname "mini3" icmpv6 type nd-redirect drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "mini2" oifname != "mini2" drop
		iifname != "mini2" oifname "mini2" drop
		ct status dnat return
		iifname "mini0" oifname != "mini0" jump apart
		iifname "mini1" oifname != "mini1" jump apart
		iifname "mini2" oifname != "mini2" jump apart
		iifname "mini3" oifname "mini3" drop
		iifname "mini3" oifname != "mini3" jump apart
	}
}
`
	if got := example().Text(testTable); got != want {
		t.Errorf("got:\n%s", got)
	}
}

// alone moves the test's thread, and what it executes, into a network namespace that ends with the thread.
func alone(t testing.TB) {
	t.Helper()
	testenv.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *Table {
	t.Helper()
	table, err := Open(testTable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func list(t testing.TB) string {
	t.Helper()
	return testenv.Run(t, "nft", "-n", "list", "ruleset")
}

// TestTheTextIsWhatIsWritten writes a state over netlink, and its text by nft: nft must see no difference.
func TestTheTextIsWhatIsWritten(t *testing.T) {
	testenv.Need(t, "nft")
	alone(t)
	table := open(t)
	if err := table.Apply(example()); err != nil {
		t.Fatal(err)
	}
	written := list(t)
	if err := table.Remove(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "text.nft")
	if err := os.WriteFile(file, []byte(example().Text(testTable)), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "nft", "-f", file)
	if read := list(t); read != written {
		t.Errorf("over netlink:\n%s\nfrom the text:\n%s", written, read)
	}
}

func TestUpdate(t *testing.T) {
	testenv.Need(t, "nft")
	alone(t)
	table, want := open(t), example()
	all := want.Forwards
	want.Forwards = all[:1]
	if err := table.Apply(want); err != nil {
		t.Fatal(err)
	}
	check := func(what string, forwards []Forward) {
		t.Helper()
		got := list(t)
		want.Forwards = forwards
		if err := table.Apply(want); err != nil {
			t.Fatal(err)
		}
		if fresh := list(t); got != fresh {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, fresh)
		}
	}
	if err := table.Update(all[1:], all[:1]); err != nil {
		t.Fatal(err)
	}
	check("after an exchange", all[1:])

	// What is gone already, or there already, is written as it should be.
	if err := table.Update(nil, all[:1]); err != nil {
		t.Fatal(err)
	}
	check("after removing what is not there", all[1:])
	testenv.Run(t, "nft", "flush", "ruleset")
	if err := table.Update(all[:1], all[1:3]); err != nil {
		t.Fatal(err)
	}
	check("after someone flushed everything", []Forward{all[3], all[0]})

	if missing, err := table.Repair(); missing || err != nil {
		t.Errorf("repair of what is whole: %v, %v", missing, err)
	}
	testenv.Run(t, "nft", "flush", "ruleset")
	if missing, err := table.Repair(); !missing || err != nil {
		t.Errorf("repair: %v, %v", missing, err)
	}
	check("after repair", []Forward{all[3], all[0]})
	for range 2 {
		if err := table.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t); strings.TrimSpace(got) != "" {
		t.Errorf("left: %s", got)
	}
}

func TestManyForwards(t *testing.T) {
	testenv.Need(t, "nft")
	alone(t)
	table, s := open(t), example()
	s.Forwards = nil
	for port := range uint16(2000) {
		s.Forwards = append(s.Forwards, Forward{"tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), port+1), netip.MustParseAddrPort("10.88.0.2:80")})
	}
	if err := table.Apply(s); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(list(t), ": 10.88.0.2 . 80"); got != 2000 {
		t.Errorf("%d elements", got)
	}
}

func BenchmarkUpdate(b *testing.B) {
	alone(b)
	table, s := open(b), example()
	forwards := s.Forwards
	s.Forwards = nil
	if err := table.Apply(s); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := table.Update(forwards, nil); err != nil {
			b.Fatal(err)
		}
		if err := table.Update(nil, forwards); err != nil {
			b.Fatal(err)
		}
	}
}
