// Package ports knows who has which port of the host, so that a port is never published twice. It decides from what it
// was told; whether a process of the host listens on a port is asked elsewhere.
package ports

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
)

// Normalize checks ports and writes each in one way: protocol in lower case, addresses unmapped. Those that are not
// published are left out.
func Normalize(all []network.Port) ([]network.Port, error) {
	var published []network.Port
	for _, p := range all {
		p.Protocol = strings.ToLower(p.Protocol)
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		p.HostIP = p.HostIP.Unmap()
		switch {
		case p.HostPort == 0:
			continue
		case !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Protocol):
			return nil, fmt.Errorf("host port %s: the protocol is not tcp, udp or sctp: %w", Text(p), errdefs.ErrInvalidArgument)
		case p.ContainerPort == 0:
			return nil, fmt.Errorf("host port %s: no port of the pod is given: %w", Text(p), errdefs.ErrInvalidArgument)
		case p.HostIP.Zone() != "":
			return nil, fmt.Errorf("host port %s: an address with a zone cannot be published: %w", Text(p), errdefs.ErrInvalidArgument)
		}
		if !slices.Contains(published, p) {
			published = append(published, p)
		}
	}
	return published, nil
}

// Text is a published port as people write it: [host IP:]port/protocol.
func Text(p network.Port) string {
	if !p.HostIP.IsValid() {
		return fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Protocol)
}

type key struct {
	protocol string
	port     uint16
}

type claim struct {
	ip     netip.Addr
	holder string
	label  string
}

// Table is who has which port. The zero value is ready. It is not for several goroutines at once.
type Table struct {
	claims map[key][]claim
	byID   map[string][]network.Port
}

// Claim gives normalized ports to the holder, all of them or none. ErrAlreadyExists names who has one, by its label.
func (t *Table) Claim(holder, label string, all []network.Port) error {
	for i, p := range all {
		for _, c := range t.claims[key{p.Protocol, p.HostPort}] {
			if overlap(c.ip, p.HostIP) {
				return fmt.Errorf("host port %s: pod %s has it: remove that pod, or publish another port: %w", Text(p), c.label, errdefs.ErrAlreadyExists)
			}
		}
		for _, other := range all[:i] {
			if p.Protocol == other.Protocol && p.HostPort == other.HostPort && overlap(p.HostIP, other.HostIP) {
				return fmt.Errorf("host port %s: given twice, for the ports %d and %d of the pod: %w", Text(p), other.ContainerPort, p.ContainerPort, errdefs.ErrInvalidArgument)
			}
		}
	}
	if t.claims == nil {
		t.claims, t.byID = map[key][]claim{}, map[string][]network.Port{}
	}
	for _, p := range all {
		k := key{p.Protocol, p.HostPort}
		t.claims[k] = append(t.claims[k], claim{p.HostIP, holder, label})
		t.byID[holder] = append(t.byID[holder], p)
	}
	return nil
}

// Release frees all ports of the holder and returns them.
func (t *Table) Release(holder string) []network.Port {
	freed := t.byID[holder]
	for _, p := range freed {
		k := key{p.Protocol, p.HostPort}
		left := slices.DeleteFunc(t.claims[k], func(c claim) bool { return c.holder == holder })
		if t.claims[k] = left; len(left) == 0 {
			delete(t.claims, k)
		}
	}
	delete(t.byID, holder)
	return freed
}

// Holders lists those that have ports.
func (t *Table) Holders() []string { return slices.Sorted(maps.Keys(t.byID)) }

// overlap: an address that is not valid stands for all, an unspecified one for all of its family.
func overlap(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || !b.IsValid():
		return true
	case a.Is4() != b.Is4():
		return false
	}
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}
