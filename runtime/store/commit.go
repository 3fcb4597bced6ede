package store

import (
	"errors"
	"fmt"
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

func (q *queue) start(commit func([]*change)) {
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

// put queues a change. With later, the committer is not woken for it: another change or hurry will.
func (q *queue) put(c *change, later bool) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.closed {
		return false
	}
	q.waiting = append(q.waiting, c)
	if !later {
		q.wake.Signal()
	}
	return true
}

func (q *queue) hurry() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.wake.Signal()
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
func (s *Store) Update(fn func(tx *Tx) error) error {
	return s.submit(fn, false).wait()
}

// Deferred is a change that is to be on disk with the next one.
type Deferred struct {
	s *Store
	c *change
}

// Defer is Update for a change that is followed by another, and need not be on disk before that: both are then
// committed together, with one sync. When the other's Update has returned nil, this change is on disk too, unless Wait
// says otherwise; Wait has to be called. Until then, readers do not see the change.
func (s *Store) Defer(fn func(tx *Tx) error) *Deferred { return s.submit(fn, true) }

// Wait returns when the change is on disk, with what Update returns.
func (d *Deferred) Wait() error {
	d.s.hurry()
	return d.wait()
}

func (s *Store) submit(fn func(tx *Tx) error, later bool) *Deferred {
	c := &change{fn: fn, done: make(chan struct{})}
	if !s.put(c, later) {
		c.err = fmt.Errorf("store %s: it is closed: %w", s.path, errdefs.ErrUnavailable)
		close(c.done)
	}
	return &Deferred{s, c}
}

func (d *Deferred) wait() error {
	c := d.c
	<-c.done
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// commit runs a batch of changes in one database transaction, with one sync for all. Each collects its writes apart
// from the others' and adds them only when it succeeds, so none suffers from another's failure.
func (s *Store) commit(batch []*change) {
	btx, err := s.db.Begin(true)
	if err != nil {
		fail(batch, fmt.Errorf("store %s: %w", s.path, explain(err)))
		return
	}
	wrote, err := apply(btx, batch)
	if err == nil && !wrote {
		err = btx.Rollback()
	} else if err == nil {
		err = durable(btx)
	} else {
		err = errors.Join(err, btx.Rollback())
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
		err = fmt.Errorf("%w: no more is written until the daemon restarts: check the disk: %w", err, errdefs.ErrDataLoss)
	}
	fail(batch, fmt.Errorf("store %s: %w", s.path, explain(err)))
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
