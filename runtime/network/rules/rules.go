// Package rules is the daemon's nftables table, in the family inet and under the daemon's own name: masquerading, published
// ports and the protection of the host's loopback addresses. What the table says is decided by pure functions, which also
// write it as nft(8) would read it; one executor writes it over netlink. Nothing is executed, and no other table is
// touched, but for Admit.
//
// A published port is an element of a map, keyed by protocol, address and port, so that a pod's start and end cost one
// message each, whatever the number of ports. Packets to any local address look there, whether they come from outside,
// from a pod, or from the host itself.
//
// Ports published on 127.0.0.1: a connection from 127.0.0.1 is rewritten to the pod's address and leaves by the bridge
// with the bridge's address as its source. The kernel drops packets of 127.0.0.0/8 on other interfaces than lo unless
// route_localnet is set; the bridge sets it, on itself alone. That would let pods reach services of the host that listen
// on 127.0.0.1 only (CVE-2020-8558), so what arrives from a bridge with such an address is dropped before anything looks
// at it; packets of published ports never look like that on the wire. The other way, a proxy process for each port, costs
// memory for each port, copies every byte, and shows the pod a wrong source for connections from outside as well.
// For ::1 the kernel has no such switch: connections to it are left alone. The daemon listens there itself (package relay).
package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network is one bridge and its subnets. What is forwarded from one bridge to another is dropped, unless it belongs to a
// connection to a published port.
type Network struct {
	Bridge       string
	Subnets      []netip.Prefix
	Internal     bool // nothing is forwarded from or to it
	NoMasquerade bool
	Isolated     bool // nothing is forwarded within it; that the links of the bridge are apart is their own business
}

// Forward publishes a port. An unspecified host address stands for every one of its family.
type Forward struct {
	Protocol string // tcp, udp, sctp
	Host     netip.AddrPort
	To       netip.AddrPort // same family
}

// State is all that the table says.
type State struct {
	Networks []Network
	Forwards []Forward
}

// The names of the maps of published ports: of one host address, or of every one.
const (
	map4, map4Any = "published4", "published4any"
	map6, map6Any = "published6", "published6any"
)

// mapOf is the name of the map a forward belongs into.
func mapOf(f Forward) string {
	switch any := f.Host.Addr().IsUnspecified(); {
	case f.Host.Addr().Is4() && any:
		return map4Any
	case f.Host.Addr().Is4():
		return map4
	case any:
		return map6Any
	}
	return map6
}

// mapTypes are the types of the maps in the words of nft, in the order in which they are written.
func mapTypes() [][2]string {
	return [][2]string{
		{map4, "inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service"},
		{map4Any, "inet_proto . inet_service : ipv4_addr . inet_service"},
		{map6, "inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service"},
		{map6Any, "inet_proto . inet_service : ipv6_addr . inet_service"},
	}
}

// chain is a chain and what it hooks into; a chain without a hook is jumped to.
type chain struct {
	name string
	hook string // as nft writes it
}

const (
	chainGuard       = "guard"
	chainPrerouting  = "prerouting"
	chainOutput      = "output"
	chainPublish     = "publish"
	chainPostrouting = "postrouting"
	chainQuiet       = "quiet"
	chainForward     = "forward"
	chainApart       = "apart"
)

func chains() []chain {
	return []chain{
		{chainPublish, ""},
		{chainApart, ""},
		{chainGuard, "type filter hook prerouting priority raw; policy accept;"},
		{chainPrerouting, "type nat hook prerouting priority dstnat; policy accept;"},
		{chainOutput, "type nat hook output priority -100; policy accept;"},
		{chainPostrouting, "type nat hook postrouting priority srcnat; policy accept;"},
		{chainQuiet, "type filter hook output priority filter; policy accept;"},
		{chainForward, "type filter hook forward priority filter; policy accept;"},
	}
}

// rules decides the rules of the table, chain by chain.
func (s State) rules() []rule {
	var all []rule
	for _, n := range s.Networks {
		all = append(all,
			in(chainGuard).from(n.Bridge).daddr(loopback4()).drop(),
			in(chainGuard).from(n.Bridge).saddr(loopback4()).drop(),
			// The way back to a pod's own bridge is not shorter: without a redirect it is not tried.
			in(chainQuiet).to(n.Bridge).redirect4().drop(),
			in(chainQuiet).to(n.Bridge).redirect6().drop(),
		)
	}
	all = append(all,
		in(chainPrerouting).local().jump(chainPublish),
		in(chainOutput).daddr(netip.PrefixFrom(netip.IPv6Loopback(), 128)).leave(),
		in(chainOutput).local().jump(chainPublish),
		in(chainPublish).dnat4(map4, true), in(chainPublish).dnat4(map4Any, false),
		in(chainPublish).dnat6(map6, true), in(chainPublish).dnat6(map6Any, false),
	)
	for _, n := range s.Networks {
		for _, subnet := range n.Subnets {
			if !n.NoMasquerade && !n.Internal {
				all = append(all, in(chainPostrouting).notTo(n.Bridge).saddr(subnet).masquerade())
			}
			all = append(all,
				// A pod that talks to a pod of its bridge by a port of the host: the answer must come back this way.
				in(chainPostrouting).to(n.Bridge).saddr(subnet).translated().masquerade(),
			)
		}
		all = append(all, in(chainPostrouting).to(n.Bridge).saddr(loopback4()).masquerade())
	}
	return append(all, s.separation()...)
}

// separation is what keeps networks apart. The answers of a connection to a published port are as free as its questions:
// the mark is the connection's.
func (s State) separation() []rule {
	if len(s.Networks) < 2 && !slices.ContainsFunc(s.Networks, func(n Network) bool { return n.Internal || n.Isolated }) {
		return nil
	}
	var first, then, apart []rule
	for _, n := range s.Networks {
		if n.Internal {
			first = append(first, in(chainForward).from(n.Bridge).notTo(n.Bridge).drop(), in(chainForward).notFrom(n.Bridge).to(n.Bridge).drop())
		}
		if n.Isolated {
			then = append(then, in(chainForward).from(n.Bridge).to(n.Bridge).drop())
		}
		then = append(then, in(chainForward).from(n.Bridge).notTo(n.Bridge).jump(chainApart))
		apart = append(apart, in(chainApart).to(n.Bridge).drop())
	}
	return slices.Concat(first, []rule{in(chainForward).translated().leave()}, then, apart)
}

func loopback4() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

// Text is the table as nft -f reads it.
func (s State) Text(table string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", table)
	sorted := slices.SortedFunc(slices.Values(s.Forwards), func(a, b Forward) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Host.Compare(b.Host))
	})
	for _, m := range mapTypes() {
		fmt.Fprintf(&b, "\tmap %s {\n\t\ttype %s\n", m[0], m[1])
		var elements []string
		for _, f := range sorted {
			if mapOf(f) == m[0] {
				elements = append(elements, elementText(f))
			}
		}
		if len(elements) > 0 {
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(elements, ",\n\t\t\t     "))
		}
		b.WriteString("\t}\n")
	}
	rules := s.rules()
	for _, c := range chains() {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != "" {
			fmt.Fprintf(&b, "\t\t%s\n", c.hook)
		}
		for _, r := range rules {
			if r.chain == c.name {
				fmt.Fprintf(&b, "\t\t%s\n", strings.Join(r.text, " "))
			}
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func elementText(f Forward) string {
	key := f.Protocol
	if !f.Host.Addr().IsUnspecified() {
		key += " . " + f.Host.Addr().String()
	}
	return fmt.Sprintf("%s . %d : %s . %d", key, f.Host.Port(), f.To.Addr(), f.To.Port())
}
