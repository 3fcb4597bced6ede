package supervisor

import (
	"sync"
	"time"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// settlePatience is how long those wait who want to know what has become of a start: less than the daemon waits for a
// supervisor after its own start.
const settlePatience = 5 * time.Second

// starts are the processes that are being started: nobody can be told of them yet, and they may be there in a moment. A
// daemon that was killed may have asked for them, and its successor wants to know.
type starts struct {
	mu    sync.Mutex
	under map[chan struct{}]wire.Process
}

// begin enters one, until end is called.
func (s *starts) begin(p wire.Process) (end func()) {
	done := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under == nil {
		s.under = map[chan struct{}]wire.Process{}
	}
	s.under[done] = p
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.under, done)
		close(done)
	}
}

// settle waits until those that match have begun to run, or failed; not for those that begin meanwhile.
func (s *starts) settle(match func(wire.Process) bool) {
	s.mu.Lock()
	var wait []chan struct{}
	for done, p := range s.under {
		if match(p) {
			wait = append(wait, done)
		}
	}
	s.mu.Unlock()
	patience := time.After(settlePatience)
	for _, done := range wait {
		select {
		case <-done:
		case <-patience:
			return
		}
	}
}
