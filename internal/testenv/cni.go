package testenv

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// CNIBinDir is where Debian has the CNI plugins.
const CNIBinDir = "/usr/lib/cni"

// CNIPlugin is one element of a network's list.
type CNIPlugin map[string]any

// CNI writes a network configuration list of the plugins into a directory of its own. Plugins that are not installed
// skip the test.
func CNI(t testing.TB, plugins ...CNIPlugin) (confDir string) {
	t.Helper()
	dir := filepath.Join(Dir(t), "net.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins {
		name, ok := p["type"].(string)
		if !ok || !executable(filepath.Join(CNIBinDir, name)) {
			t.Skipf("needs the CNI plugin %v, which is not installed (make deps-test)", p["type"])
		}
	}
	data, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": "tests", "plugins": plugins})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "10-tests.conflist"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// CNIBridge is a bridge with the pods of 10.NET.0.0/16; the addresses in use are kept in a directory of the test. Use it
// in a network namespace of the test's own (Network).
func CNIBridge(t testing.TB, net int) CNIPlugin {
	t.Helper()
	return CNIPlugin{
		"type": "bridge", "bridge": fmt.Sprintf("mini-t-cni%d", net), "isGateway": true, "ipMasq": true, "hairpinMode": true,
		"ipam": CNIAddresses(t, net),
	}
}

// CNIAddresses is the plugin host-local with 10.NET.0.0/16 and a default route.
func CNIAddresses(t testing.TB, net int) CNIPlugin {
	t.Helper()
	return CNIPlugin{
		"type": "host-local", "dataDir": filepath.Join(Dir(t), "addresses"),
		"ranges": [][]CNIPlugin{{{"subnet": fmt.Sprintf("10.%d.0.0/16", net)}}},
		"routes": []CNIPlugin{{"dst": "0.0.0.0/0"}},
	}
}

// CNIPortmap publishes ports of the host.
func CNIPortmap() CNIPlugin {
	return CNIPlugin{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}}
}
