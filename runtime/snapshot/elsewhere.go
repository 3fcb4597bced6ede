package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/store"
)

// Elsewhere are the committed layers of another daemon, which are only read.
type Elsewhere struct {
	root   string
	layers map[string]Record
}

// NewElsewhere makes them of the records of the other daemon's snapshotter, and of the directory that this has.
func NewElsewhere(root string, records []store.Entry[Record]) Elsewhere {
	e := Elsewhere{root, map[string]Record{}}
	for _, r := range records {
		if r.Value.Kind == Committed && r.Value.Dir != 0 && r.Value.Backend == "" {
			e.layers[r.Key] = r.Value
		}
	}
	return e
}

// Borrow makes a layer of another daemon known in a namespace, with what is below it, and says whether it could. The files
// stay where they are.
func (l *Ledger) Borrow(ns, chainID string, from Elsewhere) (bool, error) {
	l.refs.RLock()
	defer l.refs.RUnlock()
	var missing []named
	for name := chainID; name != ""; {
		if r, err := l.records.Get(ns, name); err == nil && r.Kind == Committed && !l.isBusy(r.Dir) {
			break
		}
		r, ok := from.layers[name]
		if !ok || len(missing) >= maxChain {
			return false, nil
		}
		at := filepath.Join(from.root, "snapshots", strconv.FormatUint(r.Dir, 10))
		if _, err := os.Stat(at); err != nil {
			return false, nil // it can be fetched
		}
		missing = append(missing, named{name, Record{Kind: Committed, Parent: r.Parent, Elsewhere: at, Usage: r.Usage}})
		name = r.Parent
	}
	now := time.Now().UTC()
	for _, layer := range slices.Backward(missing) {
		layer.record.CreatedAt, layer.record.UpdatedAt = now, now
		if err := l.records.Create(ns, layer.name, layer.record); err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
			return false, fmt.Errorf("borrow layer %s: %w", layer.name, err)
		}
	}
	return true, nil
}

// StillThere tells what is wrong with a layer of another daemon whose files are gone, as unavailable; nil for others.
func (r Record) StillThere() error {
	if r.Elsewhere == "" {
		return nil
	}
	if _, err := os.Stat(r.Elsewhere); err != nil {
		return fmt.Errorf("layer %s is in an additional store that is not there: mount that again: %w", r.Elsewhere, errdefs.ErrUnavailable)
	}
	return nil
}
