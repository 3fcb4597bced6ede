package supervisor

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// gate counts what must not be cut in two by a re-execution: requests under way and exits being written.
type gate struct {
	mu     sync.Mutex
	inside int
	opened chan struct{} // closed while the gate is open
	empty  chan struct{} // closed when it is shut and nobody is inside; nil while open
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

// enter waits until the gate is open.
func (g *gate) enter() {
	for {
		g.mu.Lock()
		if g.empty == nil {
			g.inside++
			g.mu.Unlock()
			return
		}
		opened := g.opened
		g.mu.Unlock()
		<-opened
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
	}
}

// shut closes the gate and waits until nobody is inside; when the context ends first it is open again.
func (g *gate) shut(ctx context.Context) error {
	g.mu.Lock()
	g.opened = make(chan struct{})
	g.empty = make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	empty, inside := g.empty, g.inside
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.open()
		return fmt.Errorf("%d operations are under way: try again: %w: %w", inside, ctx.Err(), errdefs.ErrUnavailable)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty = nil
	close(g.opened)
}
