package engine

import (
	"context"
	"errors"
	"fmt"
)

// leaves notes that a removal begins (nil), or why it has left something. Who looks sees the container from then on, as one
// that is there to be removed.
func (l *live) leaves(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = err
}

func (p *livePod) leaves(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = err
}

// why is what leaves has noted.
func (p *livePod) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// RemoveAgain removes what an earlier removal has left: containers and pods whose clients may have forgotten them. It
// returns how many are gone, and joins the errors of the others, which are tried with the next call.
func (e *Engine) RemoveAgain(ctx context.Context) (gone int, err error) {
	var errs []error
	for _, p := range e.livePods("") {
		if p.why() == nil {
			continue
		}
		if err := e.RemovePod(ctx, p.key.ns, p.key.id); err != nil {
			errs = append(errs, err)
			continue
		}
		gone++
	}
	for _, l := range e.leftContainers() {
		err := e.alone(ctx, l, func(ctx context.Context, l *live) error { return e.undo(ctx, l) })
		if err != nil {
			errs = append(errs, fmt.Errorf("remove again: %w", err))
			continue
		}
		gone++
	}
	return gone, errors.Join(errs...)
}

// leftContainers are those whose last removal has not succeeded.
func (e *Engine) leftContainers() []*live {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var left []*live
	for _, l := range e.containers {
		if l.seen().Left != "" {
			left = append(left, l)
		}
	}
	return left
}
