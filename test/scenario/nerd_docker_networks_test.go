package scenario_test

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sameNetworks has what differs between two daemons of one host taken out: ids, moments, and subnets, which are in each
// command line 10.N and fd00:N.
func sameNetworks(text, subnet string) string {
	for from, to := range map[string]string{`\b[0-9a-f]{64}\b`: "ID", `\b[0-9a-f]{12}\b`: "ID", `([0-9a-f]{2}:){5}[0-9a-f]{2}`: "MAC", `"20\d\d-[^"]*"`: `"TIME"`} {
		text = regexp.MustCompile(from).ReplaceAllString(text, to)
	}
	text = regexp.MustCompile(`(?m)^(ID +)?bridge\b.*\n`).ReplaceAllString(text, "") // docker is without its own
	return strings.NewReplacer("10."+subnet, "10.N", "fd00:"+subnet, "fd00:N").Replace(text)
}

// compareNetworks gives the same lines about networks to both, in their order, and compares codes, and of some what they
// print.
func compareNetworks(t *testing.T, n, docker nerd) {
	n.t, docker.t = t, t
	both := func(line string) (want, got string) {
		t.Helper()
		line = strings.ReplaceAll(line, "fd00:N", "fd00:SUBNET")
		theirs := docker.try(nil, words(strings.NewReplacer("10.N", "10.78", "SUBNET", "78").Replace(line))...)
		ours := n.try(nil, words(strings.NewReplacer("10.N", "10.79", "SUBNET", "79").Replace(line))...)
		if ours.Code != theirs.Code {
			t.Errorf("%s: code %d, docker's %d\n%s%s", line, ours.Code, theirs.Code, ours.Stderr, theirs.Stderr)
		}
		return sameNetworks(theirs.Stdout, "78"), sameNetworks(ours.Stdout, "79")
	}
	for _, line := range []string{
		"network create --config-only --subnet 10.N.0.0/24 --gateway 10.N.0.9 --ip-range 10.N.0.128/25 --aux-address host=10.N.0.200 --opt com.docker.network.driver.mtu=1400 --label of=config conf",
		"network create --config-only --internal other", "network create --config-from conf --label own=yes other", "network create --config-from conf --internal made", "network create --config-from conf --subnet 10.N.1.0/24 other",
		"network create --config-from net other", "network create --config-from nosuch other", "network create --config-only --config-from conf other", "network create --config-only -d bridge --label x=y conf2",
		"network rm conf", "run --rm --network conf bb:1 true",
		"network create --subnet 10.N.2.0/24 --subnet fd00:N::/64 --ipv6 --attachable --label a=b --label c=d six",
		"network create --subnet 10.N.3.0/24 --opt com.docker.network.bridge.enable_icc=false --opt com.docker.network.bridge.enable_ip_masquerade=false opts",
		"network create six", "network create --subnet 10.N.2.0/25 overlap", "network create -d nosuch x", "network create --subnet nonsense x", "network create --gateway 10.N.4.1 x",
		"network create --subnet 10.N.4.0/24 --gateway 10.N.5.1 x", "network create --subnet 10.N.4.0/24 --ip-range 10.N.5.0/25 x", "network create --subnet 10.N.4.0/24 --aux-address a=10.N.5.1 x",
		"network create --scope swarm x", "network create --ingress x", "network create bridge", "network create", "network create a b",
		"run -d --name member --network made bb:1 sleep 600", "network connect --alias al --ip 10.N.2.5 --ip6 fd00:N::5 six member", "network connect six member",
		"network connect --ip 10.N.9.9 opts member", "network connect nosuch member", "network connect six nosuch", "network connect conf member", "network connect host member",
		"network rm six", "network rm bridge", "network disconnect opts member", "network disconnect nosuch member",
	} {
		both(line)
	}
	for _, line := range []string{
		"network ls", "network ls --no-trunc --format {{.Name}}:{{.Driver}}:{{.Scope}}:{{.Internal}}:{{.IPv6}}:{{.Labels}}", "network ls -q --filter type=custom", "network ls --filter label=a=b", "network ls --filter driver=null",
		"network ls --filter name=i", "network ls --filter type=builtin", "network ls --filter type=nosuch", "network ls --filter scope=local", "network ls --filter scope=swarm -q", "network ls --filter dangling=maybe", "network ls --filter nosuch=1",
		"inspect -f {{.NetworkSettings.Networks.six.IPAddress}}{{.NetworkSettings.Networks.six.GlobalIPv6Address}} member",
		"network inspect -f {{len␣.Containers}}{{range␣.Containers}}{{.Name}}{{.IPv4Address}}{{.IPv6Address}}{{end}} six",
	} {
		if want, got := both(line); want != got {
			t.Errorf("%s printed\n%s, docker\n%s", line, got, want)
		}
	}
	for _, name := range []string{"conf", "made", "six", "opts"} {
		theirs, ours := both("network inspect " + name)
		want, got := map[string]any{}, map[string]any{}
		flatten("", decode[[]any](t, theirs)[0], want)
		flatten("", decode[[]any](t, ours)[0], got)
		for _, k := range slices.Sorted(maps.Keys(want)) {
			gateway := k == "IPAM.Config" && (name == "six" || name == "opts") // one that was chosen is told too
			if !strings.HasPrefix(k, "Containers.") && !gateway && !reflect.DeepEqual(got[k], want[k]) {
				t.Errorf("network inspect %s: %s is %v; docker's is %v", name, k, got[k], want[k])
			}
		}
	}
	if out := n.do("network", "ls", "--filter", "dangling=true", "--format", "{{.Name}}"); out != "conf\nconf2\nnet\nopts\n" { // docker counts all
		t.Errorf("networks with nobody in them: %q", out)
	}
	for _, line := range []string{
		"network disconnect six member", "network disconnect -f six member", "network rm six opts", "rm -f member", "network prune -f --filter label=nosuch", "network rm made", "network rm conf conf2", "network prune -f", "network prune -f --filter nosuch=1",
	} {
		if want, got := both(line); want != got {
			t.Errorf("%s printed\n%s, docker\n%s", line, got, want)
		}
	}
	netBeside(n, docker) // it was pruned
}
