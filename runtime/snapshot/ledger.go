package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
)

// Ledger is the part of a snapshotter that does not depend on how a root filesystem is put together: which snapshots
// there are, and which directory belongs to which.
//
//	root/snapshots/N           a directory, whole
//	root/snapshots/N.new       one being made
//	root/snapshots/N.removing  one being deleted
//
// N counts up and is not used again while the daemon runs.
//
// Of a snapshot that is not committed, the record may be lost in a power cut, or come back after its removal: what has
// but one of record and directory is cleared away by Cleanup.
type Ledger struct {
	dir     string
	records Records
	log     *slog.Logger
	next    atomic.Uint64

	// refs is held for reading while a reference to a committed snapshot is made, and for writing while it is decided
	// that there is none.
	refs sync.RWMutex
	mu   sync.Mutex
	busy map[uint64]struct{} // directories being made or deleted
}

// OpenLedger opens the directory, which it makes if need be, and clears away what a crash has left.
func OpenLedger(ctx context.Context, root string, records Records, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{dir: filepath.Join(root, "snapshots"), records: records, log: log, busy: map[uint64]struct{}{}}
	// Others must not read layers: they contain set-user-ID programs of images.
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	last, err := l.lastNumber()
	if err != nil {
		return nil, err
	}
	l.next.Store(last)
	freed, err := l.Cleanup(ctx)
	if err != nil {
		log.WarnContext(ctx, "leftovers of snapshots could not all be removed", "root", root, "error", err)
	}
	if freed > 0 {
		log.InfoContext(ctx, "removed leftovers of snapshots", "root", root, "count", freed)
	}
	return l, nil
}

func (l *Ledger) lastNumber() (uint64, error) {
	last := uint64(0)
	names, err := l.names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if n, _, ok := parseDir(name); ok {
			last = max(last, n)
		}
	}
	entries, err := l.records.List("")
	if err != nil && len(entries) == 0 {
		return 0, fmt.Errorf("records of snapshots: %w", err)
	}
	for _, e := range entries {
		last = max(last, e.Value.Dir)
	}
	return last, nil
}

func (l *Ledger) names() ([]string, error) {
	dir, err := os.Open(l.dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// Dir is the path of a directory by its number.
func (l *Ledger) Dir(n uint64) string { return filepath.Join(l.dir, strconv.FormatUint(n, 10)) }

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

// New makes a snapshot. fill puts into its directory, named dir, what it needs; without fill there is no directory. The
// order: record, directory under a provisional name, its final name.
func (l *Ledger) New(ctx context.Context, key Key, kind Kind, parent string, opts Options, fill func(dir string, chain []Record) error) (Record, []Record, error) {
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
	if err := l.fill(r.Dir, func(dir string) error { return fill(dir, chain) }); err != nil {
		undo := errors.Join(l.removeDir(r.Dir), l.records.Delete(key.Namespace, key.Name))
		return r, nil, errors.Join(fmt.Errorf("snapshot %s: %w", key, err), undo)
	}
	return r, chain, nil
}

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

func (l *Ledger) fill(n uint64, do func(dir string) error) error {
	if err := failpoint.Hit("snapshot-recorded"); err != nil {
		return err
	}
	final := l.Dir(n)
	provisional := final + newSuffix
	if err := os.Mkdir(provisional, 0o700); err != nil {
		return err
	}
	if err := do(provisional); err != nil {
		return err
	}
	if err := failpoint.Hit("snapshot-filled"); err != nil {
		return err
	}
	return os.Rename(provisional, final)
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

// Commit renames an active snapshot and makes it committed. change, if any, is the last thing done to its directory
// before; parent is what it will lie on, and has to be a committed snapshot.
func (l *Ledger) Commit(ctx context.Context, ns, name, active string, labels map[string]string, parent func(r Record) string, change func(r Record, chain []Record) error) error {
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
	if err := change(r, chain); err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	if err := failpoint.Hit("snapshot-committing"); err != nil {
		return err
	}
	err = l.records.Move(ns, active, name, func(r *Record) error {
		r.Kind, r.Parent, r.Labels, r.UpdatedAt, r.Volatile = Committed, on, labels, time.Now().UTC(), false
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit snapshot %s as %s: %w", key, name, err)
	}
	return nil
}

// Sync is Snapshotter.Sync.
func (l *Ledger) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := os.Open(l.dir)
	if err != nil {
		return fmt.Errorf("sync snapshots: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync snapshots in %s: %w", l.dir, err)
	}
	return nil
}
