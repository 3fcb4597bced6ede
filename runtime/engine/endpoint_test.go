package engine

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

func TestCompleteNetwork(t *testing.T) {
	one := []NetworkAttachment{{Network: "a"}}
	for name, row := range map[string]struct {
		n    NetworkOptions
		want string // "" for an error; else the mode and the networks
	}{
		"nothing":               {NetworkOptions{}, "mode "},
		"none":                  {NetworkOptions{Mode: "none"}, "mode none"},
		"host":                  {NetworkOptions{Mode: "host"}, "mode host"},
		"host with a port":      {NetworkOptions{Mode: "host", Ports: []network.Port{{HostPort: 1, ContainerPort: 1}}}, "mode host"},
		"the default":           {NetworkOptions{Mode: "bridge"}, "mode  bridge"},
		"the default's other":   {NetworkOptions{Mode: "default"}, "mode  bridge"},
		"a network's name":      {NetworkOptions{Mode: "a"}, "mode  a"},
		"the same twice":        {NetworkOptions{Mode: "a", Networks: one}, "mode  a"},
		"two":                   {NetworkOptions{Mode: "bridge", Networks: one}, "mode  bridge a"},
		"another container's":   {NetworkOptions{Mode: "container:x"}, "mode container:x"},
		"nobody's":              {NetworkOptions{Mode: "container:"}, ""},
		"another's, with ports": {NetworkOptions{Mode: "container:x", Ports: []network.Port{{ContainerPort: 1}}}, ""},
		"host and one":          {NetworkOptions{Mode: "host", Networks: one}, ""},
		"host among them":       {NetworkOptions{Networks: []NetworkAttachment{{Network: "host"}}}, ""},
		"given twice":           {NetworkOptions{Networks: append(one, one...)}, ""},
		"a bad port":            {NetworkOptions{Expose: []string{"80/icmp"}}, ""},
		"a bad host":            {NetworkOptions{ExtraHosts: []string{"db:here"}}, ""},
	} {
		err := row.n.complete()
		got := "mode " + row.n.Mode
		for _, a := range row.n.Networks {
			got += " " + a.Network
		}
		if err != nil {
			got = ""
		}
		if got != row.want || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, row.want)
		}
	}
}

func TestExposed(t *testing.T) {
	c := Container{ImageConfig: ocispec.ImageConfig{ExposedPorts: map[string]struct{}{"443/tcp": {}, "53/udp": {}}}}
	c.Net.Expose = []string{"8000-8002", "443"}
	all, err := Exposed(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all {
		got = append(got, p.Protocol+net.JoinHostPort("", decimal(p.ContainerPort)))
	}
	if want := "udp:53 tcp:443 tcp:8000 tcp:8001 tcp:8002"; strings.Join(got, " ") != want {
		t.Errorf("%v; want %s", got, want)
	}
	for _, bad := range []string{"", "0", "x", "80/icmp", "90-80", "65536", "80-", "-80"} {
		if _, err := exposed([]string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func decimal(n uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), n).String()[len("0.0.0.0:"):]
}

func TestConflict(t *testing.T) {
	all := []holder{
		{"container web", network.Port{HostPort: 80}},
		{"container db", network.Port{HostPort: 53, Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1")}},
	}
	for _, row := range []struct {
		p    network.Port
		want string
	}{
		{network.Port{HostPort: 80}, "container web"},
		{network.Port{HostPort: 80, Protocol: "TCP", HostIP: netip.MustParseAddr("10.0.0.1")}, "container web"},
		{network.Port{HostPort: 80, Protocol: "udp"}, ""},
		{network.Port{HostPort: 53, Protocol: "udp"}, "container db"},
		{network.Port{HostPort: 53, Protocol: "udp", HostIP: netip.MustParseAddr("0.0.0.0")}, "container db"},
		{network.Port{HostPort: 53, Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.2")}, ""},
		{network.Port{HostPort: 53, Protocol: "udp", HostIP: netip.MustParseAddr("::")}, ""},
		{network.Port{HostPort: 53}, ""},
	} {
		if got := conflict(row.p, all); got != row.want {
			t.Errorf("%+v: %q; want %q", row.p, got, row.want)
		}
	}
}

func TestExtraHosts(t *testing.T) {
	lines, err := extraHosts([]string{"db:10.0.0.5", "six:[fd00::1]", "also=fd00::2", "out:host-gateway"}, netip.MustParseAddr("10.0.0.1"))
	want := []string{"10.0.0.5\tdb", "fd00::1\tsix", "fd00::2\talso", "10.0.0.1\tout"}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%q, %v", lines, err)
	}
	for _, bad := range []string{"db", ":10.0.0.5", "db:", "a b:10.0.0.5", "db:10.0.0"} {
		if _, err := extraHosts([]string{bad}, netip.Addr{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestResolvFor(t *testing.T) {
	host := "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nsearch example.org\noptions ndots:2 edns0\n"
	for name, row := range map[string]struct {
		n      NetworkOptions
		wanted network.DNS
		host   string
		want   string
	}{
		"the host's":         {NetworkOptions{}, network.DNS{}, host, "search example.org\nnameserver 10.0.0.53\noptions ndots:2 edns0\n"},
		"the host's network": {NetworkOptions{Mode: NetworkHost}, network.DNS{}, host, "search example.org\nnameserver 127.0.0.53\nnameserver 10.0.0.53\noptions ndots:2 edns0\n"},
		"asked":              {NetworkOptions{DNS: network.DNS{Servers: []string{"9.9.9.9"}, Searches: []string{"a", "b"}}}, network.DNS{}, host, "search a b\nnameserver 9.9.9.9\noptions ndots:2 edns0\n"},
		"the network's":      {NetworkOptions{DNS: network.DNS{Servers: []string{"9.9.9.9"}}}, network.DNS{Servers: []string{"127.0.0.11"}}, host, "search example.org\nnameserver 127.0.0.11\noptions ndots:2 edns0\n"},
		"none is left":       {NetworkOptions{}, network.DNS{}, "nameserver ::1\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		"no search":          {NetworkOptions{DNS: network.DNS{Searches: []string{"."}}}, network.DNS{}, "search a\nnameserver 1.1.1.1\n", "nameserver 1.1.1.1\n"},
	} {
		if got := resolvFor(row.n, row.wanted, row.host); got != row.want {
			t.Errorf("%s:\n%swant\n%s", name, got, row.want)
		}
	}
}

// bridged are options of a container in the default network.
func (w *world) bridged(id string, ports ...network.Port) CreateOptions {
	testenv.Root(w.t)
	o := w.options(id)
	o.Net = NetworkOptions{Mode: NetworkBridge, Ports: ports}
	return o
}

func TestContainerNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.bridged("c"))
		if in := w.network.inside(); len(in) > 0 {
			t.Errorf("before it runs, %v are in the network", in)
		}
		w.start("c")
		c, err := w.Get(t.Context(), ns, "c")
		w.ok(err)
		if in := w.network.inside(); !slices.Equal(in, []string{"c"}) || len(c.Attachments) != 1 || !pin.Pinned(pinDir(w.Bundle(c)), pin.Network) {
			t.Errorf("in the network are %v, attachments %v", in, c.Attachments)
		}
		s, err := bundle.Load(w.Bundle(c))
		w.ok(err)
		if !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/etc/hosts" }) || s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"] != "0" {
			t.Errorf("mounts %v, sysctls %v", s.Mounts, s.Linux.Sysctl)
		}
		hosts, err := os.ReadFile(filepath.Join(w.etcDir(c), "hosts"))
		if err != nil || !strings.HasSuffix(string(hosts), c.Attachments[0].IPs[0].String()+"\tc\n") {
			t.Errorf("hosts %q, %v", hosts, err)
		}
		t.Log("the next engine finds it as it was")
		w.again()
		w.recover()
		if want := []string{"restore c", "collect c"}; !slices.Equal(w.network.restored, want) {
			t.Errorf("the network: %q", w.network.restored)
		}
		w.settled()
		t.Log("ended, it has left")
		w.sandboxes.exit(t, "c", "", 0)
		w.settled()
		c, err = w.Get(t.Context(), ns, "c")
		w.ok(err)
		if in := w.network.inside(); len(in) > 0 || len(c.Attachments) > 0 || pin.Any(pinDir(w.Bundle(c))) {
			t.Errorf("in the network are %v, attachments %v", in, c.Attachments)
		}
		w.start("c")
		if in := w.network.inside(); !slices.Equal(in, []string{"c"}) {
			t.Errorf("started again: %v", in)
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		w.settled()
		w.clean()
	})
}

// TestContainerNetworkAfterReboot has neither process nor namespace, and a record that says that it runs.
func TestContainerNetworkAfterReboot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.bridged("c")
		o.Restart.Name = RestartAlways
		w.create(o)
		w.create(w.bridged("once"))
		for _, id := range []string{"c", "once"} {
			w.start(id)
			c, err := w.Get(t.Context(), ns, id)
			w.ok(err)
			w.sandboxes.mu.Lock()
			w.ok(w.sandboxes.forget(process(w.exactly(ns, id), "")))
			w.sandboxes.mu.Unlock()
			w.ok(removeBundle(w.Bundle(c)))
		}
		w.again()
		w.recover()
		time.Sleep(time.Second)
		w.settled()
		if in := w.network.inside(); !slices.Equal(in, []string{"c"}) || w.state("c") != Running || w.state("once") != Exited {
			t.Errorf("in the network are %v; %s, %s", in, w.state("c"), w.state("once"))
		}
		for _, id := range []string{"c", "once"} {
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{Force: true})
			w.ok(err)
		}
		w.settled()
		w.clean()
	})
}

func TestContainerNetworkThatFails(t *testing.T) {
	for _, method := range []string{"NewNamespace", "AttachTo"} {
		in(t, func(t *testing.T, w *world) {
			w.create(w.bridged("c"))
			w.network.setFail(method, errBroken)
			_, err := w.Start(t.Context(), ns, "c", StartOptions{})
			w.is(err, errBroken)
			if in := w.network.inside(); len(in) > 0 || w.state("c") != Created {
				t.Errorf("%s: in the network are %v, it is %s", method, in, w.state("c"))
			}
			w.network.setFail(method, nil)
			w.start("c")
			w.network.setFail("Detach", errBroken)
			w.sandboxes.exit(t, "c", "", 0)
			w.settled()
			_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
			w.is(err, errBroken)
			w.network.setFail("Detach", nil)
			_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
			w.ok(err)
			w.settled()
			w.clean()
		})
	}
}

func TestPublishedPorts(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		free, err := kernelPort(network.Port{})
		w.ok(err)
		o := w.bridged("one", network.Port{HostPort: free, ContainerPort: 80})
		o.Name = "web"
		w.create(o)
		w.start("one")
		w.create(w.bridged("two", network.Port{HostPort: free, ContainerPort: 81}))
		_, err = w.Start(t.Context(), ns, "two", StartOptions{})
		if w.is(err, errdefs.ErrAlreadyExists); !strings.Contains(err.Error(), "is published by container web; stop it or choose another") {
			t.Errorf("%v", err)
		}
		w.ok(w.Stop(t.Context(), ns, "web", StopOptions{}))
		w.start("two")
		_, err = w.Start(t.Context(), ns, "one", StartOptions{})
		if w.is(err, errdefs.ErrAlreadyExists); !strings.Contains(err.Error(), "container two;") {
			t.Errorf("%v", err)
		}
		t.Log("a process of the host has it")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		w.ok(err)
		defer l.Close()
		taken := l.Addr().(*net.TCPAddr).AddrPort().Port()
		w.create(w.bridged("three", network.Port{HostPort: taken, ContainerPort: 80}))
		_, err = w.Start(t.Context(), ns, "three", StartOptions{})
		if w.is(err, errdefs.ErrAlreadyExists); !strings.Contains(err.Error(), "is in use by a process of the host") {
			t.Errorf("%v", err)
		}
		t.Log("what is exposed gets free ones")
		o = w.bridged("four", network.Port{ContainerPort: 80})
		o.Net.PublishAll, o.Net.Expose = true, []string{"80", "81/udp"}
		w.create(o)
		w.start("four")
		c, err := w.Get(t.Context(), ns, "four")
		w.ok(err)
		ports := c.Attachments[0].Ports
		if len(ports) != 2 || ports[0].HostPort == 0 || ports[1].HostPort == 0 || ports[1].Protocol != "udp" || ports[1].ContainerPort != 81 {
			t.Errorf("%+v", ports)
		}
		for _, id := range []string{"one", "two", "three", "four"} {
			_, err := w.Delete(context.Background(), ns, id, DeleteOptions{Force: true})
			w.ok(err)
		}
		w.settled()
		w.clean()
	})
}

// TestJoinedNetwork has a container that joins another's network.
func TestJoinedNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.bridged("owner"))
		w.start("owner")
		guest := w.options("guest")
		guest.Net.Mode = "container:owner"
		c := w.create(guest)
		s, err := bundle.Load(w.Bundle(c))
		w.ok(err)
		if s.Hostname != "owner" || !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
			return m.Destination == "/etc/hosts" && strings.Contains(m.Source, "/owner/")
		}) {
			t.Errorf("host name %s, mounts %v", s.Hostname, s.Mounts)
		}
		third := w.options("third")
		third.Net.Mode = "container:guest"
		_, err = w.Create(t.Context(), ns, third)
		w.is(err, errdefs.ErrInvalidArgument)
		third.Net.Mode = "container:nobody"
		_, err = w.Create(t.Context(), ns, third)
		w.is(err, errdefs.ErrNotFound)
		third.Net = NetworkOptions{Mode: NetworkBridge}
		third.Request = &spec.Request{Rootfs: third.Request.Rootfs, Args: []string{"x"}, Namespaces: map[string]string{"net": "host"}}
		_, err = w.Create(t.Context(), ns, third)
		w.is(err, errdefs.ErrInvalidArgument)
	})
}
