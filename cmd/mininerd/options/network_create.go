package options

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

// Pairs reads KEY=VALUE.
func Pairs(flag string, list []string) (map[string]string, error) { return pairs(flag, list) }

// NetworkRequest turns the flags of network create into a request; gateways and ranges belong to the subnets in their
// order.
func NetworkRequest(f Flags) (*api.CreateNetworkRequest, error) {
	if err := onlyLocal(f); err != nil {
		return nil, err
	}
	r := &api.CreateNetworkRequest{Driver: f.String("driver"), Internal: f.Bool("internal"), Ipv6: f.Bool("ipv6"), NoIpv4: !f.Bool("ipv4"), ConfigOnly: f.Bool("config-only"), ConfigFrom: f.String("config-from"), Attachable: f.Bool("attachable")}
	var err error
	if r.Labels, err = Labels(f.StringSlice("label")); err != nil {
		return nil, err
	}
	if r.Options, err = pairs("--opt", f.StringSlice("opt")); err != nil {
		return nil, err
	}
	for _, s := range f.StringSlice("subnet") {
		if _, err := netip.ParsePrefix(s); err != nil {
			return nil, invalid("invalid subnet %s: write it as 10.1.0.0/24", s)
		}
		r.Subnets = append(r.Subnets, &api.Subnet{Subnet: s})
	}
	for _, x := range []struct {
		flag string
		to   func(*api.Subnet) *string
	}{{"gateway", func(s *api.Subnet) *string { return &s.Gateway }}, {"ip-range", func(s *api.Subnet) *string { return &s.IpRange }}} {
		for i, text := range f.StringSlice(x.flag) {
			if i >= len(r.Subnets) {
				return nil, invalid("--%s %s: every %s needs a --subnet", x.flag, text, x.flag)
			}
			*x.to(r.Subnets[i]) = text
		}
	}
	return r, auxiliary(f.StringSlice("aux-address"), r.Subnets)
}

// onlyLocal refuses what needs more than one machine.
func onlyLocal(f Flags) error {
	switch {
	case f.Bool("ingress"):
		return invalid("Ingress network can only be global scope network: there is no swarm here, leave --ingress out")
	case f.String("scope") != "" && f.String("scope") != "local":
		return invalid("cannot create a %s scoped network when swarm is not active: use --scope local", f.String("scope"))
	case f.String("ipam-driver") != "default" && f.String("ipam-driver") != "":
		return invalid("--ipam-driver %s: use default: the daemon gives the addresses itself", f.String("ipam-driver"))
	case len(f.StringSlice("ipam-opt")) > 0:
		return invalid("--ipam-opt %s: the IPAM driver has no options: leave it out", f.StringSlice("ipam-opt")[0])
	}
	return nil
}

// auxiliary puts each address to the subnet that has it.
func auxiliary(list []string, subnets []*api.Subnet) error {
next:
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		addr, err := netip.ParseAddr(value)
		if !ok || name == "" || err != nil {
			return invalid("--aux-address %s: write NAME=ADDRESS", text)
		}
		for _, s := range subnets {
			if netip.MustParsePrefix(s.Subnet).Contains(addr) {
				if s.Auxiliary == nil {
					s.Auxiliary = map[string]string{}
				}
				s.Auxiliary[name] = value
				continue next
			}
		}
		return invalid("no matching subnet for aux-address %s: give a --subnet that has it", value)
	}
	return nil
}

// PruneNetworks turns docker's filters of network prune into a request.
func PruneNetworks(filters []string, now time.Time) (*api.PruneNetworksRequest, error) {
	r := &api.PruneNetworksRequest{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		negated := strings.HasSuffix(key, "!")
		if key = strings.TrimSuffix(key, "!"); !ok || value == "" {
			return nil, invalid("--filter %s: write KEY=VALUE", f)
		}
		switch {
		case key == "until" && !negated:
			t, err := icli.ParseTime(value, now)
			if err != nil {
				return nil, invalid("--filter until=%s: %w", value, err)
			}
			r.Until = t.UnixNano()
		case key == "label":
			name, text, valued := strings.Cut(value, "=")
			expression := fmt.Sprintf("labels.%q", name)
			switch {
			case negated && !valued:
				return nil, invalid("--filter label!=%s: write label!=KEY=VALUE", value)
			case negated:
				expression += fmt.Sprintf("!=%q", text)
			case valued:
				expression += fmt.Sprintf("==%q", text)
			}
			r.Filters = append(r.Filters, expression)
		default:
			return nil, invalid("invalid filter '%s': use until, label, label!", key)
		}
	}
	return r, nil
}
