package network_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
)

func TestSettings(t *testing.T) {
	for _, row := range []struct {
		driver, key, value string
		want               network.Settings
	}{
		{"bridge", "mtu", "1400", network.Settings{MTU: 1400}},
		{"bridge", "com.docker.network.driver.mtu", "9000", network.Settings{MTU: 9000}},
		{"bridge", "icc", "false", network.Settings{Isolated: true}},
		{"bridge", "com.docker.network.bridge.enable_icc", "true", network.Settings{}},
		{"bridge", "com.docker.network.bridge.enable_ip_masquerade", "false", network.Settings{NoMasquerade: true}},
		{"bridge", "com.docker.network.bridge.name", "br-mine", network.Settings{Bridge: "br-mine"}},
		{"bridge", "com.docker.network.bridge.host_binding_ipv4", "127.0.0.1", network.Settings{HostIP: netip.MustParseAddr("127.0.0.1")}},
		{"macvlan", "parent", "eth0.50", network.Settings{Parent: "eth0.50", Mode: 4}},
		{"macvlan", "macvlan_mode", "private", network.Settings{Mode: 1}},
		{"macvlan", "mode", "passthru", network.Settings{Mode: 8}},
		{"ipvlan", "ipvlan_flag", "vepa", network.Settings{Flags: 2}},
		{"ipvlan", "com.docker.network.driver.mtu", "1400", network.Settings{MTU: 1400}},
	} {
		got, err := network.SettingsOf(network.Record{Driver: row.driver, Options: map[string]string{row.key: row.value}})
		if err != nil || got != row.want {
			t.Errorf("%s=%s: %+v, %v", row.key, row.value, got, err)
		}
	}
	for key, value := range map[string]string{"mtu": "x", "icc": "maybe", "bridge": "a/b", "com.docker.network.bridge.name": "longer-than-fifteen", "host_ip": "x", "colour": "red", "parent": "eth0"} {
		if _, err := network.SettingsOf(network.Record{Driver: "bridge", Options: map[string]string{key: value}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	for _, option := range []string{"macvlan mode=l3", "macvlan icc=true", "ipvlan ipvlan_mode=bridge", "ipvlan ipvlan_flag=x", "macvlan parent=a/b"} {
		driver, pair, _ := strings.Cut(option, " ")
		key, value, _ := strings.Cut(pair, "=")
		if _, err := network.SettingsOf(network.Record{Driver: driver, Options: map[string]string{key: value}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", option, err)
		}
	}
	if s, err := network.SettingsOf(network.Record{Driver: "ipvlan", Options: map[string]string{"ipvlan_mode": "l3s"}}); err != nil || s.Mode != 2 || !s.Layer3() {
		t.Errorf("l3s: %+v, %v", s, err)
	}
}
