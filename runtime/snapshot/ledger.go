package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
)

// Ledger is the part of a snapshotter that does not depend on how a root filesystem is put together: which snapshots
// there are, and what in the backing belongs to which. The numbers that it gives to what it has made count up, and are
// not used again while the daemon runs.
//
// Of a snapshot that is not committed, the record may be lost in a power cut, or come back after its removal: what has
// but one of record and backing is cleared away by Cleanup.
type Ledger struct {
	backing Backing
	records Records
	log     *slog.Logger
	next    atomic.Uint64

	// refs is held for reading while a reference to a committed snapshot is made, and for writing while it is decided
	// that there is none.
	refs sync.RWMutex
	mu   sync.Mutex
	busy map[uint64]struct{} // what is being made or deleted
}

// OpenLedger opens the ledger of a backing and clears away what a crash has left. Numbers go on after last and after
// those in the records.
func OpenLedger(ctx context.Context, b Backing, last uint64, records Records, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{backing: b, records: records, log: log, busy: map[uint64]struct{}{}}
	entries, err := l.records.List("")
	if err != nil && len(entries) == 0 {
		return nil, fmt.Errorf("records of snapshots: %w", err)
	}
	for _, e := range entries {
		last = max(last, e.Value.Dir)
	}
	l.next.Store(last)
	freed, err := l.Cleanup(ctx)
	if err != nil {
		log.WarnContext(ctx, "leftovers of snapshots could not all be removed", "in", b, "error", err)
	}
	if freed > 0 {
		log.InfoContext(ctx, "removed leftovers of snapshots", "in", b, "count", freed)
	}
	return l, nil
}

func (l *Ledger) begin(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[n] = struct{}{}
}

func (l *Ledger) end(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, n)
}

func (l *Ledger) isBusy(n uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, busy := l.busy[n]
	return busy
}

// Temporary gives do a number for something in the backing that has no record. When do has ended, Cleanup may delete it.
func (l *Ledger) Temporary(do func(n uint64) error) error {
	n := l.next.Add(1)
	l.begin(n)
	defer l.end(n)
	return do(n)
}

// busyNow tells of a directory whether it is being made or deleted at the time of this call, not at that of the question.
func (l *Ledger) busyNow() func(n uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := maps.Clone(l.busy)
	return func(n uint64) bool {
		_, yes := busy[n]
		return yes
	}
}

// Fill makes what belongs to a new snapshot, whose record is r, in the place that the backing has named.
type Fill func(at string, r Record, chain []Record) error

// New makes a snapshot. Without fill nothing but the record belongs to it. The order: record, filled in a place that does
// not count, which then counts.
func (l *Ledger) New(ctx context.Context, key Key, kind Kind, parent string, opts Options, fill Fill) (Record, []Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, nil, err
	}
	if key.Namespace == "" || key.Name == "" {
		return Record{}, nil, fmt.Errorf("snapshot %q: namespace and name must not be empty: %w", key, errdefs.ErrInvalidArgument)
	}
	if (len(opts.UIDMap) == 0) != (len(opts.GIDMap) == 0) {
		return Record{}, nil, fmt.Errorf("snapshot %s: maps of uids and of gids go together: %w", key, errdefs.ErrInvalidArgument)
	}
	now := time.Now().UTC()
	r := Record{Kind: kind, Parent: parent, Labels: opts.Labels, CreatedAt: now, UpdatedAt: now, UIDMap: opts.UIDMap, GIDMap: opts.GIDMap, Volatile: opts.Volatile}
	if fill != nil {
		r.Dir = l.next.Add(1)
		l.begin(r.Dir)
		defer l.end(r.Dir)
	}
	chain, err := l.announce(key, r)
	if err != nil || fill == nil {
		return r, chain, err
	}
	if err := l.fill(ctx, r, func(at string) error { return fill(at, r, chain) }); err != nil {
		return r, nil, errors.Join(fmt.Errorf("snapshot %s: %w", key, err), l.undo(ctx, key, r))
	}
	return r, chain, nil
}

// undo takes back what could not be made. Where the backing does not let go of it, the record stays: it is for Remove.
func (l *Ledger) undo(ctx context.Context, key Key, r Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := l.backing.Delete(ctx, r); err != nil {
		return err
	}
	return l.records.Delete(key.Namespace, key.Name)
}

const undoTimeout = 30 * time.Second

// announce writes the record of a new snapshot while its parent cannot go away.
func (l *Ledger) announce(key Key, r Record) ([]Record, error) {
	l.refs.RLock()
	defer l.refs.RUnlock()
	chain, err := l.parents(key.Namespace, r.Parent)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", key, err)
	}
	if err := l.records.CreateSoon(key.Namespace, key.Name, r); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", key, err)
	}
	return chain, nil
}

func (l *Ledger) fill(ctx context.Context, r Record, do func(at string) error) error {
	if err := failpoint.Hit("snapshot-recorded"); err != nil {
		return err
	}
	return l.backing.Make(ctx, r, func(at string) error {
		if err := do(at); err != nil {
			return err
		}
		return failpoint.Hit("snapshot-filled")
	})
}

// parents are the committed snapshots from the named one down, the topmost first; none for "".
func (l *Ledger) parents(ns, parent string) ([]Record, error) {
	var chain []Record
	for name := parent; name != ""; {
		r, err := l.records.Get(ns, name)
		if err != nil {
			return nil, fmt.Errorf("parent %s: %w", name, err)
		}
		if r.Kind != Committed {
			return nil, fmt.Errorf("parent %s is %s, only a committed snapshot can be a parent: %w", name, r.Kind, errdefs.ErrInvalidArgument)
		}
		if l.isBusy(r.Dir) {
			return nil, fmt.Errorf("parent %s is being removed: %w", name, errdefs.ErrNotFound)
		}
		if len(chain) >= maxChain {
			return nil, fmt.Errorf("parent %s: more than %d layers, or a circle: %w", parent, maxChain, errdefs.ErrFailedPrecondition)
		}
		chain = append(chain, r)
		name = r.Parent
	}
	return chain, nil
}

// maxChain is how many layers overlayfs stacks (OVL_MAX_STACK).
const maxChain = 500

// Get is a snapshot's record and those of its parents, the topmost first.
func (l *Ledger) Get(key Key) (Record, []Record, error) {
	r, err := l.records.Get(key.Namespace, key.Name)
	if err != nil {
		return r, nil, fmt.Errorf("snapshot %s: %w", key, err)
	}
	chain, err := l.parents(key.Namespace, r.Parent)
	if err != nil {
		return r, nil, fmt.Errorf("snapshot %s: %w", key, err)
	}
	return r, chain, nil
}

// Mountable is Get, for one that is mounted: ErrInvalidArgument for a committed one.
func (l *Ledger) Mountable(key Key) (Record, []Record, error) {
	r, chain, err := l.Get(key)
	if err == nil && r.Kind == Committed {
		err = fmt.Errorf("snapshot %s is committed, it is not mounted itself: make a view of it: %w", key, errdefs.ErrInvalidArgument)
	}
	return r, chain, err
}

// Comparable is Get, for one that can have changed something: ErrInvalidArgument for a view.
func (l *Ledger) Comparable(key Key) (Record, []Record, error) {
	r, chain, err := l.Get(key)
	if err == nil && r.Kind == View {
		err = fmt.Errorf("diff of snapshot %s: a view changes nothing: %w", key, errdefs.ErrInvalidArgument)
	}
	return r, chain, err
}

// Chain is what a snapshot on the parent lies on, the topmost first.
func (l *Ledger) Chain(ns, parent string) ([]Record, error) { return l.parents(ns, parent) }

// Commit renames an active snapshot and makes it committed. change is the last thing done to it before, and may change what
// the record says of the backing; parent is what it will lie on, and has to be a committed snapshot.
func (l *Ledger) Commit(ctx context.Context, ns, name, active string, labels map[string]string, parent func(r Record) string, change func(r *Record, chain []Record) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key := Key{ns, active}
	if name == "" {
		return fmt.Errorf("commit snapshot %s: no name to commit as: %w", key, errdefs.ErrInvalidArgument)
	}
	l.refs.RLock()
	defer l.refs.RUnlock()
	r, err := l.records.Get(ns, active)
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	if r.Kind != Active {
		return fmt.Errorf("commit snapshot %s: it is %s, not active: %w", key, r.Kind, errdefs.ErrInvalidArgument)
	}
	if l.isBusy(r.Dir) {
		return fmt.Errorf("commit snapshot %s: it is being made or removed: %w", key, errdefs.ErrUnavailable)
	}
	on := parent(r)
	chain, err := l.parents(ns, on)
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	if err := change(&r, chain); err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	if err := failpoint.Hit("snapshot-committing"); err != nil {
		return err
	}
	err = l.records.Move(ns, active, name, func(to *Record) error {
		to.Kind, to.Parent, to.Labels, to.UpdatedAt, to.Volatile = Committed, on, labels, time.Now().UTC(), false
		to.Backend, to.Usage = r.Backend, r.Usage
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit snapshot %s as %s: %w", key, name, err)
	}
	return nil
}
