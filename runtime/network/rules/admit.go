package rules

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// Docker, and many an administrator, sets the policy of the chain FORWARD of iptables to DROP. A table of ours cannot
// overrule that: in nftables a packet is through when every table lets it through. So where that chain is one of
// nftables (iptables-nft, the default of the distributions since 2019), two rules per bridge are put in front, into
// Docker's chain for the rules of others if there is one. They carry the daemon's name as their comment, and are written
// exactly as `iptables -I FORWARD -i BRIDGE -j ACCEPT` would. Rules of the legacy iptables cannot be written over
// nftables' netlink; there the administrator has to allow the bridge.
const (
	foreignTable = "filter"
	forwardChain = "FORWARD"
	dockerChain  = "DOCKER-USER"
)

func foreignFamilies() []nftables.TableFamily {
	return []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}
}

// Admit lets traffic of the bridges through other people's FORWARD chains whose policy is to drop. It may be repeated.
func (t *Table) Admit(bridges []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, family := range foreignFamilies() {
		chains, err := t.foreign(family)
		if err != nil {
			return err
		}
		at := admitInto(chains)
		if at == nil {
			continue
		}
		mine, err := t.mine(at)
		if err != nil {
			return err
		}
		if slices.Equal(admitted(mine), slices.Sorted(slices.Values(bridges))) {
			continue
		}
		for _, r := range mine {
			if err := t.conn.DelRule(r); err != nil {
				return fmt.Errorf("nftables: chain %s: %w", at.Name, err)
			}
		}
		for _, bridge := range bridges {
			for _, key := range []expr.MetaKey{expr.MetaKeyOIFNAME, expr.MetaKeyIIFNAME} {
				t.conn.InsertRule(&nftables.Rule{Table: at.Table, Chain: at, UserData: t.comment(), Exprs: []expr.Any{
					&expr.Meta{Key: key, Register: 1}, equal(append([]byte(bridge), 0)), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
				}})
			}
		}
		if err := t.conn.Flush(); err != nil {
			return fmt.Errorf("nftables: let the pods' traffic through chain %s: %w", at.Name, err)
		}
	}
	return nil
}

// Withdraw takes the rules of Admit away.
func (t *Table) Withdraw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, family := range foreignFamilies() {
		chains, err := t.foreign(family)
		if err != nil {
			return err
		}
		for _, c := range chains {
			mine, err := t.mine(c)
			if err != nil {
				return err
			}
			for _, r := range mine {
				if err := t.conn.DelRule(r); err != nil {
					return fmt.Errorf("nftables: chain %s: %w", c.Name, err)
				}
			}
		}
		if err := t.conn.Flush(); err != nil {
			return fmt.Errorf("nftables: take the rules out of the table %s: %w", foreignTable, err)
		}
	}
	return nil
}

// foreign lists the two chains of the table filter, as far as they exist.
func (t *Table) foreign(family nftables.TableFamily) ([]*nftables.Chain, error) {
	all, err := t.conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("nftables: list the chains: %w", err)
	}
	return slices.DeleteFunc(all, func(c *nftables.Chain) bool {
		return c.Table.Name != foreignTable || c.Name != forwardChain && c.Name != dockerChain
	}), nil
}

// admitInto chooses the chain, or nil when nothing is dropped.
func admitInto(chains []*nftables.Chain) *nftables.Chain {
	var forward, docker *nftables.Chain
	for _, c := range chains {
		switch {
		case c.Name == dockerChain:
			docker = c
		case c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop:
			forward = c
		}
	}
	if forward != nil && docker != nil {
		return docker
	}
	return forward
}

// admitted are the bridges that rules of Admit let through.
func admitted(mine []*nftables.Rule) []string {
	counts := map[string]int{}
	for _, r := range mine {
		for _, e := range r.Exprs {
			if name, ok := e.(*expr.Cmp); ok {
				counts[string(bytes.TrimRight(name.Data, "\x00"))]++
			}
		}
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n != 2 })
	return slices.Sorted(maps.Keys(counts))
}

func (t *Table) comment() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, t.name)
}

func (t *Table) mine(c *nftables.Chain) ([]*nftables.Rule, error) {
	all, err := t.conn.GetRules(c.Table, c)
	if err != nil {
		return nil, fmt.Errorf("nftables: list the rules of %s: %w", c.Name, err)
	}
	return slices.DeleteFunc(all, func(r *nftables.Rule) bool {
		text, ok := userdata.GetString(r.UserData, userdata.TypeComment)
		return !ok || text != t.name
	}), nil
}
