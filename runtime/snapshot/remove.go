package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/store"
)

const (
	newSuffix      = ".new"
	removingSuffix = ".removing"
)

// parseDir takes a directory's name apart.
func parseDir(name string) (n uint64, suffix string, ok bool) {
	number, suffix := name, ""
	if i := strings.IndexByte(name, '.'); i >= 0 {
		number, suffix = name[:i], name[i:]
	}
	n, err := strconv.ParseUint(number, 10, 64)
	ok = err == nil && n > 0 && strconv.FormatUint(n, 10) == number && (suffix == "" || suffix == newSuffix || suffix == removingSuffix)
	return n, suffix, ok
}

// Remove is Snapshotter.Remove: the directory is renamed, so that it is not taken for whole any more, then deleted, then
// the record goes. A crash in between leaves a record without its directory, and Cleanup goes on from there.
func (l *Ledger) Remove(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, last, err := l.doom(key)
	if err != nil {
		return err
	}
	if last {
		defer l.end(r.Dir)
		if err := failpoint.Hit("snapshot-doomed"); err != nil {
			return err
		}
		if err := os.RemoveAll(l.Dir(r.Dir) + removingSuffix); err != nil {
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

// doom decides that a snapshot goes, and from then on nobody can refer to its directory. last: nobody else does.
func (l *Ledger) doom(key Key) (r Record, last bool, err error) {
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
			if other != key && e.Value.Dir == r.Dir {
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
	err = os.Rename(l.Dir(r.Dir), l.Dir(r.Dir)+removingSuffix)
	if errors.Is(err, os.ErrNotExist) {
		err = l.removeDir(r.Dir) // a removal that stopped half way
	}
	if err != nil {
		l.end(r.Dir)
		return r, false, fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return r, true, nil
}

// removeDir deletes a directory under whatever name it has.
func (l *Ledger) removeDir(n uint64) error {
	return errors.Join(os.RemoveAll(l.Dir(n)+removingSuffix), os.RemoveAll(l.Dir(n)+newSuffix), os.RemoveAll(l.Dir(n)))
}

// leftovers is what Cleanup has found to do.
type leftovers struct {
	dirs    []string // names to delete
	records []Key    // to delete: what they announced was never finished, or its removal was not
	lost    []Key    // records whose directory is gone though others lie on them
}

// findLeftovers compares directories with records. Both lists are of one moment at which nothing was being made but busy.
func findLeftovers(names []string, entries []store.Entry[Record], busy func(uint64) bool) leftovers {
	var out leftovers
	wanted, whole := map[uint64]bool{}, map[uint64]bool{}
	parents := map[Key]bool{}
	for _, e := range entries {
		wanted[e.Value.Dir] = true
		parents[Key{e.Namespace, e.Value.Parent}] = true
	}
	for _, name := range names {
		n, suffix, ok := parseDir(name)
		if !ok || busy(n) {
			continue
		}
		if suffix == "" && wanted[n] {
			whole[n] = true
			continue
		}
		out.dirs = append(out.dirs, name)
	}
	for _, e := range entries {
		key := Key{e.Namespace, e.Key}
		switch {
		case e.Value.Dir == 0, whole[e.Value.Dir], busy(e.Value.Dir):
		case parents[key]:
			out.lost = append(out.lost, key)
		default:
			out.records = append(out.records, key)
		}
	}
	slices.Sort(out.dirs)
	return out
}

// Cleanup is Snapshotter.Cleanup.
func (l *Ledger) Cleanup(ctx context.Context) (freed int, err error) {
	found, err := l.look()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range found.dirs {
		if err := ctx.Err(); err != nil {
			return freed, errors.Join(append(errs, err)...)
		}
		if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil {
			errs = append(errs, fmt.Errorf("leftover of a snapshot: %w", err))
			continue
		}
		freed++
	}
	for _, key := range found.lost {
		errs = append(errs, fmt.Errorf("snapshot %s: its directory is gone and others lie on it: %w", key, errdefs.ErrDataLoss))
	}
	return freed + len(found.records), errors.Join(errs...)
}

// look finds the leftovers, deletes the records among them, and gives the directories names that nobody uses, all while
// nothing new can refer to them.
func (l *Ledger) look() (leftovers, error) {
	l.refs.Lock()
	defer l.refs.Unlock()
	busy := l.busyNow() // before the names: what is finished in between would have a record and no directory among them
	names, err := l.names()
	if err != nil {
		return leftovers{}, err
	}
	// Without a list that is complete, the directory of an unreadable record would be taken for a leftover.
	entries, err := l.records.List("")
	if err != nil {
		return leftovers{}, fmt.Errorf("records of snapshots, without which nothing is removed: %w", err)
	}
	found := findLeftovers(names, entries, busy)
	for _, key := range found.records {
		if err := l.records.Delete(key.Namespace, key.Name); err != nil {
			return leftovers{}, err
		}
	}
	return found, nil
}
