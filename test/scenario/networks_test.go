package scenario_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/api"
)

// network makes a network, which is removed after the containers.
func (n *native) network(r *api.CreateNetworkRequest) *api.Network {
	n.t.Helper()
	made, err := n.Networks.Create(n.t.Context(), r)
	check(n.t, err)
	return made
}

// page is a server of a word in these networks.
func (n *native) page(name string, networks ...*api.NetworkAttachment) *api.CreateContainerRequest {
	r := n.serving(name, name, 0)
	r.NetworkMode, r.Networks, r.Ports = "", networks, nil
	return r
}

// within runs a command in a container and returns what it prints.
func (n *native) within(name, command string) string {
	n.t.Helper()
	return strings.TrimSpace(n.d.Minictr("exec", n.get(name).Id, "sh", "-c", command+" 2>&1; true"))
}

// fetches expects a container to reach a server by a name.
func (n *native) fetches(from, name, want string) {
	n.t.Helper()
	got := ""
	testenv.Eventually(n.t, 10*time.Second, from+" gets "+want+" from "+name, func() bool {
		if got = n.within(from, "timeout -t 3s wget -O - http://"+name+"/"); got != want {
			n.t.Log(got)
		}
		return got == want
	})
}

func TestUserNetworks(t *testing.T) {
	n := dockerLike(t)
	red := n.network(&api.CreateNetworkRequest{Name: "red", Ipv6: true, Subnets: []*api.Subnet{{Subnet: "10.44.0.0/24", IpRange: "10.44.0.128/25"}}})
	n.network(&api.CreateNetworkRequest{Name: "inner", Internal: true})
	in := func(network string, aliases ...string) *api.NetworkAttachment {
		return &api.NetworkAttachment{Network: network, Aliases: aliases}
	}
	static := in("red", "www")
	static.Ip, static.Mac = "10.44.0.7", "02:00:00:00:00:07"
	web := n.page("web", static)
	web.Ports = []*api.PublishedPort{{HostPort: 8080, ContainerPort: 80}}
	n.run(web)
	n.run(n.page("db", in("inner")))
	n.run(n.page("both", in("inner"), in("red")))
	check := func(when string) {
		t.Helper()
		t.Log(when)
		n.fetches("both", "web", "web")
		n.fetches("both", "www.red", "web")
		n.fetches("both", "db", "db")
		n.fetches("web", "both", "both")
		n.fetches("db", "both", "both")
		n.answers("192.0.2.1:8080", "web")
		if out := n.within("db", "timeout -t 3s wget -O - http://web/"); out == "web" || !strings.Contains(out, "no such host") {
			t.Errorf("a name of another network: %s", out)
		}
		if out := n.within("db", "timeout -t 3s wget -O - http://10.44.0.7/"); out == "web" {
			t.Error("an address of another network answers")
		}
		if out := n.within("both", "ip route show"); !strings.Contains(out, "0.0.0.0/0 dev eth1") {
			t.Errorf("default route of one in an internal network and another: %s", out)
		}
	}
	check("at first")
	n.d.Restart()
	n.dial()
	check("after the daemon was killed")

	info, err := n.Networks.Inspect(t.Context(), &api.NetworkRequest{Name: red.Id[:12]})
	if err != nil || len(info.Containers) != 2 || info.Containers[1].Name != "web" {
		t.Fatalf("inspect: %v, %v", info, err)
	}
	if e := info.Containers[1].Endpoint; e.Mac != "02:00:00:00:00:07" || fmt.Sprint(e.Ips[0]) != "10.44.0.7/24" || len(e.Ips) != 2 || e.NetworkId != red.Id {
		t.Errorf("endpoint: %v", e)
	}
	_, err = n.Networks.Remove(t.Context(), &api.NetworkRequest{Name: "red"})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "in use by container both, web") {
		t.Errorf("removed while in use: %v", err)
	}
	_, err = n.Networks.Create(t.Context(), &api.CreateNetworkRequest{Name: "twice", Subnets: []*api.Subnet{{Subnet: "10.44.0.0/16"}}})
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "overlaps with 10.44.0.0/24 of network red") {
		t.Errorf("a subnet in use: %v", err)
	}
	for _, name := range []string{"web", "db", "both"} {
		_, err := n.Containers.Delete(t.Context(), &api.DeleteContainerRequest{Id: name, Force: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	pruned, err := n.Networks.Prune(t.Context(), &api.PruneNetworksRequest{})
	if err != nil || fmt.Sprint(pruned.Removed) != "[inner red]" {
		t.Errorf("pruned %v, %v", pruned, err)
	}
	n.d.Stop()
	if links := testenv.Run(t, "ip", "-o", "link"); strings.Contains(links, ": mb") || strings.Contains(links, "mv") {
		t.Errorf("links are left:\n%s", links)
	}
	if rules := testenv.Run(t, "nft", "list", "ruleset"); strings.TrimSpace(rules) != "" {
		t.Errorf("rules are left:\n%s", rules)
	}
	n.d.Start()
	n.dial()
}
