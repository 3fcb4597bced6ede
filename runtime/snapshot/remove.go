package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/store"
)

// Remove is Snapshotter.Remove: what belongs to the snapshot is doomed, so that it is not taken for whole any more, then
// deleted, then the record goes. A crash in between leaves a record of nothing, and Cleanup goes on from there.
func (l *Ledger) Remove(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, last, err := l.doom(ctx, key)
	if err != nil {
		return err
	}
	if last {
		defer l.end(r.Dir)
		if err := failpoint.Hit("snapshot-doomed"); err != nil {
			return err
		}
		if err := l.backing.Delete(ctx, r); err != nil {
			return fmt.Errorf("remove snapshot %s: %w", key, err)
		}
		if err := failpoint.Hit("snapshot-emptied"); err != nil {
			return err
		}
	}
	forget := l.records.DeleteSoon
	if r.Kind == Committed {
		forget = l.records.Delete // if it came back, and with it another that lay on it, neither could be cleared away
	}
	if err := forget(key.Namespace, key.Name); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

// doom decides that a snapshot goes, and from then on nobody can refer to its files. last: nobody else does.
func (l *Ledger) doom(ctx context.Context, key Key) (r Record, last bool, err error) {
	l.refs.Lock()
	defer l.refs.Unlock()
	r, err = l.records.Get(key.Namespace, key.Name)
	if err != nil {
		return r, false, fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	if l.isBusy(r.Dir) {
		return r, false, fmt.Errorf("remove snapshot %s: it is being made or removed: %w", key, errdefs.ErrUnavailable)
	}
	last = r.Dir != 0
	if r.Kind == Committed {
		entries, err := l.records.List("")
		if err != nil {
			return r, false, fmt.Errorf("remove snapshot %s: it is not known who refers to it: %w", key, err)
		}
		for _, e := range entries {
			other := Key{e.Namespace, e.Key}
			if e.Namespace == key.Namespace && e.Value.Parent == key.Name {
				return r, false, fmt.Errorf("remove snapshot %s: it is the parent of %s, remove that first: %w", key, e.Key, errdefs.ErrFailedPrecondition)
			}
			if other != key && e.Value.shares(r) {
				last = false
			}
		}
	}
	if !last {
		if r.Dir != 0 {
			// The record alone goes; under the lock, so that of two that share a directory one is the last.
			err = l.records.Delete(key.Namespace, key.Name)
		}
		return r, false, err
	}
	l.begin(r.Dir)
	if err := l.backing.Doom(ctx, r); err != nil {
		l.end(r.Dir)
		return r, false, fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return r, true, nil
}

// shares: both records stand for the same files.
func (r Record) shares(o Record) bool {
	return r.Dir == o.Dir || r.Backend != "" && r.Backend == o.Backend
}

// leftovers is what Cleanup has found to do.
type leftovers struct {
	held    []Held // to delete
	records []Key  // to delete: what they announced was never finished, or its removal was not
	lost    []Key  // records of which nothing is there though others lie on them
}

// findLeftovers compares the backing with the records. Both lists are of one moment at which nothing was being made but
// busy.
func findLeftovers(all []Held, entries []store.Entry[Record], busy func(uint64) bool) leftovers {
	var out leftovers
	wanted, named := map[uint64]bool{}, map[string]bool{}
	whole := map[uint64]bool{}
	wholeNamed := map[string]bool{}
	parents := map[Key]bool{}
	for _, e := range entries {
		wanted[e.Value.Dir] = true
		named[e.Value.Backend] = true
		parents[Key{e.Namespace, e.Value.Parent}] = true
	}
	for _, h := range all {
		switch {
		case busy(h.Dir):
		case h.Backend != "" && named[h.Backend]:
			wholeNamed[h.Backend] = true
		case h.Backend == "" && h.Whole && wanted[h.Dir]:
			whole[h.Dir] = true
		default:
			out.held = append(out.held, h)
		}
	}
	for _, e := range entries {
		key, r := Key{e.Namespace, e.Key}, e.Value
		switch {
		case r.Dir == 0, whole[r.Dir], r.Backend != "" && wholeNamed[r.Backend], busy(r.Dir):
		case parents[key]:
			out.lost = append(out.lost, key)
		default:
			out.records = append(out.records, key)
		}
	}
	slices.SortFunc(out.held, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.Place, b.Place))
	})
	return out
}

// Cleanup is Snapshotter.Cleanup.
func (l *Ledger) Cleanup(ctx context.Context) (freed int, err error) {
	found, err := l.look(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, h := range slices.Backward(found.held) { // children are younger than their parents
		if err := ctx.Err(); err != nil {
			return freed, errors.Join(append(errs, err)...)
		}
		if err := l.backing.Discard(ctx, h); err != nil {
			errs = append(errs, fmt.Errorf("leftover of a snapshot: %w", err))
			continue
		}
		freed++
	}
	for _, key := range found.lost {
		errs = append(errs, fmt.Errorf("snapshot %s: its files are gone and others lie on it: %w", key, errdefs.ErrDataLoss))
	}
	return freed + len(found.records), errors.Join(errs...)
}

// look finds the leftovers, deletes the records among them, and gives what nobody uses, all while nothing new can refer to
// it.
func (l *Ledger) look(ctx context.Context) (leftovers, error) {
	l.refs.Lock()
	defer l.refs.Unlock()
	busy := l.busyNow() // before the list: what is finished in between would have a record and not be in it
	all, err := l.backing.List(ctx)
	if err != nil {
		return leftovers{}, err
	}
	// Without a list that is complete, the files of an unreadable record would be taken for a leftover.
	entries, err := l.records.List("")
	if err != nil {
		return leftovers{}, fmt.Errorf("records of snapshots, without which nothing is removed: %w", err)
	}
	found := findLeftovers(all, entries, busy)
	for _, key := range found.records {
		if err := l.records.Delete(key.Namespace, key.Name); err != nil {
			return leftovers{}, err
		}
	}
	return found, nil
}
