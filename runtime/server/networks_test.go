package server

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network"
)

func (e *fakeEngine) CreateNetwork(_ context.Context, ns string, o engine.NewNetwork) (engine.NetworkInfo, error) {
	e.note("create network %s/%s", ns, o.Name)
	return engine.NetworkInfo{Record: network.Record{
		ID: "0123", Namespace: ns, Name: o.Name, Driver: o.Driver, Labels: o.Labels, Options: o.Options, Subnets: o.Subnets,
		Internal: o.Internal, IPv6: o.IPv6, CreatedAt: time.Unix(7, 0),
	}}, nil
}

func (e *fakeEngine) ListNetworks(_ context.Context, ns string) ([]engine.NetworkInfo, error) {
	red := engine.NetworkInfo{Record: network.Record{ID: "1", Namespace: ns, Name: "red", Driver: "bridge", Labels: map[string]string{"a": "b"}}}
	red.Members = []engine.NetworkMember{{ID: "c1", Name: "off"}, {ID: "c2", Name: "on", Attachment: &network.Attachment{
		Network: "1", Links: []network.Link{{Interface: "eth1", MAC: "02:00:00:00:00:05", Addresses: []netip.Prefix{netip.MustParsePrefix("172.18.0.5/16")}, Gateways: []netip.Addr{netip.MustParseAddr("172.18.0.1")}}},
	}}}
	return []engine.NetworkInfo{red, {Record: network.Record{ID: "2", Namespace: ns, Name: "blue", Driver: "bridge", Internal: true}}}, nil
}

func (e *fakeEngine) InspectNetwork(ctx context.Context, ns, name string) (engine.NetworkInfo, error) {
	e.note("inspect network %s/%s", ns, name)
	all, err := e.ListNetworks(ctx, ns)
	return all[0], err
}

func (e *fakeEngine) RemoveNetwork(_ context.Context, ns, name string) (network.Record, error) {
	e.note("remove network %s/%s", ns, name)
	return network.Record{}, nil
}

func (e *fakeEngine) PruneNetworks(ctx context.Context, ns string, match func(network.Record) bool) ([]network.Record, error) {
	all, err := e.ListNetworks(ctx, ns)
	var removed []network.Record
	for _, n := range all {
		if match(n.Record) {
			removed = append(removed, n.Record)
		}
	}
	return removed, err
}

func TestNetworks(t *testing.T) {
	c, _ := serve(t, &fakeEngine{})
	ctx := t.Context()
	made, err := c.Networks.Create(ctx, &api.CreateNetworkRequest{
		Name: "red", Driver: "bridge", Labels: map[string]string{"a": "b"}, Options: map[string]string{"mtu": "1400"}, Internal: true, Ipv6: true,
		Subnets: []*api.Subnet{{Subnet: "172.20.0.0/16", Gateway: "172.20.0.9", IpRange: "172.20.5.0/24"}, {Subnet: "fd00:1::/64"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.Namespace != "default" || made.Labels["a"] != "b" || made.Options["mtu"] != "1400" || !made.Internal || !made.Ipv6 || made.CreatedAt != 7e9 ||
		len(made.Subnets) != 2 || made.Subnets[0].String() != (&api.Subnet{Subnet: "172.20.0.0/16", Gateway: "172.20.0.9", IpRange: "172.20.5.0/24"}).String() || made.Subnets[1].Gateway != "" {
		t.Errorf("made: %v", made)
	}
	for _, bad := range []*api.Subnet{{Subnet: "172.20.0.0"}, {}, {Subnet: "172.20.0.0/16", Gateway: "x"}, {Subnet: "172.20.0.0/16", IpRange: "x"}} {
		if _, err := c.Networks.Create(ctx, &api.CreateNetworkRequest{Name: "red", Subnets: []*api.Subnet{bad}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
	n, err := c.Networks.Inspect(ctx, &api.NetworkRequest{Name: "red"})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Containers) != 2 || n.Containers[0].Endpoint.Interface != "" {
		t.Fatalf("members %v", n.Containers)
	}
	e := n.Containers[1].Endpoint
	if e.Network != "red" || e.NetworkId != "1" || e.Interface != "eth1" || e.Mac != "02:00:00:00:00:05" || !slices.Equal(e.Ips, []string{"172.18.0.5/16"}) || !slices.Equal(e.Gateways, []string{"172.18.0.1"}) {
		t.Errorf("endpoint %v", e)
	}
	for filter, want := range map[string][]string{"": {"red", "blue"}, "labels.a==b": {"red"}, "internal==true": {"blue"}, "name~=u": {"blue"}, "id==1": {"red"}, "driver!=bridge": nil} {
		var filters []string
		if filter != "" {
			filters = []string{filter}
		}
		list, err := c.Networks.List(ctx, &api.ListNetworksRequest{Filters: filters})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range list.Networks {
			names = append(names, n.Name)
		}
		pruned, err := c.Networks.Prune(ctx, &api.PruneNetworksRequest{Filters: filters})
		if err != nil || !slices.Equal(names, want) || !slices.Equal(pruned.Removed, want) {
			t.Errorf("%q: listed %v, pruned %v, %v; want %v", filter, names, pruned.GetRemoved(), err, want)
		}
	}
	if _, err := c.Networks.List(ctx, &api.ListNetworksRequest{Filters: []string{"colour==red"}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an unknown filter: %v", err)
	}
	if _, err := c.Networks.Remove(ctx, &api.NetworkRequest{Namespace: "shop", Name: "red"}); err != nil {
		t.Error(err)
	}
}
