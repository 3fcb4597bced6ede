package cni

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/minirt/mini/runtime/network"
)

// The capabilities that plugins may ask for, and what they get (CNI CONVENTIONS.md); the last three are containerd's.
const (
	capPorts       = "portMappings"
	capBandwidth   = "bandwidth"
	capDNS         = "dns"
	capRanges      = "ipRanges"
	capAliases     = "aliases"
	capCgroup      = "cgroupPath"
	capAnnotations = "io.kubernetes.cri.pod-annotations"
)

// portMapping, bandwidth and dns are as the conventions spell them.
type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

type dns struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// burst is what containerd gives: plugins want one, and the pod's annotations have none.
const burst = math.MaxInt32

// capabilities decides the capability arguments of a request; each plugin gets those it asks for.
func capabilities(r network.Request) map[string]any {
	args := map[string]any{}
	var ports []portMapping
	for _, p := range r.Ports {
		if p.HostPort == 0 {
			continue
		}
		m := portMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(p.Protocol)}
		if m.Protocol == "" {
			m.Protocol = "tcp"
		}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		ports = append(ports, m)
	}
	if ports != nil {
		args[capPorts] = ports
	}
	if r.Bandwidth != (network.Bandwidth{}) {
		b := bandwidth{IngressRate: r.Bandwidth.Ingress, EgressRate: r.Bandwidth.Egress}
		if b.IngressRate > 0 {
			b.IngressBurst = burst
		}
		if b.EgressRate > 0 {
			b.EgressBurst = burst
		}
		args[capBandwidth] = b
	}
	if len(r.DNS.Servers)+len(r.DNS.Searches)+len(r.DNS.Options) > 0 {
		args[capDNS] = dns(r.DNS)
	}
	if len(r.IPRanges) > 0 {
		args[capRanges] = r.IPRanges
	}
	if len(r.Aliases) > 0 {
		args[capAliases] = r.Aliases
	}
	if r.CgroupParent != "" {
		args[capCgroup] = r.CgroupParent
	}
	if len(r.Annotations) > 0 {
		args[capAnnotations] = r.Annotations
	}
	return args
}

// interfaceName is that of a pod's interface in its network of the number.
func interfaceName(number int) string { return fmt.Sprintf("eth%d", number) }

// runtimeConf is what a plugin is called with. The names of the arguments are kubelet's of old.
func runtimeConf(r network.Request, number int) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: r.ID, NetNS: r.NetNS, IfName: interfaceName(number),
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", r.Namespace}, {"K8S_POD_NAME", r.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", r.ID}, {"K8S_POD_UID", r.UID},
		},
		CapabilityArgs: capabilities(r),
	}
}

// order puts the preferred address first: "ipv4" and "ipv6" the first of that family, "cni" what the plugins had first.
func order(ips []netip.Addr, preference string) []netip.Addr {
	ips = slices.Clone(ips)
	want := func(a netip.Addr) bool { return a.Is4() }
	switch preference {
	case "cni":
		return ips
	case "ipv6":
		want = netip.Addr.Is6
	}
	if i := slices.IndexFunc(ips, want); i > 0 {
		first := ips[i]
		copy(ips[1:i+1], ips[:i])
		ips[0] = first
	}
	return ips
}

// linksOf reads the interfaces in the pod from a result.
func linksOf(networkName string, result *current.Result) []network.Link {
	var links []network.Link
	at := map[int]int{}
	for i, in := range result.Interfaces {
		if in.Sandbox == "" {
			continue
		}
		at[i] = len(links)
		links = append(links, network.Link{Network: networkName, Interface: in.Name, MAC: in.Mac, MTU: in.Mtu})
	}
	for _, ip := range result.IPs {
		if ip.Interface == nil {
			continue
		}
		link, ok := at[*ip.Interface]
		addr, valid := netip.AddrFromSlice(ip.Address.IP)
		if !ok || !valid {
			continue
		}
		bits, _ := ip.Address.Mask.Size()
		links[link].Addresses = append(links[link].Addresses, netip.PrefixFrom(addr.Unmap(), bits))
		if gateway, ok := netip.AddrFromSlice(ip.Gateway); ok {
			links[link].Gateways = append(links[link].Gateways, gateway.Unmap())
		}
	}
	return links
}

// ipsOf are all addresses of a result that are the pod's.
func ipsOf(result *current.Result) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range result.IPs {
		inPod := ip.Interface == nil || *ip.Interface >= 0 && *ip.Interface < len(result.Interfaces) && result.Interfaces[*ip.Interface].Sandbox != ""
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok && inPod {
			ips = append(ips, addr.Unmap())
		}
	}
	return ips
}

// withResult gives every plugin the result of ADD, for when libcni's own record of it is gone.
func withResult(l *libcni.NetworkConfigList, result json.RawMessage) error {
	if len(result) == 0 {
		return nil
	}
	for i, p := range l.Plugins {
		injected, err := libcni.InjectConf(p, map[string]any{"prevResult": result})
		if err != nil {
			return err
		}
		l.Plugins[i] = injected
	}
	return nil
}
