package network

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/minirt/mini/runtime/network/netns"
)

// spare is a namespace of no pod yet. Only the descriptor keeps it: when the daemon ends in whatever way, the kernel takes
// it away with all that is in it.
type spare struct {
	ns         *os.File
	prepared   *Attachment // nil: only the loopback interface is in it
	generation uint64      // of the provider that prepared it
}

// spares keeps some spares ready and makes new ones in the background.
type spares struct {
	make    func(context.Context) (spare, error)
	discard func(spare)
	log     *slog.Logger
	ready   chan spare
	taken   chan struct{} // there is room
	once    sync.Once
	cancel  context.CancelFunc
	ctx     context.Context
	done    sync.WaitGroup
}

func newSpares(size int, one func(context.Context) (spare, error), discard func(spare), log *slog.Logger) *spares {
	s := &spares{make: one, discard: discard, log: log, ready: make(chan spare, max(size, 0)), taken: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *spares) start() {
	if cap(s.ready) > 0 {
		s.once.Do(func() { s.done.Go(s.fill) })
	}
}

func (s *spares) count() int { return len(s.ready) }

// retryAfter is how long a failure to make a spare is left alone; pods then make what they need, and get its error.
const retryAfter = 5 * time.Second

// fill is the only one that puts spares in.
func (s *spares) fill() {
	for s.ctx.Err() == nil {
		wait := time.Duration(0)
		for len(s.ready) < cap(s.ready) && s.ctx.Err() == nil {
			one, err := s.make(s.ctx)
			if err != nil {
				s.log.Debug("no spare network namespace", "error", err)
				wait = retryAfter
				break
			}
			s.ready <- one
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-s.ctx.Done():
		case <-s.taken:
		case <-again:
		}
	}
}

// take returns a spare if there is one.
func (s *spares) take() (spare, bool) {
	select {
	case one := <-s.ready:
		select {
		case s.taken <- struct{}{}:
		default:
		}
		return one, true
	default:
		return spare{}, false
	}
}

// close discards all spares; it may be repeated.
func (s *spares) close() {
	s.cancel()
	s.done.Wait()
	for {
		select {
		case one := <-s.ready:
			s.discard(one)
		default:
			return
		}
	}
}

// takeSpare returns a spare that fits what is in use now, or a new namespace.
func (n *Networks) takeSpare(ctx context.Context) (spare, error) {
	for {
		s, ok := n.spares.take()
		if !ok {
			ns, err := netns.New()
			return spare{ns: ns}, err
		}
		if s.prepared == nil || n.active(ctx) == n.builtin && n.builtin.(Preparer).Generation() == s.generation {
			return s, nil
		}
		n.discardSpare(s)
	}
}

func (n *Networks) makeSpare(ctx context.Context) (spare, error) {
	ns, err := netns.New()
	if err != nil {
		return spare{}, err
	}
	s := spare{ns: ns}
	preparer, ok := n.builtin.(Preparer)
	if !ok || n.active(ctx) != n.builtin {
		return s, nil
	}
	s.generation = preparer.Generation()
	a, err := preparer.Prepare(ctx, ns)
	if err != nil {
		ns.Close()
		return spare{}, err
	}
	s.prepared = &a
	return s, nil
}

func (n *Networks) discardSpare(s spare) {
	if err := n.discardPrepared(context.Background(), s.prepared, false); err != nil {
		n.options.Log.Warn("a spare network namespace is not discarded", "error", err)
	}
	s.ns.Close()
}
