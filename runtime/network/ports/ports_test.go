package ports

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
)

func port(protocol, ip string, host, container uint16) network.Port {
	p := network.Port{Protocol: protocol, HostPort: host, ContainerPort: container}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

func TestConflicts(t *testing.T) {
	for _, test := range []struct {
		name     string
		has, ask network.Port
		conflict bool
	}{
		{"the same", port("tcp", "", 80, 80), port("tcp", "", 80, 8080), true},
		{"another port", port("tcp", "", 80, 80), port("tcp", "", 81, 80), false},
		{"another protocol", port("tcp", "", 80, 80), port("udp", "", 80, 80), false},
		{"sctp", port("sctp", "", 80, 80), port("sctp", "10.0.0.1", 80, 80), true},
		{"one address within all", port("tcp", "", 80, 80), port("tcp", "127.0.0.1", 80, 80), true},
		{"all after one address", port("tcp", "127.0.0.1", 80, 80), port("tcp", "0.0.0.0", 80, 80), true},
		{"other addresses", port("tcp", "127.0.0.1", 80, 80), port("tcp", "127.0.0.2", 80, 80), false},
		{"families apart", port("tcp", "0.0.0.0", 80, 80), port("tcp", "::", 80, 80), false},
		{"all of both", port("tcp", "", 80, 80), port("tcp", "::1", 80, 80), true},
	} {
		var table Table
		if err := table.Claim("first", "default/one", []network.Port{test.has}); err != nil {
			t.Fatal(err)
		}
		err := table.Claim("second", "default/two", []network.Port{port("udp", "", 9999, 1), test.ask})
		if errdefs.IsAlreadyExists(err) != test.conflict || (err != nil) != test.conflict {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.conflict && !strings.Contains(err.Error(), "pod default/one has it") {
			t.Errorf("%s: the holder is not named: %v", test.name, err)
		}
		// All or none.
		if got := len(table.Holders()); test.conflict && got != 1 {
			t.Errorf("%s: %d holders", test.name, got)
		}
		if freed := table.Release("first"); len(freed) != 1 || freed[0] != test.has {
			t.Errorf("%s: freed %v", test.name, freed)
		}
		if err := table.Claim("third", "", []network.Port{test.has}); err != nil && test.conflict {
			t.Errorf("%s: after release: %v", test.name, err)
		}
	}
}

func TestGivenTwice(t *testing.T) {
	var table Table
	err := table.Claim("pod", "", []network.Port{port("tcp", "", 80, 80), port("tcp", "10.0.0.1", 80, 81)})
	if !errdefs.IsInvalidArgument(err) || len(table.Holders()) != 0 {
		t.Errorf("%v, holders %v", err, table.Holders())
	}
}

func TestNormalize(t *testing.T) {
	got, err := Normalize([]network.Port{
		port("TCP", "::ffff:10.0.0.1", 80, 8080), port("", "", 81, 81), port("", "", 0, 82), port("tcp", "10.0.0.1", 80, 8080),
	})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, p := range got {
		texts = append(texts, Text(p))
	}
	if strings.Join(texts, " ") != "10.0.0.1:80/tcp 81/tcp" {
		t.Errorf("got %v", texts)
	}
	for _, bad := range []network.Port{port("icmp", "", 1, 1), port("tcp", "", 1, 0), port("tcp", "fe80::1%eth0", 1, 1)} {
		if _, err := Normalize([]network.Port{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
