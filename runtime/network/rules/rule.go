package rules

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is one rule, built from the left to the right: each word adds its text and its expressions, so that the two
// cannot say different things.
type rule struct {
	chain  string
	text   []string
	exprs  []expr.Any
	family byte // NFPROTO_IPV4 or NFPROTO_IPV6 once the rule is for one of them only
}

func in(chain string) rule { return rule{chain: chain} }

func (r rule) add(text string, exprs ...expr.Any) rule {
	if text != "" {
		r.text = append(r.text, text)
	}
	r.exprs = append(r.exprs, exprs...)
	return r
}

// only restricts the rule to a family. nft implies it in the first word that looks at a header of that family.
func (r rule) only(family byte) rule {
	if r.family == family {
		return r
	}
	r.family = family
	return r.add("", &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}))
}

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// interfaceName is compared with its terminating zeros, so that it matches the whole name.
func interfaceName(name string) []byte {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return data
}

func (r rule) from(link string) rule {
	return r.add(fmt.Sprintf("iifname %q", link), &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(interfaceName(link)))
}

func (r rule) to(link string) rule {
	return r.add(fmt.Sprintf("oifname %q", link), &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(interfaceName(link)))
}

func (r rule) notTo(link string) rule {
	return r.add(fmt.Sprintf("oifname != %q", link), &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: interfaceName(link)})
}

func (r rule) notFrom(link string) rule {
	return r.add(fmt.Sprintf("iifname != %q", link), &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: interfaceName(link)})
}

// The offsets of the addresses in the headers (RFC 791, RFC 8200).
func (r rule) saddr(p netip.Prefix) rule { return r.address("saddr", p, 12, 8) }
func (r rule) daddr(p netip.Prefix) rule { return r.address("daddr", p, 16, 24) }

func (r rule) address(word string, p netip.Prefix, offset4, offset6 uint32) rule {
	p = p.Masked()
	family, name, offset := byte(unix.NFPROTO_IPV4), "ip", offset4
	if p.Addr().Is6() {
		family, name, offset = unix.NFPROTO_IPV6, "ip6", offset6
	}
	size := p.Addr().BitLen() / 8
	r = r.only(family).add("", &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)})
	if p.IsSingleIP() {
		return r.add(fmt.Sprintf("%s %s %s", name, word, p.Addr()), equal(p.Addr().AsSlice()))
	}
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return r.add(fmt.Sprintf("%s %s %s", name, word, p),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)}, equal(p.Addr().AsSlice()))
}

// local matches packets to an address of the host.
func (r rule) local() rule {
	return r.add("fib daddr type local", &expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, equal(native(unix.RTN_LOCAL)))
}

// translated matches packets of connections whose destination was rewritten (IPS_DST_NAT of nf_conntrack_common.h).
func (r rule) translated() rule {
	return r.add("ct status dnat", &expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(1 << 5), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)})
}

// redirect4 and redirect6 match the routers' hint that there is a shorter way (RFC 792: 5; RFC 4861: 137).
func (r rule) redirect4() rule {
	return r.icmp("icmp type redirect", unix.NFPROTO_IPV4, unix.IPPROTO_ICMP, 5)
}

func (r rule) redirect6() rule {
	return r.icmp("icmpv6 type nd-redirect", unix.NFPROTO_IPV6, unix.IPPROTO_ICMPV6, 137)
}

func (r rule) icmp(text string, family, protocol, kind byte) rule {
	return r.only(family).add(text,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{protocol}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, equal([]byte{kind}))
}

// The registers of four bytes, which the parts of a concatenation lie in, overlap the first of sixteen bytes.
const register32 = unix.NFT_REG32_00

func (r rule) dnat4(m string, withAddress bool) rule {
	return r.dnat(m, withAddress, unix.NFPROTO_IPV4, "ip", 16, 4)
}

func (r rule) dnat6(m string, withAddress bool) rule {
	return r.dnat(m, withAddress, unix.NFPROTO_IPV6, "ip6", 24, 16)
}

// dnat rewrites the destination to what the map has for the packet. Both ports lie at the same place in TCP, UDP and SCTP.
func (r rule) dnat(m string, withAddress bool, family byte, name string, offset, size uint32) rule {
	key := "meta l4proto . "
	r = r.add("", &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register32})
	next := uint32(register32 + 1)
	if withAddress {
		key += name + " daddr . "
		r = r.add("", &expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
		next += size / 4
	}
	return r.add(fmt.Sprintf("meta nfproto %s dnat %s to %sth dport map @%s", familyName(family), name, key, m),
		&expr.Payload{DestRegister: next, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: register32, DestRegister: register32, IsDestRegSet: true, SetName: m},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: register32, RegProtoMin: register32 + size/4})
}

func familyName(family byte) string {
	if family == unix.NFPROTO_IPV6 {
		return "ipv6"
	}
	return "ipv4"
}

func (r rule) drop() rule       { return r.add("drop", &expr.Verdict{Kind: expr.VerdictDrop}) }
func (r rule) leave() rule      { return r.add("return", &expr.Verdict{Kind: expr.VerdictReturn}) }
func (r rule) masquerade() rule { return r.add("masquerade", &expr.Masq{}) }
func (r rule) jump(to string) rule {
	return r.add("jump "+to, &expr.Verdict{Kind: expr.VerdictJump, Chain: to})
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
