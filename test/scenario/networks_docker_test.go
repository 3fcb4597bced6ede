package scenario_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// netNerd is mininerd with a daemon in a network namespace of the test's own, which has an address that is not the
// loopback's, and a wire.
func netNerd(t *testing.T) (nerd, *testenv.DaemonProcess) {
	t.Helper()
	testenv.Network(t)
	testenv.Run(t, "ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
	for _, args := range []string{"address add 192.0.2.1/24 dev out0", "address add fd00:99::1/64 dev out0 nodad", "link set out0 up", "link set out1 up"} {
		testenv.Run(t, "ip", strings.Fields(args)...)
	}
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[network]\nprovider = \"builtin\"\nspares = 1\n"})
	return newNerd(t, d), d
}

const serveWord = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 0.0.0.0:80 -h /www"

func (n nerd) answers(address, want string) {
	n.t.Helper()
	page := ""
	testenv.Eventually(n.t, 15*time.Second, address+" answers", func() bool {
		page, _ = testenv.Get(address)
		return strings.TrimSpace(page) == want
	})
}

// TestPublishedOnLoopback6 has ports on every kind of address of the host, over the daemon's death.
func TestPublishedOnLoopback6(t *testing.T) {
	n, d := netNerd(t)
	n.do("network", "create", "four")
	n.do("run", "-d", "--name", "both", "-p", "8080:80", toolbox, "sh", "-c", serveWord)
	n.do("run", "-d", "--name", "four", "--network", "four", "-p", "8081:80", "-p", "[::1]:8082:80", "-p", "[fd00:99::1]:8083:80", toolbox, "sh", "-c", serveWord)
	all := []string{"127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080", "127.0.0.1:8081", "[::1]:8081", "[fd00:99::1]:8081", "[::1]:8082", "[fd00:99::1]:8083"}
	for _, address := range all {
		n.answers(address, "served")
	}
	for _, address := range []string{"127.0.0.1:8082", "[::1]:8083"} {
		if !silent(address) {
			t.Errorf("%s answers", address)
		}
	}
	d.Restart()
	for _, address := range all {
		n.answers(address, "served")
	}
	if out := n.do("port", "four", "80"); !strings.Contains(out, "[::1]:8082\n") || !strings.Contains(out, "0.0.0.0:8081\n") {
		t.Errorf("port printed %q", out)
	}
	if o := n.try(nil, "run", "--rm", "-p", "[::1]:8081:80", toolbox, "true"); o.Code != 125 || !strings.Contains(o.Stderr, "port 8081 is published by container four; stop it or choose another") {
		t.Errorf("a port that is taken: %d, %s", o.Code, o.Stderr)
	}
	l, err := net.Listen("tcp6", "[::1]:8090")
	check(t, err)
	if o := n.try(nil, "run", "--rm", "-p", "[::1]:8090:80", toolbox, "true"); o.Code != 125 || !strings.Contains(o.Stderr, "process of the host") {
		t.Errorf("a port of the host: %d, %s", o.Code, o.Stderr)
	}
	check(t, l.Close())
	n.do("stop", "-t0", "both", "four")
	for _, address := range all {
		if !silent(address) {
			t.Errorf("%s still answers", address)
		}
	}
	n.do("start", "four")
	n.answers("[::1]:8081", "served")
}

// TestMacvlanNetwork has containers beside the host, with names and an address kept free, over the daemon's death.
func TestMacvlanNetwork(t *testing.T) {
	n, d := netNerd(t)
	if out, err := exec.Command("ip", "link", "add", "probe0", "link", "out0", "type", "macvlan").CombinedOutput(); err != nil {
		t.Skipf("no macvlan here: %s", out)
	}
	testenv.Run(t, "ip", "link", "del", "probe0")
	n.do("network", "create", "-d", "macvlan", "-o", "parent=out0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1", "--ip-range", "192.0.2.64/28", "--aux-address", "printer=192.0.2.64", "lan")
	n.do("run", "-d", "--name", "web", "--network", "name=lan,ip=192.0.2.70,mac-address=02:00:00:00:00:70,link-local-ip=169.254.7.7", "-p", "8080:80", toolbox, "sh", "-c", serveWord)
	n.do("run", "-d", "--name", "user", "--network", "lan", toolbox, "sleep", "600")
	reaches := func(when string) {
		t.Helper()
		testenv.Eventually(t, 15*time.Second, when+", web answers to its name", func() bool {
			return n.try(nil, "exec", "user", "wget", "-O", "-", "http://web/").Stdout == "served\n"
		})
	}
	reaches("at first")
	if out := n.do("exec", "web", "sh", "-c", "ip -o address show eth0; ip link show eth0"); !strings.Contains(out, "192.0.2.70/24") || !strings.Contains(out, "169.254.7.7/16") || !strings.Contains(out, "02:00:00:00:00:70") {
		t.Errorf("its interface: %s", out)
	}
	if out := n.do("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}} {{.NetworkSettings.Networks.lan.Gateway}}", "user"); out != "192.0.2.71 192.0.2.1\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := n.do("network", "inspect", "-v", "-f", "{{json .IPAM.Config}} {{.Driver}} {{json .Options}}", "lan"); !strings.Contains(out, `"AuxiliaryAddresses":{"printer":"192.0.2.64"}`) || !strings.Contains(out, `macvlan {"parent":"out0"}`) {
		t.Errorf("network inspect printed %s", out)
	}
	d.Restart()
	reaches("after the daemon's death")
	n.do("restart", "-t0", "web")
	reaches("after its restart, with the same address")
	refused(t, n.try(nil, "network", "create", "-d", "macvlan", "-o", "parent=out0", "second"), "network lan is already using parent interface out0")
	refused(t, n.try(nil, "network", "create", "-d", "macvlan", "-o", "macvlan_mode=odd", "odd"), "private, vepa, passthru")
	refused(t, n.try(nil, "network", "create", "-d", "macvlan", "-o", "parent=nothing", "odd"), "there is no such link")
	n.do("rm", "-f", "web", "user")
	n.do("network", "rm", "lan")
	if links := testenv.Run(t, "ip", "-o", "link"); !strings.Contains(links, "out0") || strings.Contains(links, "macvlan") {
		t.Errorf("links: %s", links)
	}
}

// TestLinksAndNetworkFlags has docker's ways for containers to know each other, and the rest of the flags.
func TestLinksAndNetworkFlags(t *testing.T) {
	n, _ := netNerd(t)
	n.do("run", "-d", "--name", "db", "--expose", "5432", "-e", "SECRET=x", toolbox, "sleep", "600")
	ip := strings.TrimSpace(n.do("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db"))
	id := strings.TrimSpace(n.do("inspect", "-f", "{{.Id}}", "db"))
	out := n.do("run", "--name", "app", "--link", "db:my-db", toolbox, "sh", "-c", "env; cat /etc/hosts")
	for _, want := range []string{
		"MY_DB_NAME=/app/my-db\n", "MY_DB_PORT=tcp://" + ip + ":5432\n", "MY_DB_PORT_5432_TCP=tcp://" + ip + ":5432\n", "MY_DB_PORT_5432_TCP_ADDR=" + ip + "\n",
		"MY_DB_PORT_5432_TCP_PORT=5432\n", "MY_DB_PORT_5432_TCP_PROTO=tcp\n", "MY_DB_ENV_SECRET=x\n", ip + "\tmy-db " + id[:12] + " db\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	n.do("stop", "-t0", "db")
	if o := n.try(nil, "start", "-a", "app"); o.Code == 0 || !strings.Contains(o.Stderr, "cannot link to a non running container: /db AS /app/my-db") {
		t.Errorf("linked to one that does not run: %d, %s", o.Code, o.Stderr)
	}

	t.Log("a stopped container tells the ids of its networks")
	network := strings.TrimSpace(n.do("network", "create", "--label", "keep=yes", "red"))
	n.do("create", "--name", "later", "--network", "name=red,driver-opt=com.docker.network.endpoint.ifname=lan7", toolbox, "ip", "-o", "link")
	if out := n.do("inspect", "-f", "{{.NetworkSettings.Networks.red.NetworkID}}", "later"); out != network+"\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := n.do("start", "-a", "later"); !strings.Contains(out, "lan7") {
		t.Errorf("its links: %s", out)
	}

	t.Log("a namespace that somebody else has made")
	testenv.Run(t, "ip", "netns", "add", "mini-test-foreign")
	t.Cleanup(func() { check(t, exec.Command("ip", "netns", "del", "mini-test-foreign").Run()) })
	testenv.Run(t, "ip", "-n", "mini-test-foreign", "link", "add", "foreign0", "type", "bridge")
	if out := n.do("run", "--rm", "--network", "ns:/run/netns/mini-test-foreign", toolbox, "ip", "-o", "link"); !strings.Contains(out, "foreign0") {
		t.Errorf("its links: %s", out)
	}
	n.do("create", "--name", "foreign", "--network", "ns:/run/netns/mini-test-foreign", toolbox, "true")
	if out := n.do("inspect", "-f", "{{.HostConfig.NetworkMode}}", "foreign"); out != "ns:/run/netns/mini-test-foreign\n" {
		t.Errorf("its mode: %q", out)
	}
	for line, want := range map[string]string{
		"run --rm --network ns:x IMAGE true":                            "whole path",
		"run --rm --network ns:/x -p 80 IMAGE true":                     "somebody else's",
		"run --rm --network red --link-local-ip 10.0.0.1 IMAGE true":    "invalid link local IP address",
		"network create --ingress x":                                    "Ingress network can only be global scope network",
		"network create --scope swarm x":                                "cannot create a swarm scoped network when swarm is not active",
		"network create --config-only --config-from y x":                "cannot be made like another",
		"network create --config-from red x":                            "network red is no configuration",
		"network create --ipv4=false --subnet 10.9.0.0/24 x":            "IPv4 is switched off",
		"network create --subnet 10.9.0.0/24 --aux-address a=1.1.1.1 x": "no matching subnet for aux-address",
		"network prune -f --filter age=1h":                              "invalid filter",
		"network create -d overlay x":                                   "driver overlay: there are bridge, macvlan and ipvlan",
	} {
		refused(t, n.try(nil, strings.Fields(strings.ReplaceAll(line, "IMAGE", toolbox))...), want)
	}

	t.Log("networks are pruned by their age and labels")
	n.do("rm", "later")
	n.do("network", "create", "--attachable", "--scope", "local", "--ipv4=false", "six")
	if out := n.do("network", "inspect", "-f", "{{len .IPAM.Config}} {{.EnableIPv6}}", "six"); out != "1 true\n" {
		t.Errorf("a network of IPv6 alone: %q", out)
	}
	for _, args := range []string{"until=1h", "label=other", "label!=keep=yes"} {
		out := n.do("network", "prune", "-f", "--filter", args)
		if strings.Contains(out, "red") || strings.Contains(out, "six") != (args == "label!=keep=yes") {
			t.Errorf("prune --filter %s printed %q", args, out)
		}
	}
	if out := n.do("network", "prune", "-f", "--filter", "label=keep", "--filter", "until=0s"); !strings.Contains(out, "red") {
		t.Errorf("prune printed %q", out)
	}
	n.do("network", "rm", "-f", "red", "nothing")
	if out := n.do("network", "ls", "--no-trunc", "-q"); len(strings.Fields(out)[0]) != 64 {
		t.Errorf("network ls printed %q", out)
	}
}

// TestNetworkCrashes kills the daemon at every step of making, removing, joining and leaving networks: afterwards the same
// command works, and nothing is left.
func TestNetworkCrashes(t *testing.T) {
	n, d := netNerd(t)
	d.Stop()
	run := func(point, line string) testenv.Output {
		t.Helper()
		d.Env = nil
		if point != "" {
			d.Env = []string{"MINI_FAILPOINT=" + point + "=kill"}
		}
		d.Start()
		o := n.try(nil, strings.Fields(strings.ReplaceAll(line, "IMAGE", toolbox))...)
		if point != "" && !d.WaitEnd(10*time.Second) {
			t.Errorf("%s: the daemon does not die at %s: %d, %s", line, point, o.Code, o.Stderr)
			d.Stop()
		}
		return o
	}
	must := func(line string) {
		t.Helper()
		if o := run("", line); o.Code != 0 {
			t.Errorf("%s: %d, %s\n%s", line, o.Code, o.Stderr, d.Log())
		}
		d.Stop()
	}
	for _, step := range []struct{ point, line, undo string }{
		{"network-recorded", "network create red", "network rm red"},
		{"network-bridge-made", "network create red", "network rm red"},
		{"network-segment-made", "network create red", "network rm red"},
		{"network-made", "network create red", "network rm red"},
		{"network-removing", "network rm red", "network create red"},
		{"network-unlisted", "network rm red", "network create red"},
		{"endpoint-attached", "run -d --name web --network red -p 8080:80 IMAGE sleep 600", "rm -f web"},
		{"start-joined", "run -d --name web --network red -p 8080:80 IMAGE sleep 600", "rm -f web"},
		{"connect-attached", "network connect red idle", "network disconnect red idle"},
		{"disconnect-detached", "network disconnect red idle", "network connect red idle"},
	} {
		switch {
		case strings.HasPrefix(step.line, "network rm"), step.point == "endpoint-attached":
			must("network create red")
		case step.point == "connect-attached":
			must("run -d --name idle IMAGE sleep 600")
		case step.point == "disconnect-detached":
			must("network connect red idle")
		}
		run(step.point, step.line)
		d.Env = nil
		d.Start()
		if strings.HasPrefix(step.line, "run") { // the container is there, and has not begun
			testenv.Eventually(t, 10*time.Second, step.point+": the half of it is removed or can be", func() bool {
				return n.try(nil, "rm", "-f", "web").Code == 0 || n.try(nil, "inspect", "web").Code != 0
			})
		}
		o := n.try(nil, strings.Fields(strings.ReplaceAll(step.line, "IMAGE", toolbox))...)
		if gone := strings.HasPrefix(step.line, "network rm") && strings.Contains(o.Stderr, "No such network"); o.Code != 0 && !gone { // recovery has finished the removal
			t.Errorf("%s again after %s: %d, %s", step.line, step.point, o.Code, o.Stderr)
		}
		if undo := n.try(nil, strings.Fields(step.undo)...); undo.Code != 0 && !strings.HasPrefix(step.line, "network rm") {
			t.Errorf("%s after %s: %s", step.undo, step.point, undo.Stderr)
		}
		if step.point == "network-removing" || step.point == "network-unlisted" || step.point == "start-joined" {
			n.do("network", "rm", "red")
		}
		if step.point == "start-joined" {
			n.do("network", "create", "red")
		}
		d.Stop()
	}
	d.Env = nil
	d.Start()
	n.do("rm", "-f", "idle")
	n.do("network", "rm", "red")
	testenv.Eventually(t, 15*time.Second, "no link is left", func() bool {
		links := testenv.Run(t, "ip", "-o", "link")
		return !strings.Contains(links, ": mb") && strings.Count(links, ": mv") <= 1 // a spare
	})
	if left, err := filepath.Glob(filepath.Join(d.State, "containers", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestMacvlanCrash kills the daemon between a container's interface and its record: nothing on the host leads to it.
func TestMacvlanCrash(t *testing.T) {
	n, d := netNerd(t)
	if out, err := exec.Command("ip", "link", "add", "probe0", "link", "out0", "type", "macvlan").CombinedOutput(); err != nil {
		t.Skipf("no macvlan here: %s", out)
	}
	testenv.Run(t, "ip", "link", "del", "probe0")
	n.do("network", "create", "-d", "macvlan", "-o", "parent=out0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1", "lan")
	n.do("run", "-d", "--name", "idle", toolbox, "sleep", "600")
	d.Stop()
	d.Env = []string{"MINI_FAILPOINT=connect-attached=kill"}
	d.Start()
	n.try(nil, "network", "connect", "--ip", "192.0.2.9", "lan", "idle")
	if !d.WaitEnd(10 * time.Second) {
		t.Fatal("the daemon does not die")
	}
	d.Env = nil
	d.Start()
	n.do("network", "connect", "--ip", "192.0.2.9", "lan", "idle")
	out := n.do("exec", "idle", "ip", "-o", "address", "show")
	if strings.Count(out, "192.0.2.9/24") != 1 {
		t.Errorf("its addresses: %s", out)
	}
	n.do("rm", "-f", "idle")
	n.do("network", "rm", "lan")
	if names, err := os.ReadDir("/sys/class/net"); err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "dm-") }) {
		t.Error(fmt.Sprint(names), err)
	}
}
