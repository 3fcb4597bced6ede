package cni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/minirt/mini/runtime/network"
)

func TestChoose(t *testing.T) {
	const (
		good   = `{"cniVersion":"1.0.0","name":"good","plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true}}]}`
		single = `{"cniVersion":"0.4.0","name":"single","type":"ptp"}`
		split  = `{"cniVersion":"1.1.0","name":"split"}`
	)
	for _, test := range []struct {
		name     string
		files    []confFile
		limit    int
		first    string
		want     string // file:network:plugins
		problems int
	}{
		{"none", nil, 1, "", "", 0},
		{"the first", []confFile{{"10-a.conflist", []byte(good)}, {"20-b.conf", []byte(single)}}, 1, "", "10-a.conflist:good:bridge,portmap", 0},
		{"all", []confFile{{"10-a.conflist", []byte(good)}, {"20-b.conf", []byte(single)}}, 0, "", "10-a.conflist:good:bridge,portmap 20-b.conf:single:ptp", 0},
		{"a broken one first", []confFile{{"10-a.conflist", []byte("{")}, {"20-b.json", []byte(single)}}, 1, "", "20-b.json:single:ptp", 1},
		{"no name", []confFile{{"a", []byte(`{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}`)}}, 1, "", "", 1},
		{"a name that leads out", []confFile{{"a", []byte(`{"name":"../x","plugins":[{"type":"x"}]}`)}}, 1, "", "", 1},
		{"a type that leads out", []confFile{{"a", []byte(`{"name":"x","plugins":[{"type":"../x"}]}`)}}, 1, "", "", 1},
		{"no plugins", []confFile{{"a", []byte(`{"name":"x","plugins":[]}`)}}, 1, "", "", 1},
		{"a plugin without a type", []confFile{{"a", []byte(`{"name":"x","plugins":[{}]}`)}}, 1, "", "", 1},
		{"a list in a .conf", []confFile{{"a.conf", []byte(good)}}, 1, "", "a.conf:good:bridge,portmap", 0},
		{"plugins in a directory", []confFile{{"a.conflist", []byte(split)}}, 1, "", "a.conflist:split:extra", 0},
		{"empty", []confFile{{"a.conf", nil}}, 1, "", "", 1},
		{"by its name", []confFile{{"10-a.conflist", []byte(good)}, {"20-b.conf", []byte(single)}}, 1, "single", "20-b.conf:single:ptp", 0},
		{"all, one of them first", []confFile{{"10-a.conflist", []byte(good)}, {"20-b.conf", []byte(single)}}, 0, "single", "20-b.conf:single:ptp 10-a.conflist:good:bridge,portmap", 0},
		{"a name that is not there", []confFile{{"10-a.conflist", []byte(good)}}, 1, "other", "", 1},
	} {
		lists, problems := choose(test.files, test.limit, test.first, func(name string) ([]*libcni.PluginConfig, error) {
			if name != "split" {
				return nil, nil
			}
			p, err := libcni.NetworkPluginConfFromBytes([]byte(`{"type":"extra"}`))
			return []*libcni.PluginConfig{p}, err
		})
		var got []string
		for _, l := range lists {
			var plugins []string
			for _, p := range l.Plugins {
				plugins = append(plugins, p.Network.Type)
			}
			got = append(got, l.file+":"+l.Name+":"+strings.Join(plugins, ","))
		}
		if s := strings.Join(got, " "); s != test.want || len(problems) != test.problems {
			t.Errorf("%s: %q, problems %v", test.name, s, problems)
		}
	}
	_, problems := choose([]confFile{{"a.conflist", []byte(split)}}, 1, "", func(string) ([]*libcni.PluginConfig, error) { return nil, errors.New("boom") })
	if len(problems) != 1 {
		t.Errorf("problems %v", problems)
	}
}

// FuzzParse: whatever is parsed is a list that can be written down and read again, and that leads nowhere else.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"cniVersion":"1.0.0","name":"good","plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}`,
		`{"cniVersion":"0.2.0","name":"x","type":"ptp"}`, `{"name":"a","cniVersions":["1.0.0","9.9.9"],"plugins":[{"type":"x"}]}`,
		`{"name":"x","disableCheck":"true","plugins":[{"type":"x","type":"y"}]}`, `[]`, `{"plugins":{}}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parse(data)
		if err != nil || len(l.Plugins) == 0 {
			return
		}
		if strings.ContainsAny(l.Name, "/\x00") {
			t.Fatalf("name %q", l.Name)
		}
		config, err := record(l)
		if err != nil {
			t.Fatal(err)
		}
		again, err := libcni.NetworkConfFromBytes(config)
		if err != nil {
			t.Fatalf("%s: %v", config, err)
		}
		if again.Name != l.Name || again.CNIVersion != l.CNIVersion || len(again.Plugins) != len(l.Plugins) || again.DisableCheck != l.DisableCheck {
			t.Fatalf("%s became %s", data, config)
		}
	})
}

func TestCapabilities(t *testing.T) {
	r := network.Request{
		ID: "pod-id", Name: "web", Namespace: "prod", UID: "u-1", NetNS: "/run/ns",
		Ports: []network.Port{
			{Protocol: "TCP", HostPort: 8080, ContainerPort: 80}, {ContainerPort: 81},
			{Protocol: "sctp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9, ContainerPort: 9},
		},
		Bandwidth: network.Bandwidth{Ingress: 1e6}, DNS: network.DNS{Servers: []string{"10.0.0.10"}, Options: []string{"ndots:5"}},
		CgroupParent: "/kubepods/pod1", Aliases: []string{"db"}, Annotations: map[string]string{"a": "b"},
		IPRanges: [][]network.IPRange{{{Subnet: netip.MustParsePrefix("10.1.0.0/24"), RangeStart: netip.MustParseAddr("10.1.0.5")}}},
	}
	const want = `{"aliases":["db"],"bandwidth":{"ingressRate":1000000,"ingressBurst":2147483647},"cgroupPath":"/kubepods/pod1",` +
		`"dns":{"servers":["10.0.0.10"],"options":["ndots:5"]},"io.kubernetes.cri.pod-annotations":{"a":"b"},` +
		`"ipRanges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.5"}]],` +
		`"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""},{"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"127.0.0.1"}]}`
	got, err := json.Marshal(capabilities(r))
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	if got := capabilities(network.Request{}); len(got) != 0 {
		t.Errorf("of an empty request: %v", got)
	}
	rt := runtimeConf(r, 1)
	if rt.IfName != "eth1" || rt.ContainerID != "pod-id" || rt.NetNS != "/run/ns" || !reflect.DeepEqual(rt.Args, [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "prod"}, {"K8S_POD_NAME", "web"}, {"K8S_POD_INFRA_CONTAINER_ID", "pod-id"}, {"K8S_POD_UID", "u-1"},
	}) {
		t.Errorf("runtime configuration %+v", rt)
	}
}

func TestOrder(t *testing.T) {
	for _, test := range []struct{ ips, preference, want string }{
		{"fd00::1 10.0.0.1 10.0.0.2", "", "10.0.0.1 fd00::1 10.0.0.2"},
		{"fd00::1 10.0.0.1", "ipv4", "10.0.0.1 fd00::1"},
		{"10.0.0.1 fd00::1", "ipv6", "fd00::1 10.0.0.1"},
		{"fd00::1 10.0.0.1", "cni", "fd00::1 10.0.0.1"},
		{"fd00::1", "ipv4", "fd00::1"},
		{"", "ipv4", ""},
	} {
		var ips []netip.Addr
		for _, s := range strings.Fields(test.ips) {
			ips = append(ips, netip.MustParseAddr(s))
		}
		var got []string
		for _, ip := range order(ips, test.preference) {
			got = append(got, ip.String())
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s by %q: %s", test.ips, test.preference, s)
		}
	}
}
