package rules

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Table writes states into the kernel. It is for several goroutines.
type Table struct {
	name string

	mu    sync.Mutex
	conn  *nftables.Conn
	state State // as the kernel should have it
}

// Open makes the handle of a table; nothing is written before Apply.
func Open(name string) (*Table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftables: open a netlink socket: %w", err)
	}
	return &Table{name: name, conn: conn}, nil
}

// Close leaves the table as it is.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conn.CloseLasting()
}

// Apply makes the table say what the state says and nothing else, in one transaction: at no moment is a rule missing
// that was there before and stays.
func (t *Table) Apply(s State) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.apply(s)
}

// Update changes the published ports: what is in remove goes, what is in add comes. A table that someone else has changed
// or deleted is written anew.
func (t *Table) Update(add, remove []Forward) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state
	s.Forwards = slices.DeleteFunc(slices.Clone(s.Forwards), func(f Forward) bool { return slices.Contains(remove, f) })
	s.Forwards = append(s.Forwards, add...)
	err := t.update(add, remove)
	if err == nil {
		t.state = s
		return nil
	}
	if again := t.apply(s); again != nil {
		return errors.Join(fmt.Errorf("nftables: publish ports in table %s: %w", t.name, err), again)
	}
	return nil
}

// Repair writes the table again if someone deleted it, as `nft flush ruleset` does; true when it was missing.
func (t *Table) Repair() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.state.Networks) == 0 {
		return false, nil
	}
	all, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("nftables: list the tables: %w", err)
	}
	if slices.ContainsFunc(all, func(o *nftables.Table) bool { return o.Name == t.name }) {
		return false, nil
	}
	return true, t.apply(t.state)
}

// Remove deletes the table. It may be repeated.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.handle()
	t.conn.AddTable(table) // one that is not there cannot be deleted
	t.conn.DelTable(table)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: delete table %s: %w", t.name, err)
	}
	t.state = State{}
	return nil
}

func (t *Table) handle() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

func (t *Table) apply(s State) error {
	table := t.handle()
	t.conn.AddTable(table)
	t.conn.DelTable(table)
	t.conn.AddTable(table)
	sets := t.sets()
	for _, set := range sets {
		if err := t.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: map %s: %w", set.Name, err)
		}
	}
	made := map[string]*nftables.Chain{}
	for _, c := range chains() {
		made[c.name] = t.conn.AddChain(c.kernel(table))
	}
	for _, r := range s.rules() {
		t.conn.AddRule(&nftables.Rule{Table: table, Chain: made[r.chain], Exprs: r.exprs})
	}
	if err := t.elements(sets, s.Forwards, t.conn.SetAddElements); err != nil {
		return err
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: write table %s: %w", t.name, err)
	}
	t.state = s
	return nil
}

func (t *Table) update(add, remove []Forward) error {
	sets := t.sets()
	if err := t.elements(sets, remove, t.conn.SetDeleteElements); err != nil {
		return err
	}
	if err := t.elements(sets, add, t.conn.SetAddElements); err != nil {
		return err
	}
	return t.conn.Flush()
}

// elementsPerMessage keeps the list of elements below the 64 KiB of a netlink attribute.
const elementsPerMessage = 256

func (t *Table) elements(sets []*nftables.Set, forwards []Forward, do func(*nftables.Set, []nftables.SetElement) error) error {
	for _, set := range sets {
		var all []nftables.SetElement
		for _, f := range forwards {
			if mapOf(f) == set.Name {
				all = append(all, nftables.SetElement{Key: keyOf(f), Val: valueOf(f)})
			}
		}
		for chunk := range slices.Chunk(all, elementsPerMessage) {
			if err := do(set, chunk); err != nil {
				return fmt.Errorf("nftables: elements of %s: %w", set.Name, err)
			}
		}
	}
	return nil
}

// sets are the maps. They get ids of our own, as the library counts in a variable that other tables share.
func (t *Table) sets() []*nftables.Set {
	table := t.handle()
	set := func(id uint32, name string, key, data nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: table, ID: id, Name: name, IsMap: true, KeyType: key, DataType: data}
	}
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	to4 := nftables.MustConcatSetType(nftables.TypeIPAddr, port)
	to6 := nftables.MustConcatSetType(nftables.TypeIP6Addr, port)
	return []*nftables.Set{
		set(1, map4, nftables.MustConcatSetType(proto, nftables.TypeIPAddr, port), to4),
		set(2, map4Any, nftables.MustConcatSetType(proto, port), to4),
		set(3, map6, nftables.MustConcatSetType(proto, nftables.TypeIP6Addr, port), to6),
		set(4, map6Any, nftables.MustConcatSetType(proto, port), to6),
	}
}

// keyOf and valueOf pad each part of a concatenation to four bytes.
func keyOf(f Forward) []byte {
	key := []byte{protocolNumber(f.Protocol), 0, 0, 0}
	if !f.Host.Addr().IsUnspecified() {
		key = append(key, f.Host.Addr().AsSlice()...)
	}
	return appendPort(key, f.Host.Port())
}

func valueOf(f Forward) []byte { return appendPort(f.To.Addr().AsSlice(), f.To.Port()) }

func appendPort(data []byte, port uint16) []byte {
	return append(data, byte(port>>8), byte(port), 0, 0)
}

func protocolNumber(name string) byte {
	switch name {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

func (c chain) kernel(table *nftables.Table) *nftables.Chain {
	k := &nftables.Chain{Name: c.name, Table: table}
	switch c.name {
	case chainGuard:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw
	case chainPrerouting:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest
	case chainOutput:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest
	case chainPostrouting:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource
	case chainQuiet:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter
	case chainForward:
		k.Type, k.Hooknum, k.Priority = nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter
	}
	return k
}
