package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
)

// Network is a row of network ls.
type Network struct {
	CreatedAt, Driver, ID, IPv6, Internal, Labels, Name, Scope string
	labelled
}

// NetworkColumns are those of network ls.
const NetworkColumns = `{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`

// Raw is the template of the format "raw".
func (n Network) Raw() string {
	return "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
}

// NetworkHeader names the columns of network ls.
func NetworkHeader() Network {
	return Network{CreatedAt: "CREATED AT", Driver: "DRIVER", ID: "NETWORK ID", IPv6: "IPV6", Internal: "INTERNAL", Labels: "LABELS", Name: "NAME", Scope: "SCOPE", labelled: labelled{header: true}}
}

// NetworkFilterKeys are those of network ls.
func NetworkFilterKeys() []string {
	return []string{"dangling", "driver", "id", "label", "name", "scope", "type"}
}

// predefined says whether a network is one that is always there.
func predefined(n *api.Network) bool {
	return n.Name == "bridge" || n.Name == "host" || n.Name == "none"
}

// networkType is docker's word for who has made a network.
func networkType(n *api.Network) string {
	if predefined(n) {
		return "builtin"
	}
	return "custom"
}

// NetworkRows are the networks that the filters let through, by name.
func NetworkRows(list []*api.Network, f Filters, whole bool) ([]Network, error) {
	dangling, asked, err := f.flag("dangling")
	if err != nil {
		return nil, err
	}
	if !f.any("type", func(v string) bool { return v == "builtin" || v == "custom" }) {
		return nil, fmt.Errorf("invalid filter 'type=%s': builtin or custom: %w", f["type"][0], errdefs.ErrInvalidArgument)
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b *api.Network) int { return cmp.Compare(a.Name, b.Name) })
	var rows []Network
	for _, n := range sorted {
		if !f.labels(n.Labels) || !f.any("driver", func(v string) bool { return v == n.Driver }) ||
			!f.any("scope", func(v string) bool { return v == "local" }) ||
			!f.any("type", func(v string) bool { return v == networkType(n) }) || asked && dangling != (!predefined(n) && len(n.Containers) == 0) ||
			!f.any("name", func(v string) bool { return matches(v, n.Name) }) || !f.any("id", func(v string) bool { return strings.HasPrefix(n.Id, v) }) {
			continue
		}
		rows = append(rows, Network{
			CreatedAt: time.Unix(0, n.CreatedAt).Local().String(), Driver: n.Driver, ID: ShortID(n.Id, whole), IPv6: strconv.FormatBool(n.Ipv6),
			Internal: strconv.FormatBool(n.Internal), Labels: joined(n.Labels), Name: n.Name, Scope: "local", labelled: labelled{labels: n.Labels},
		})
	}
	return rows, nil
}

// NetworkDocument is what network inspect prints.
type NetworkDocument struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]NetworkMember
	Options    map[string]string
	Labels     map[string]string
}

// IPAM is how addresses are given out.
type IPAM struct {
	Driver  string
	Options map[string]string
	Config  []Pool
}

// Pool is a range of addresses.
type Pool struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string `json:",omitempty"`
	// AuxiliaryAddresses are those that others have, by name.
	AuxiliaryAddresses map[string]string `json:",omitempty"`
}

// NetworkMember is a container in it.
type NetworkMember struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

// DocumentOfNetwork describes a network.
func DocumentOfNetwork(n *api.Network) NetworkDocument {
	d := NetworkDocument{
		Name: n.Name, ID: n.Id, Created: moment(n.CreatedAt), Scope: "local", Driver: n.Driver, EnableIPv6: n.Ipv6, Internal: n.Internal,
		IPAM: IPAM{Driver: "default", Options: map[string]string{}, Config: []Pool{}}, Containers: map[string]NetworkMember{}, Options: n.Options, Labels: n.Labels,
		ConfigOnly: n.ConfigOnly, Attachable: n.Attachable,
	}
	d.ConfigFrom.Network = n.ConfigFrom
	if d.Options == nil {
		d.Options = map[string]string{}
	}
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	for _, s := range n.Subnets {
		d.IPAM.Config = append(d.IPAM.Config, Pool{s.Subnet, s.IpRange, s.Gateway, s.Auxiliary})
	}
	for _, m := range n.Containers {
		member := NetworkMember{Name: cmp.Or(m.Name, m.Id), EndpointID: madeID("endpoint", m.Id, n.Id), MacAddress: m.Endpoint.GetMac()}
		for _, ip := range m.Endpoint.GetIps() {
			if strings.Contains(ip, ":") {
				member.IPv6Address = ip
			} else {
				member.IPv4Address = ip
			}
		}
		d.Containers[m.Id] = member
	}
	return d
}
