package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func subnet(t testing.TB, prefix string) *Subnet {
	t.Helper()
	s, err := NewSubnet(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBounds(t *testing.T) {
	for _, test := range []struct {
		prefix, gateway, first, last string
		count                        int
	}{
		{"10.1.2.3/29", "10.1.2.1", "10.1.2.2", "10.1.2.6", 5},
		{"10.0.0.0/30", "10.0.0.1", "10.0.0.2", "10.0.0.2", 1},
		{"fd00::/126", "fd00::1", "fd00::2", "fd00::3", 2},
		{"192.168.255.0/24", "192.168.255.1", "192.168.255.2", "192.168.255.254", 253},
	} {
		s := subnet(t, test.prefix)
		if s.Gateway().String() != test.gateway {
			t.Errorf("%s: gateway %s", test.prefix, s.Gateway())
		}
		var got []netip.Addr
		for i := 0; ; i++ {
			a, err := s.Allocate(fmt.Sprint("pod", i))
			if errdefs.IsResourceExhausted(err) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, a)
		}
		if len(got) != test.count || got[0].String() != test.first || got[len(got)-1].String() != test.last {
			t.Errorf("%s: %d addresses, %s to %s", test.prefix, len(got), got[0], got[len(got)-1])
		}
	}
	for _, bad := range []string{"10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "::ffff:10.0.0.0/120"} {
		if _, err := NewSubnet(netip.MustParsePrefix(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := NewSubnet(netip.Prefix{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no prefix: %v", err)
	}
}

func TestAnAddressRests(t *testing.T) {
	s := subnet(t, "10.0.0.0/29")
	a, _ := s.Allocate("a")
	s.Release("a")
	b, _ := s.Allocate("b")
	if a == b {
		t.Errorf("%s was used again at once", a)
	}
	// It comes again when the others are through.
	for range 3 {
		if _, err := s.Allocate("c"); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := s.Allocate("d"); err != nil || again != a {
		t.Errorf("got %s, %v; want %s", again, err, a)
	}
}

func TestReserve(t *testing.T) {
	s := subnet(t, "10.0.0.0/24")
	addr := netip.MustParseAddr("10.0.0.7")
	if err := s.Reserve(addr, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reserve(addr, "a"); err != nil {
		t.Errorf("again by the same: %v", err)
	}
	if err := s.Reserve(addr, "b"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("by another: %v", err)
	}
	// After a restart, what was released last is unknown: going on after the highest one is the best guess.
	if next, _ := s.Allocate("c"); next.String() != "10.0.0.8" {
		t.Errorf("next is %s", next)
	}
	s.Rename(addr, "z")
	s.ReleaseAddr(addr, "a")
	if s.Used() != 2 {
		t.Error("released what another holds")
	}
	s.ReleaseAddr(addr, "z")
	if got := s.Holders(); len(got) != 1 {
		t.Errorf("holders %v", got)
	}
	for _, bad := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "fd00::2"} {
		if err := s.Reserve(netip.MustParseAddr(bad), "a"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := s.Reserve(netip.MustParseAddr("10.0.0.254"), "last"); err != nil {
		t.Fatal(err)
	}
	if next, err := s.Allocate("c"); err != nil || next.String() != "10.0.0.2" {
		t.Errorf("after the last one: %s, %v", next, err)
	}
}

func TestPick(t *testing.T) {
	p := netip.MustParsePrefix
	candidates := []netip.Prefix{p("10.88.0.0/16"), p("10.89.0.0/16")}
	for _, test := range []struct {
		inUse []netip.Prefix
		want  string
	}{
		{nil, "10.88.0.0/16"},
		{[]netip.Prefix{p("0.0.0.0/0"), p("192.168.0.0/16"), p("fd00::/8")}, "10.88.0.0/16"},
		{[]netip.Prefix{p("10.88.3.0/24")}, "10.89.0.0/16"},
		{[]netip.Prefix{p("10.0.0.0/8")}, ""},
	} {
		got, ok := Pick(candidates, test.inUse)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("in use %v: %v, %v", test.inUse, got, ok)
		}
	}
}

func TestGatewayAndRange(t *testing.T) {
	for _, test := range []struct {
		prefix, gateway, within string
		first, last             string
		count                   int
	}{
		{"10.1.0.0/29", "10.1.0.3", "", "10.1.0.1", "10.1.0.6", 5},
		{"10.1.0.0/29", "10.1.0.6", "", "10.1.0.1", "10.1.0.5", 5},
		{"10.1.0.0/24", "", "10.1.0.0/30", "10.1.0.2", "10.1.0.3", 2},
		{"10.1.0.0/24", "", "10.1.0.252/30", "10.1.0.252", "10.1.0.254", 3},
		{"10.1.0.0/24", "10.1.0.9", "10.1.0.8/31", "10.1.0.8", "10.1.0.8", 1},
		{"10.1.0.0/24", "", "10.1.0.77/32", "10.1.0.77", "10.1.0.77", 1},
		{"fd00::/64", "fd00::5", "fd00::4/126", "fd00::4", "fd00::7", 3},
	} {
		gateway, _ := netip.ParseAddr(test.gateway)
		within, _ := netip.ParsePrefix(test.within)
		s, err := New(netip.MustParsePrefix(test.prefix), gateway, within)
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		var got []netip.Addr
		for {
			a, err := s.Allocate("pod")
			if err != nil {
				break
			}
			got = append(got, a)
		}
		if len(got) != test.count || got[0].String() != test.first || got[len(got)-1].String() != test.last {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	for _, bad := range [][3]string{
		{"10.1.0.0/24", "10.1.0.0", ""}, {"10.1.0.0/24", "10.1.0.255", ""}, {"10.1.0.0/24", "10.2.0.1", ""}, {"10.1.0.0/24", "fd00::1", ""},
		{"10.1.0.0/24", "", "10.2.0.0/25"}, {"10.1.0.0/24", "", "10.0.0.0/8"}, {"10.1.0.0/24", "", "10.1.0.1/32"}, {"10.1.0.0/24", "", "fd00::/96"},
	} {
		gateway, _ := netip.ParseAddr(bad[1])
		within, _ := netip.ParsePrefix(bad[2])
		if _, err := New(netip.MustParsePrefix(bad[0]), gateway, within); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	// Outside of the range, an address may be asked for.
	s, err := New(netip.MustParsePrefix("10.1.0.0/24"), netip.Addr{}, netip.MustParsePrefix("10.1.0.8/31"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reserve(netip.MustParseAddr("10.1.0.200"), "a"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"10.1.0.8", "10.1.0.9"} {
		if got, err := s.Allocate("b"); err != nil || got.String() != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}
