package network_test

import (
	"net/netip"
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
}
