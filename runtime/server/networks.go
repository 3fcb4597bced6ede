package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/network"
)

// Networks is what the server wants of the engine's networks.
type Networks interface {
	CreateNetwork(ctx context.Context, ns string, o engine.NewNetwork) (engine.NetworkInfo, error)
	ListNetworks(ctx context.Context, ns string) ([]engine.NetworkInfo, error)
	InspectNetwork(ctx context.Context, ns, name string) (engine.NetworkInfo, error)
	RemoveNetwork(ctx context.Context, ns, name string) (network.Record, error)
	PruneNetworks(ctx context.Context, ns string, match func(network.Record) bool) ([]network.Record, error)
}

type networksServer struct {
	api.UnsafeNetworksServer
	Deps
}

func (s *networksServer) Create(ctx context.Context, r *api.CreateNetworkRequest) (*api.Network, error) {
	o := engine.NewNetwork{Name: r.Name, Driver: r.Driver, Labels: r.Labels, Options: r.Options, Internal: r.Internal, IPv6: r.Ipv6, NoIPv4: r.NoIpv4, ConfigOnly: r.ConfigOnly, ConfigFrom: r.ConfigFrom, Attachable: r.Attachable}
	for _, asked := range r.Subnets {
		subnet, err := subnetOf(asked)
		if err != nil {
			return nil, err
		}
		o.Subnets = append(o.Subnets, subnet)
	}
	n, err := s.Engine.CreateNetwork(ctx, namespace(r), o)
	if err != nil {
		return nil, err
	}
	return networkInfoOf(n), nil
}

func (s *networksServer) List(ctx context.Context, r *api.ListNetworksRequest) (*api.ListNetworksResponse, error) {
	match, err := networkFilter(r.Filters)
	if err != nil {
		return nil, err
	}
	list, err := s.Engine.ListNetworks(ctx, namespace(r))
	if err != nil {
		return nil, err
	}
	out := &api.ListNetworksResponse{}
	for _, n := range list {
		if match(n.Record) {
			out.Networks = append(out.Networks, networkInfoOf(n))
		}
	}
	return out, nil
}

func (s *networksServer) Inspect(ctx context.Context, r *api.NetworkRequest) (*api.Network, error) {
	n, err := s.Engine.InspectNetwork(ctx, namespace(r), r.Name)
	if err != nil {
		return nil, err
	}
	return networkInfoOf(n), nil
}

func (s *networksServer) Remove(ctx context.Context, r *api.NetworkRequest) (*api.RemoveNetworkResponse, error) {
	if _, err := s.Engine.RemoveNetwork(ctx, namespace(r), r.Name); err != nil {
		return nil, err
	}
	return &api.RemoveNetworkResponse{}, nil
}

func (s *networksServer) Prune(ctx context.Context, r *api.PruneNetworksRequest) (*api.PruneNetworksResponse, error) {
	match, err := networkFilter(r.Filters)
	if err != nil {
		return nil, err
	}
	removed, err := s.Engine.PruneNetworks(ctx, namespace(r), func(n network.Record) bool {
		return match(n) && (r.Until == 0 || n.CreatedAt.UnixNano() < r.Until)
	})
	if err != nil {
		return nil, err
	}
	out := &api.PruneNetworksResponse{}
	for _, n := range removed {
		out.Removed = append(out.Removed, n.Name)
	}
	return out, nil
}

// networkFilter reads filters of networks.
func networkFilter(expressions []string) (func(network.Record) bool, error) {
	filter, err := events.ParseFilterOf(expressions, "id", "name", "driver", "internal", "labels.")
	if err != nil {
		return nil, err
	}
	return func(r network.Record) bool {
		return filter.Match(func(key string) (string, bool) {
			switch key {
			case "id":
				return r.ID, true
			case "name":
				return r.Name, true
			case "driver":
				return r.Driver, true
			case "internal":
				return fmt.Sprint(r.Internal), true
			}
			return label(r.Labels, key)
		})
	}, nil
}

func subnetOf(s *api.Subnet) (network.Subnet, error) {
	subnet, err := netip.ParsePrefix(s.Subnet)
	if err != nil {
		return network.Subnet{}, fmt.Errorf("subnet %q: write it like 172.20.0.0/16 or fd00:1::/64: %w", s.Subnet, errdefs.ErrInvalidArgument)
	}
	out := network.Subnet{Subnet: subnet}
	if s.Gateway != "" {
		if out.Gateway, err = netip.ParseAddr(s.Gateway); err != nil {
			return out, fmt.Errorf("gateway %q: not an address: %w", s.Gateway, errdefs.ErrInvalidArgument)
		}
	}
	if s.IpRange != "" {
		if out.Range, err = netip.ParsePrefix(s.IpRange); err != nil {
			return out, fmt.Errorf("range of addresses %q: write it like 172.20.5.0/24: %w", s.IpRange, errdefs.ErrInvalidArgument)
		}
	}
	for name, text := range s.Auxiliary {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return out, fmt.Errorf("auxiliary address %s=%q: not an address: %w", name, text, errdefs.ErrInvalidArgument)
		}
		if out.Auxiliary == nil {
			out.Auxiliary = map[string]netip.Addr{}
		}
		out.Auxiliary[name] = addr
	}
	return out, nil
}

func networkInfoOf(n engine.NetworkInfo) *api.Network {
	out := &api.Network{
		Id: n.ID, Namespace: n.Namespace, Name: n.Name, Driver: n.Driver, Labels: n.Labels, Options: n.Options,
		Internal: n.Internal, Ipv6: n.IPv6, CreatedAt: nanos(n.CreatedAt), ConfigOnly: n.ConfigOnly, ConfigFrom: n.ConfigFrom, Attachable: n.Attachable,
	}
	for _, s := range n.Subnets {
		subnet := &api.Subnet{Subnet: s.Subnet.String()}
		if s.Gateway.IsValid() {
			subnet.Gateway = s.Gateway.String()
		}
		if s.Range.IsValid() {
			subnet.IpRange = s.Range.String()
		}
		for name, addr := range s.Auxiliary {
			if subnet.Auxiliary == nil {
				subnet.Auxiliary = map[string]string{}
			}
			subnet.Auxiliary[name] = addr.String()
		}
		out.Subnets = append(out.Subnets, subnet)
	}
	for _, m := range n.Members {
		member := &api.NetworkMember{Id: m.ID, Name: m.Name, Endpoint: &api.EndpointStatus{Network: n.Name, NetworkId: n.ID}}
		if m.Attachment != nil {
			fillEndpoint(member.Endpoint, *m.Attachment)
		}
		out.Containers = append(out.Containers, member)
	}
	return out
}

// fillEndpoint fills in what a container has while it is attached.
func fillEndpoint(e *api.EndpointStatus, a network.Attachment) {
	if a.Network != "" {
		e.NetworkId = a.Network
	}
	if len(a.Links) == 0 {
		return
	}
	l := a.Links[0]
	e.Interface, e.Mac = l.Interface, l.MAC
	for _, p := range l.Addresses {
		e.Ips = append(e.Ips, p.String())
	}
	for _, g := range l.Gateways {
		e.Gateways = append(e.Gateways, g.String())
	}
}
