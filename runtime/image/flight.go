package image

import (
	"context"
	"sync"
)

// flights joins those who want the same thing done at the same time: it is done once, under a context of its own, and
// goes on as long as one of them waits for it. What it works on, the state, is shared by them while it is being made and
// afterwards; when the last one has left, it is given to drop.
type flights[T any] struct {
	mu     sync.Mutex
	flying map[string]*flight[T]
	ending map[string]chan struct{} // abandoned ones that have not ended yet
	drop   func(T)
}

type flight[T any] struct {
	key    string
	state  T
	users  int
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned err
	err    error

	mu        sync.Mutex
	listeners map[int]func(Progress)
	nextID    int
	last      *Progress
}

// work is what a flight does, and to what.
type work[T any] struct {
	state T
	run   func(ctx context.Context, state T, report func(Progress)) error
}

// join starts the work for key, or joins the one under way. The caller calls leave when it no longer needs the state. A
// flight that failed is not joined: the next one tries again.
func (g *flights[T]) join(ctx context.Context, key string, listen func(Progress), begin func() work[T]) (f *flight[T], leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flying == nil {
		g.flying, g.ending = map[string]*flight[T]{}, map[string]chan struct{}{}
	}
	f = g.flying[key]
	if f == nil {
		w := begin()
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight[T]{key: key, state: w.state, cancel: cancel, done: make(chan struct{}), listeners: map[int]func(Progress){}}
		g.flying[key] = f
		go g.fly(own, f, g.ending[key], w.run)
	}
	f.users++
	unlisten := f.listen(listen)
	return f, sync.OnceFunc(func() { unlisten(); g.leave(f) })
}

// fly runs once an abandoned flight of the same key has ended: the two must not work on the same files.
func (g *flights[T]) fly(ctx context.Context, f *flight[T], before chan struct{}, run func(context.Context, T, func(Progress)) error) {
	if before != nil {
		<-before
	}
	err := run(ctx, f.state, f.report)
	g.mu.Lock()
	f.err = err
	if g.ending[f.key] == f.done {
		delete(g.ending, f.key)
	}
	if err != nil && g.flying[f.key] == f {
		delete(g.flying, f.key)
	}
	abandoned := f.users == 0
	g.mu.Unlock()
	if abandoned {
		g.drop(f.state)
	}
	close(f.done)
}

func (g *flights[T]) leave(f *flight[T]) {
	g.mu.Lock()
	f.users--
	if f.users > 0 {
		g.mu.Unlock()
		return
	}
	if g.flying[f.key] == f {
		delete(g.flying, f.key)
	}
	ended := false
	select {
	case <-f.done:
		ended = true
	default: // fly drops the state when it ends
		g.ending[f.key] = f.done
	}
	g.mu.Unlock()
	f.cancel()
	if ended {
		g.drop(f.state)
	}
	<-f.done
}

// wait returns how the work ended, or the context's error if that ends first.
func (f *flight[T]) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *flight[T]) listen(fn func(Progress)) (unlisten func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.nextID
	f.nextID++
	f.listeners[id] = fn
	if f.last != nil {
		fn(*f.last)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, id)
	}
}

func (f *flight[T]) report(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = &p
	for _, fn := range f.listeners {
		fn(p)
	}
}
