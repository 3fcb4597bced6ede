package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Info is Snapshotter.Info.
func (l *Ledger) Info(_ context.Context, key Key) (Info, error) {
	r, err := l.records.Get(key.Namespace, key.Name)
	if err != nil {
		return Info{}, fmt.Errorf("snapshot %s: %w", key, err)
	}
	return r.info(key), nil
}

// List is Snapshotter.List.
func (l *Ledger) List(_ context.Context, ns string) ([]Info, error) {
	entries, err := l.records.List(ns)
	infos := make([]Info, len(entries))
	for i, e := range entries {
		infos[i] = e.Value.info(Key{e.Namespace, e.Key})
	}
	return infos, err
}

// SetLabels is Snapshotter.SetLabels.
func (l *Ledger) SetLabels(_ context.Context, key Key, labels map[string]string, replace bool) (Info, error) {
	r, err := l.records.Update(key.Namespace, key.Name, func(r *Record) error {
		if replace || r.Labels == nil {
			r.Labels = map[string]string{}
		}
		maps.Copy(r.Labels, labels)
		maps.DeleteFunc(r.Labels, func(_, value string) bool { return value == "" })
		r.UpdatedAt = time.Now().UTC()
		return nil
	})
	if err != nil {
		return Info{}, fmt.Errorf("labels of snapshot %s: %w", key, err)
	}
	return r.info(key), nil
}

// Counted is Snapshotter.Usage: what count says of a snapshot that has something of its own, kept for a committed one.
func (l *Ledger) Counted(key Key, count func(r Record) (Usage, error)) (Usage, error) {
	r, err := l.records.Get(key.Namespace, key.Name)
	if err != nil {
		return Usage{}, fmt.Errorf("snapshot %s: %w", key, err)
	}
	if r.Usage != nil || r.Dir == 0 {
		if r.Usage == nil {
			return Usage{}, nil
		}
		return *r.Usage, nil
	}
	u, err := count(r)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of snapshot %s: %w", key, err)
	}
	if r.Kind == Committed {
		_, err = l.records.Update(key.Namespace, key.Name, func(r *Record) error { r.Usage = &u; return nil })
		if errors.Is(err, errdefs.ErrNotFound) {
			err = nil // removed meanwhile
		}
	}
	return u, err
}

// Count is what a tree takes: every inode once. Files that vanish meanwhile are not counted.
func Count(ctx context.Context, root string) (Usage, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]struct{}{}
	var u Usage
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path != root {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if stat.Nlink > 1 && !d.IsDir() {
			id := inode{stat.Dev, stat.Ino}
			if _, again := seen[id]; again {
				return nil
			}
			seen[id] = struct{}{}
		}
		u.Size += stat.Blocks * 512 // st_blocks counts 512 bytes, whatever the block size
		u.Inodes++
		return nil
	})
	return u, err
}

// Adopt is Snapshotter.Adopt. The records are made from the lowest layer up, so that each has its parent.
func (l *Ledger) Adopt(ctx context.Context, ns, chainID string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	l.refs.RLock()
	defer l.refs.RUnlock()
	if r, err := l.records.Get(ns, chainID); err == nil {
		return r.Kind == Committed && !l.isBusy(r.Dir), nil
	} else if !errors.Is(err, errdefs.ErrNotFound) {
		return false, fmt.Errorf("adopt layer %s: %w", chainID, err)
	}
	missing, err := l.foreign(ns, chainID)
	if err != nil || len(missing) == 0 {
		return false, err
	}
	now := time.Now().UTC()
	for _, layer := range slices.Backward(missing) {
		r := layer.record
		r.Labels, r.CreatedAt, r.UpdatedAt = inherited(r.Labels), now, now
		if err := l.records.Create(ns, layer.name, r); err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
			return false, fmt.Errorf("adopt layer %s: %w", layer.name, err)
		}
	}
	return true, nil
}

// inherited are the labels that tell of the files, which are the same in every namespace.
func inherited(labels map[string]string) map[string]string {
	if v, ok := labels[LazyLabel]; ok {
		return map[string]string{LazyLabel: v}
	}
	return nil
}

type named struct {
	name   string
	record Record
}

// foreign finds the layers, from chainID down, that ns lacks and another namespace has; none if it has not all of them.
func (l *Ledger) foreign(ns, chainID string) ([]named, error) {
	entries, err := l.records.List("")
	if err != nil {
		return nil, fmt.Errorf("adopt layer %s: %w", chainID, err)
	}
	own, others := map[string]bool{}, map[string]Record{}
	for _, e := range entries {
		switch {
		case e.Value.Kind != Committed || l.isBusy(e.Value.Dir):
		case e.Namespace == ns:
			own[e.Key] = true
		default:
			others[e.Key] = e.Value
		}
	}
	var missing []named
	for name := chainID; name != "" && !own[name]; {
		r, ok := others[name]
		if !ok || len(missing) >= maxChain {
			return nil, nil
		}
		missing = append(missing, named{name, r})
		name = r.Parent
	}
	return missing, nil
}
