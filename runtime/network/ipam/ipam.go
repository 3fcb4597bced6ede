// Package ipam hands out the addresses of a subnet. It keeps them in memory only: which are in use is known from the
// attachments in the pods' records, and reserved again after a restart.
package ipam

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/containerd/errdefs"
)

// Subnet is the addresses of one subnet and who holds them. It is not for several goroutines at once.
type Subnet struct {
	prefix      netip.Prefix
	gateway     netip.Addr
	first, last netip.Addr // the bounds of what is handed out by choice
	next        netip.Addr
	holders     map[netip.Addr]string
}

// NewSubnet makes the subnet of the prefix; the gateway is its first address. It needs room for one more.
func NewSubnet(prefix netip.Prefix) (*Subnet, error) {
	return New(prefix, netip.Addr{}, netip.Prefix{})
}

// New makes the subnet of the prefix. The gateway is one of its addresses; not valid: the first. Addresses are chosen from
// the range, which lies in the prefix; not valid: all. ErrInvalidArgument says what does not fit.
func New(prefix netip.Prefix, gateway netip.Addr, within netip.Prefix) (*Subnet, error) {
	if !prefix.IsValid() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("subnet %q: not an address and a length, as 10.88.0.0/16: %w", prefix, errdefs.ErrInvalidArgument)
	}
	prefix = prefix.Masked()
	if prefix.Addr().BitLen()-prefix.Bits() < 2 {
		return nil, fmt.Errorf("subnet %s: too small for a gateway and a pod: %w", prefix, errdefs.ErrInvalidArgument)
	}
	s := &Subnet{prefix: prefix, gateway: gateway, holders: map[netip.Addr]string{}}
	if !gateway.IsValid() {
		s.gateway = prefix.Addr().Next()
	}
	if !s.usable(s.gateway) {
		return nil, fmt.Errorf("gateway %s: not an address for use in the subnet %s: %w", gateway, prefix, errdefs.ErrInvalidArgument)
	}
	if !within.IsValid() {
		within = prefix
	}
	within = within.Masked()
	if !prefix.Overlaps(within) || within.Bits() < prefix.Bits() {
		return nil, fmt.Errorf("range %s: not in the subnet %s: %w", within, prefix, errdefs.ErrInvalidArgument)
	}
	s.first, s.last = within.Addr(), lastAddr(within)
	if !s.usable(s.first) {
		s.first = s.first.Next()
	}
	if !s.usable(s.last) {
		s.last = s.last.Prev()
	}
	if s.first == s.last && s.first == s.gateway {
		return nil, fmt.Errorf("range %s: the gateway is its only address: %w", within, errdefs.ErrInvalidArgument)
	}
	s.next = s.first
	return s, nil
}

// usable: the first address of a subnet names it (for IPv6, its routers: RFC 4291, 2.6.1), and the last one of IPv4 is
// for broadcasts.
func (s *Subnet) usable(addr netip.Addr) bool {
	return s.prefix.Contains(addr) && addr != s.prefix.Addr() && (addr.Is6() || addr != lastAddr(s.prefix))
}

// Prefix is the subnet, masked.
func (s *Subnet) Prefix() netip.Prefix { return s.prefix }

// Gateway is the host's address in the subnet.
func (s *Subnet) Gateway() netip.Addr { return s.gateway }

// Allocate takes the next free address after the last one that was taken, so that an address rests as long as possible
// before it is used again: neighbours may still know the interface that had it. ErrResourceExhausted: all are taken.
func (s *Subnet) Allocate(holder string) (netip.Addr, error) {
	for range len(s.holders) + 2 { // the gateway may be among them
		addr := s.next
		s.after(addr)
		if _, taken := s.holders[addr]; !taken && addr != s.gateway {
			s.holders[addr] = holder
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("subnet %s: all %d addresses are taken: remove pods, or use a larger subnet: %w", s.prefix, len(s.holders), errdefs.ErrResourceExhausted)
}

// Reserve takes one address. ErrAlreadyExists names who else has it; ErrInvalidArgument: it is not one for pods.
func (s *Subnet) Reserve(addr netip.Addr, holder string) error {
	if !s.usable(addr) || addr == s.gateway {
		return fmt.Errorf("address %s: not one for a pod in %s: %w", addr, s.prefix, errdefs.ErrInvalidArgument)
	}
	if other, taken := s.holders[addr]; taken && other != holder {
		return fmt.Errorf("address %s: taken by %s: %w", addr, other, errdefs.ErrAlreadyExists)
	}
	s.holders[addr] = holder
	if s.next.Compare(addr) <= 0 && addr.Compare(s.last) <= 0 {
		s.after(addr)
	}
	return nil
}

// after makes the address after this one the next.
func (s *Subnet) after(addr netip.Addr) {
	if s.next = addr.Next(); addr == s.last {
		s.next = s.first
	}
}

// Rename gives an address to another holder.
func (s *Subnet) Rename(addr netip.Addr, holder string) {
	if _, taken := s.holders[addr]; taken {
		s.holders[addr] = holder
	}
}

// Release frees all addresses of the holder.
func (s *Subnet) Release(holder string) {
	maps.DeleteFunc(s.holders, func(_ netip.Addr, h string) bool { return h == holder })
}

// ReleaseAddr frees one address, if the holder has it.
func (s *Subnet) ReleaseAddr(addr netip.Addr, holder string) {
	if s.holders[addr] == holder {
		delete(s.holders, addr)
	}
}

// Holders is who has which address; a copy.
func (s *Subnet) Holders() map[netip.Addr]string { return maps.Clone(s.holders) }

// Used is how many addresses are taken.
func (s *Subnet) Used() int { return len(s.holders) }

func lastAddr(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// Pick returns the first candidate that overlaps none of the prefixes in use; false when each does.
func Pick(candidates, inUse []netip.Prefix) (netip.Prefix, bool) {
next:
	for _, c := range candidates {
		for _, used := range inUse {
			// A default route is not a use.
			if used.Bits() > 0 && c.Overlaps(used) {
				continue next
			}
		}
		return c, true
	}
	return netip.Prefix{}, false
}
