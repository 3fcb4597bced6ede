package engine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// SetPodCIDR says which subnets new pods get their addresses from, like 10.1.2.0/24; at most one of each family.
func (e *Engine) SetPodCIDR(ctx context.Context, cidrs []string) error {
	prefixes, err := parseCIDRs(cidrs)
	if err != nil {
		return err
	}
	return e.Network.SetPodCIDR(ctx, prefixes)
}

func parseCIDRs(cidrs []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(cidrs))
	families := map[bool]bool{}
	for _, text := range cidrs {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("subnet of pods %q: write it like 10.1.2.0/24 or fd00:1::/64: %w", text, errdefs.ErrInvalidArgument)
		case families[p.Addr().Is4()]:
			return nil, fmt.Errorf("subnet of pods %s: another one of its family is given: give one of each: %w", text, errdefs.ErrInvalidArgument)
		}
		families[p.Addr().Is4()] = true
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// NetworkStatus says whether pods can have a network of their own, and if not, why: a word for programs and a sentence
// for people.
func (e *Engine) NetworkStatus(ctx context.Context) (ready bool, reason, message string) {
	s := e.Network.Status(ctx)
	return s.Ready, s.Reason, s.Message
}
