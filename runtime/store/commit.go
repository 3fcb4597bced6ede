package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// maxBatch bounds how many changes share one commit, and so how long the first of them waits.
const maxBatch = 256

// change is a caller's function on its way through the committer.
type change struct {
	fn       func(*Tx) error
	soon     bool // it need not be on disk
	flush    bool // what came before has to be
	err      error
	panicked any
	done     chan struct{}
}

// queue hands changes to one goroutine, the committer. While it syncs a batch the next one gathers; a lone change
// finds it idle and is committed at once.
type queue struct {
	lock    sync.Mutex
	wake    *sync.Cond
	waiting []*change
	closed  bool
	stopped chan struct{}
}

func (q *queue) start(commit func([]*change), last func()) {
	q.wake = sync.NewCond(&q.lock)
	q.stopped = make(chan struct{})
	go func() {
		defer close(q.stopped)
		for batch := q.next(); len(batch) > 0; batch = q.next() {
			commit(batch)
			for _, c := range batch {
				close(c.done)
			}
		}
		last()
	}()
}

// next waits for changes; none means that the queue is closed and empty.
func (q *queue) next() []*change {
	q.lock.Lock()
	defer q.lock.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.wake.Wait()
	}
	n := min(len(q.waiting), maxBatch)
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

func (q *queue) put(c *change) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.closed {
		return false
	}
	q.waiting = append(q.waiting, c)
	q.wake.Signal()
	return true
}

// stop lets the committer finish what is queued, and waits for it.
func (q *queue) stop() {
	q.lock.Lock()
	q.closed = true
	q.wake.Signal()
	q.lock.Unlock()
	<-q.stopped
}

// Update runs fn on a transaction: all of its changes happen or, when fn or the disk fails, none. When it returns nil
// they are on disk. fn is called once, and sees what every Update before it has done; it must not call the methods of
// Store and Table that write, which would wait for itself, nor take long, since all writers wait for it.
//
// Errors of the disk: ErrResourceExhausted when it is full (nothing has changed, and writing works again once there is
// space).
func (s *Store) Update(fn func(tx *Tx) error) error { return s.submit(&change{fn: fn}) }

// submit has a change carried out, and waits for that.
func (s *Store) submit(c *change) error {
	c.done = make(chan struct{})
	if !s.put(c) {
		return fmt.Errorf("store %s: it is closed: %w", s.path, errdefs.ErrUnavailable)
	}
	<-c.done
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// commit runs a batch of changes. Each collects its writes apart from the others' and adds them only when it succeeds,
// so none suffers from another's failure.
func (s *Store) commit(batch []*change) {
	var err error
	if s.journal.size < journalLimit && !slices.ContainsFunc(batch, func(c *change) bool { return !c.soon }) {
		err = s.soften(batch)
	} else {
		err = s.harden(batch, slices.ContainsFunc(batch, func(c *change) bool { return c.flush }))
	}
	if err == nil {
		return
	}
	if errors.Is(err, unix.EIO) {
		// What the kernel could not write it forgets, and reports once: a later sync that succeeds proves nothing.
		s.log.Error("the store's disk fails, no more is written until the daemon restarts", "path", s.path, "error", err)
		s.lock.Lock()
		s.closed = true
		s.lock.Unlock()
		s.broken = true
		err = fmt.Errorf("%w: no more is written until the daemon restarts: check the disk: %w", err, errdefs.ErrDataLoss)
	}
	fail(batch, fmt.Errorf("store %s: %w", s.path, explain(err)))
}

// harden commits a batch, and with it what is in the journal, in one database transaction, with one sync for all.
func (s *Store) harden(batch []*change, flush bool) error {
	btx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	before := s.pending.Load()
	if err := (&Tx{btx: btx, writes: before.rows}).flush(); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	wrote, err := apply(btx, batch)
	if err != nil {
		return errors.Join(err, btx.Rollback())
	}
	if !wrote && (!flush || len(before.rows) == 0) {
		return btx.Rollback()
	}
	id := uint64(btx.ID())
	if err := durable(btx); err != nil {
		return err
	}
	s.settled(id)
	return nil
}

func durable(btx *bbolt.Tx) error {
	if err := failpoint.Hit("store-before-commit"); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	if err := btx.Commit(); err != nil {
		return err
	}
	return failpoint.Hit("store-after-commit")
}

func apply(btx *bbolt.Tx, batch []*change) (wrote bool, err error) {
	for _, c := range batch {
		tx := &Tx{btx: btx}
		if c.err = c.run(tx); c.err != nil || len(tx.writes) == 0 {
			continue
		}
		if err := tx.flush(); err != nil {
			return wrote, err
		}
		wrote = true
	}
	return wrote, nil
}

// run calls the function and keeps a panic for its owner, in whose goroutine it belongs.
func (c *change) run(tx *Tx) (err error) {
	defer func() {
		if c.panicked = recover(); c.panicked != nil {
			err = errdefs.ErrInternal
		}
	}()
	return c.fn(tx)
}

// fail is told to all of a batch, those included that had failed by themselves: they may have seen a change of the
// same batch that did not come to pass.
func fail(batch []*change, err error) {
	for _, c := range batch {
		c.err = err
	}
}
