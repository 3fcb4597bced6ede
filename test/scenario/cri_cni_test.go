package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// cniTraces is what pods leave on a host whose network is made by CNI plugins.
type cniTraces struct{ links, rules, addresses string }

// traces looks for what a pod's network leaves: links, rules that name a container, addresses in use.
func traces(t *testing.T, addresses string) cniTraces {
	t.Helper()
	var rules, used []string
	for line := range strings.Lines(testenv.Run(t, "iptables-save")) {
		if strings.Contains(line, "CNI-DN-") || strings.Contains(line, "/32") || strings.Contains(line, "id: ") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	files, err := filepath.Glob(filepath.Join(addresses, "*", "[0-9]*.[0-9]*"))
	check(t, err)
	for _, f := range files {
		used = append(used, filepath.Base(f))
	}
	var links []string
	for line := range strings.Lines(testenv.Run(t, "ip", "-o", "link")) {
		links = append(links, strings.TrimRight(strings.Fields(line)[1], ":"))
	}
	return cniTraces{strings.Join(links, " "), strings.Join(rules, "\n"), strings.Join(used, " ")}
}

// addressesOf finds where the plugin host-local keeps the addresses in use.
func addressesOf(p testenv.CNIPlugin) string {
	return p["ipam"].(testenv.CNIPlugin)["dataDir"].(string)
}

// TestCRIBridge has the chain that most nodes have: bridge, portmap, firewall and bandwidth. Pods reach each other, a
// published port is reached by 127.0.0.1 and the host's address, and with the pods goes everything of theirs.
func TestCRIBridge(t *testing.T) {
	testenv.Need(t, "iptables-save", "tc")
	bridge := testenv.CNIBridge(t, 67)
	s := testenv.StartCRI(t, testenv.CRIOptions{CNI: []testenv.CNIPlugin{
		bridge, testenv.CNIPortmap(), {"type": "firewall", "backend": "iptables"},
		{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}},
	}})
	warm := s.RunPod("warm") // the bridge and the chains that stay
	warm.Remove()
	before := traces(t, addressesOf(bridge))

	web := s.RunPod("web", func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 12080}, {ContainerPort: 80, HostPort: 12081, HostIp: "127.0.0.1"}}
		c.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
	})
	web.Run("httpd", "sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
	client := s.RunPod("client")
	id := client.Run("main", "sleep", "600")
	address := s.PodStatus(web.ID).Network.Ip
	if !strings.HasPrefix(address, "10.67.") {
		t.Errorf("the pod's address is %s", address)
	}
	s.Exec(id, "ping", "-c", "1", "-W", "2", address)
	for _, server := range []string{address + ":80", "127.0.0.1:12080", "127.0.0.1:12081", "10.67.0.1:12080"} {
		testenv.Eventually(t, 5*time.Second, server+" answers", func() bool {
			page, err := testenv.Get(server)
			return err == nil && page == "served\n"
		})
	}
	if page, err := testenv.Get("10.67.0.1:12081"); err == nil {
		t.Errorf("a port published on 127.0.0.1 alone answers elsewhere: %q", page)
	}
	if shaped := testenv.Run(t, "tc", "qdisc", "show"); strings.Count(shaped, "qdisc tbf") != 2 || !strings.Contains(shaped, "10Mbit") {
		t.Errorf("the bandwidth is not limited:\n%s", shaped)
	}
	if during := traces(t, addressesOf(bridge)); during == before {
		t.Error("the test does not see what pods have on the host")
	}
	web.Remove()
	client.Remove()
	if after := traces(t, addressesOf(bridge)); after != before {
		t.Errorf("the pods are gone; before there was\n%+v\nnow there is\n%+v", before, after)
	}
}

// TestCRIPointToPoint joins each pod to the host by a pair of its own.
func TestCRIPointToPoint(t *testing.T) {
	testenv.Need(t, "iptables-save")
	ptp := testenv.CNIPlugin{"type": "ptp", "ipMasq": true, "ipam": testenv.CNIAddresses(t, 68)}
	testenv.Network(t)
	reachEachOther(t, ptp, "10.68.")
}

// TestCRIMacvlan has one end of a veth pair as the parent.
func TestCRIMacvlan(t *testing.T) {
	testenv.Need(t, "iptables-save")
	plugin := testenv.CNIPlugin{"type": "macvlan", "master": "mini-t-parent", "mode": "bridge", "ipam": testenv.CNIAddresses(t, 69)}
	testenv.Network(t)
	testenv.Run(t, "ip", "link", "add", "mini-t-parent", "type", "veth", "peer", "name", "mini-t-peer")
	for _, link := range []string{"mini-t-parent", "mini-t-peer"} {
		testenv.Run(t, "ip", "link", "set", link, "up")
	}
	if out := testenv.Try(t, "ip", "link", "add", "link", "mini-t-parent", "name", "mini-t-probe", "type", "macvlan", "mode", "bridge"); out != nil {
		t.Skipf("the kernel has no macvlan: %v", out)
	}
	testenv.Run(t, "ip", "link", "del", "mini-t-probe")
	reachEachOther(t, plugin, "10.69.")
}

func reachEachOther(t *testing.T, plugin testenv.CNIPlugin, prefix string) {
	t.Helper()
	s := testenv.StartCRI(t, testenv.CRIOptions{CNI: []testenv.CNIPlugin{plugin}, InNetwork: true})
	before := traces(t, addressesOf(plugin))
	first, second := s.RunPod("first"), s.RunPod("second")
	id := first.Run("main", "sleep", "600")
	address := s.PodStatus(second.ID).Network.Ip
	if !strings.HasPrefix(address, prefix) {
		t.Errorf("the pod's address is %s, want one of %s", address, prefix)
	}
	s.Exec(id, "ping", "-c", "1", "-W", "2", address)
	first.Remove()
	second.Remove()
	if after := traces(t, addressesOf(plugin)); after != before {
		t.Errorf("the pods are gone; before there was\n%+v\nnow there is\n%+v", before, after)
	}
}

// TestCRIChainFails has a chain whose second plugin fails: what the first has made is undone, and the error names the
// plugin.
func TestCRIChainFails(t *testing.T) {
	testenv.Need(t, "iptables-save")
	bridge := testenv.CNIBridge(t, 70)
	s := testenv.StartCRI(t, testenv.CRIOptions{CNI: []testenv.CNIPlugin{
		bridge, {"type": "tuning", "sysctl": map[string]string{"net.core.no_such_setting": "1"}},
	}})
	attempt := func() {
		t.Helper()
		_, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: s.PodConfig("fails")})
		if err == nil || rpc.Code(err) == codes.InvalidArgument || !strings.Contains(err.Error(), "tuning") || !strings.Contains(err.Error(), "no_such_setting") {
			t.Errorf("the pod of a chain that fails: %v", err)
		}
	}
	attempt() // makes the bridge, which stays
	before := traces(t, addressesOf(bridge))
	attempt()
	if after := traces(t, addressesOf(bridge)); after != before {
		t.Errorf("the pod was refused; before there was\n%+v\nnow there is\n%+v", before, after)
	}
	if before.addresses != "" || strings.Contains(before.links, "veth") {
		t.Errorf("left: %+v", before)
	}
	nothingLeft(t, s)
	// With the configuration mended, the next pod runs: the runtime reads it anew.
	file := filepath.Join(s.CNIDir, "10-tests.conflist")
	data, err := os.ReadFile(file)
	check(t, err)
	check(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(data), "net.core.no_such_setting", "net.ipv4.ip_forward")), 0o644))
	testenv.Eventually(t, 5*time.Second, "a pod of the mended chain", func() bool {
		_, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: s.PodConfig("works")})
		return err == nil
	})
}
