package cri

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/snapshot"
)

const (
	layerPending = 4096 // containers that may wait for their count
	// A count is made again when it is asked for and so many times older than it took, within bounds: counting a large
	// tree all the time would cost more than all else.
	layerPace   = 50
	layerMinAge = 2 * time.Second
	layerMaxAge = time.Minute
)

// layers knows what the containers have written. Counting walks directories, so one goroutine does it in the background,
// and those who ask get the last count.
type layers struct {
	ctx   context.Context
	count func(ctx context.Context, c engine.Container) (snapshot.Usage, error)
	log   *slog.Logger

	mu      sync.Mutex
	known   map[string]*layer
	pending []engine.Container
	working bool
}

type layer struct {
	at    time.Time     // zero: never counted
	took  time.Duration // the count
	usage snapshot.Usage
	asked bool // waits for its count
}

func newLayers(ctx context.Context, count func(context.Context, engine.Container) (snapshot.Usage, error), log *slog.Logger) *layers {
	return &layers{ctx: ctx, count: count, log: log, known: map[string]*layer{}}
}

// usage gives the last count and its time, and has a new one made when it is old. ok is false until there is one.
func (l *layers) usage(c engine.Container) (u snapshot.Usage, at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.known[c.ID]
	if k == nil {
		k = &layer{}
		l.known[c.ID] = k
	}
	if !k.asked && time.Since(k.at) > min(max(layerPace*k.took, layerMinAge), layerMaxAge) && len(l.pending) < layerPending {
		k.asked = true
		l.pending = append(l.pending, c)
		if !l.working {
			l.working = true
			go l.work()
		}
	}
	return k.usage, k.at, !k.at.IsZero()
}

// work counts what waits, one after the other, and ends when nothing does.
func (l *layers) work() {
	for {
		l.mu.Lock()
		if len(l.pending) == 0 || l.ctx.Err() != nil {
			l.pending, l.working = nil, false
			l.mu.Unlock()
			return
		}
		c := l.pending[0]
		l.pending = l.pending[1:]
		l.mu.Unlock()

		began := time.Now()
		u, err := l.count(l.ctx, c)
		if err != nil && !errdefs.IsNotFound(err) && l.ctx.Err() == nil {
			l.log.Debug("count what a container has written", "id", c.ID, "error", err)
		}
		l.mu.Lock()
		if k := l.known[c.ID]; k != nil {
			k.asked = false
			if err == nil {
				k.usage, k.at, k.took = u, time.Now(), time.Since(began)
			}
		}
		l.mu.Unlock()
	}
}

// keep forgets all but what is there.
func (l *layers) keep(there func(id string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.known {
		if !there(id) {
			delete(l.known, id)
		}
	}
}
