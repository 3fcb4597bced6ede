// Package keylock has a mutex for every key, between the goroutines of one process. Locks between processes are
// internal/flock's.
package keylock

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// Locks is a set of mutexes by key. The zero value is ready. A key costs memory only while it is held or waited for.
type Locks struct {
	mu   sync.Mutex
	keys map[string]*entry
}

// entry is one key's mutex: its channel holds a token while the mutex is held.
type entry struct {
	held  chan struct{}
	users int // holder and waiters
}

// Lock waits for the mutex of key, or until ctx ends (then ErrUnavailable together with the context's error). The
// function it returns gives the mutex back; calling it again does nothing.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	e := l.join(key)
	select {
	case e.held <- struct{}{}: // free: taken even when ctx has ended, so that clean-ups need not care
	default:
		select {
		case e.held <- struct{}{}:
		case <-ctx.Done():
			l.leave(key, e)
			return nil, fmt.Errorf("%s is busy with another operation: %w: %w", key, context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
	return sync.OnceFunc(func() {
		<-e.held
		l.leave(key, e)
	}), nil
}

// TryLock takes the mutex of key if it is free.
func (l *Locks) TryLock(key string) (unlock func(), ok bool) {
	e := l.join(key)
	select {
	case e.held <- struct{}{}:
		return sync.OnceFunc(func() {
			<-e.held
			l.leave(key, e)
		}), true
	default:
		l.leave(key, e)
		return nil, false
	}
}

func (l *Locks) join(key string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]*entry{}
	}
	e := l.keys[key]
	if e == nil {
		e = &entry{held: make(chan struct{}, 1)}
		l.keys[key] = e
	}
	e.users++
	return e
}

func (l *Locks) leave(key string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.keys, key)
	}
}
