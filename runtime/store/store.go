// Package store keeps the daemon's records: what has to survive a restart and is small. It is the only importer of
// bbolt. Records are grouped in tables by kind (table.go), several tables change together in one transaction (tx.go),
// and concurrent writers share a sync (commit.go). What a power cut may undo is written without one (journal.go). The
// records' own types live with their owners; only namespaces and leases, which belong to nobody else, are defined here.
// Blobs, snapshots and logs are files elsewhere.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// LockTimeout is how long Open waits for another process to let go of the file, when ctx has no nearer deadline: a
// daemon that is being replaced needs a moment to end.
const LockTimeout = 5 * time.Second

// SoonDelay bounds how long a change of Soon stays off the disk.
const SoonDelay = time.Second

// mapSize in bytes is how much address space is mapped at once. Below it a growing file never has to be mapped anew,
// which would make writers wait for readers.
const mapSize = 64 << 20

// Options says which file is opened.
type Options struct {
	Path   string // of the database; its directory is created
	Logger *slog.Logger
}

// Store is an open database. It belongs to one process at a time; its methods may be called by many goroutines.
type Store struct {
	path string
	log  *slog.Logger
	db   *bbolt.DB
	queue
	journal *journal                // the committer's
	pending atomic.Pointer[pending] // written by the committer
	later   *time.Timer             // flushes what is pending
	broken  bool                    // the committer's: the disk has failed

	mu     sync.Mutex
	tables map[string]decoder
}

// decoder tells why a saved record cannot be read, or nil.
type decoder func(data []byte) error

// Open opens the database, making it when there is none, and migrates an older schema. Errors: ErrUnavailable when
// another process has it open, ErrFailedPrecondition when a newer binary wrote it, ErrDataLoss when it is damaged.
func Open(ctx context.Context, o Options) (*Store, error) { return open(ctx, o, schema()) }

func open(ctx context.Context, o Options, m migrations) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Path, err)
	}
	db, err := openFile(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: o.Path, log: o.Logger, db: db, tables: map[string]decoder{}}
	if err := s.recoverJournal(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := m.run(s); err != nil {
		return nil, errors.Join(err, s.journal.file.Close(), db.Close())
	}
	if err := s.reserve(); err != nil {
		s.log.Warn("no space is reserved for the store, a full disk will stop it", "path", s.path, "error", err)
	}
	s.later = time.AfterFunc(SoonDelay, s.flushLate)
	s.start(s.commit, s.flushLast)
	return s, nil
}

// reserved in bytes is how much the records may grow when the disk is full.
const reserved = 4 << 20

// reserve has the file system set space aside behind the pages in use, so that a full disk can still be tidied up:
// deleting writes, too.
func (s *Store) reserve() error {
	var used int64
	if err := s.db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, used+reserved)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

func openFile(ctx context.Context, path string) (*bbolt.DB, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, context.Cause(ctx))
	}
	timeout := LockTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = max(time.Millisecond, min(timeout, time.Until(end)))
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         timeout,
		NoFreelistSync:  true, // the free list is found again at Open; not writing it makes every commit smaller
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapSize,
		NoStatistics:    true,
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("store %s: in use by %s: one daemon owns a root directory, stop the other or use another root: %w",
			path, lockHolder(path), errdefs.ErrUnavailable)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("store %s: the file is damaged or not a database (%w): bring it back from a backup, or move it away to start empty: %w",
			path, err, errdefs.ErrDataLoss)
	default:
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
}

// Close waits for the writes under way and closes the file. Later writes answer ErrUnavailable.
func (s *Store) Close() error {
	s.later.Stop()
	s.stop()
	err := s.journal.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if err := errors.Join(err, s.db.Close()); err != nil {
		return fmt.Errorf("store %s: close: %w", s.path, err)
	}
	return nil
}

// Path is the file's.
func (s *Store) Path() string { return s.path }

// explain gives an error of the file system its class and says what to do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("nothing was changed, free some space on its file system: %w: %w", err, errdefs.ErrResourceExhausted)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("nothing was changed, remount its file system writable: %w: %w", err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return fmt.Errorf("it is closed: %w", errdefs.ErrUnavailable)
	}
	return err
}

// validKind tells whether kind can name a table.
func validKind(kind string) bool {
	return regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(kind)
}

func (s *Store) register(kind string, d decoder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !validKind(kind) || s.tables[kind] != nil {
		panic(fmt.Sprintf("store: table %q is badly named or made twice", kind)) // a mistake of the program, at its start
	}
	s.tables[kind] = d
}

func (s *Store) decoders() map[string]decoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]decoder, len(s.tables))
	for k, d := range s.tables {
		all[k] = d
	}
	return all
}
