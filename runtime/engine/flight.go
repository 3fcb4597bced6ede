package engine

import (
	"context"
	"fmt"
	"sync"
)

// flights lets those who ask for the same thing at the same time have it made once. The making has a context of its own,
// which ends when the last of them has gone; who asks then waits until what was made is undone, and asks anew.
type flights[T any] struct {
	mu     sync.Mutex
	flying map[string]*flight[T]
}

type flight[T any] struct {
	waiting   int
	abandoned bool
	cancel    context.CancelFunc
	done      chan struct{}
	value     T
	err       error
}

// do makes the thing called key, or waits for the one that is being made. An empty key is nobody else's.
func (g *flights[T]) do(ctx context.Context, key string, build func(context.Context) (T, error)) (T, error) {
	if key == "" {
		return build(ctx)
	}
	for {
		f := g.join(ctx, key, build)
		select {
		case <-f.done:
			if !g.isAbandoned(f) {
				return f.value, f.err
			} // that was somebody else's, who has gone
		case <-ctx.Done():
			g.leave(f)
			var none T
			return none, fmt.Errorf("not waited for any longer; it is undone unless somebody else waits: %w", context.Cause(ctx))
		}
	}
}

func (g *flights[T]) join(ctx context.Context, key string, build func(context.Context) (T, error)) *flight[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flying[key]; f != nil {
		if !f.abandoned {
			f.waiting++
		}
		return f
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[T]{waiting: 1, cancel: cancel, done: make(chan struct{})}
	if g.flying == nil {
		g.flying = map[string]*flight[T]{}
	}
	g.flying[key] = f
	go func() {
		value, err := build(own)
		g.mu.Lock()
		f.value, f.err = value, err
		delete(g.flying, key)
		g.mu.Unlock()
		cancel()
		close(f.done)
	}()
	return f
}

func (g *flights[T]) leave(f *flight[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.abandoned {
		return
	}
	if f.waiting--; f.waiting == 0 {
		f.abandoned = true
		f.cancel()
	}
}

func (g *flights[T]) isAbandoned(f *flight[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return f.abandoned
}
