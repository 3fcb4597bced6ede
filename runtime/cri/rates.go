package cri

import (
	"sync"
	"time"
)

// rateWindow is the least time between two readings that a rate is made of: over less, the clock's grain shows.
const rateWindow = time.Second

// rates remembers a reading of processor time for each container and pod, to tell what they use now.
type rates struct {
	mu   sync.Mutex
	last map[string]*sample
}

type sample struct {
	at    time.Time
	usage uint64 // nanoseconds of processor time
	rate  uint64 // nanoseconds of it in a second, at that time
}

func newRates() *rates { return &rates{last: map[string]*sample{}} }

// nanoCores is the use since the last reading that is a window ago; for the first one, since the start.
func (r *rates) nanoCores(id string, at time.Time, usage uint64, started time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[id]
	if last == nil || usage < last.usage || at.Before(last.at) { // the first one, or of a new cgroup
		s := &sample{at: at, usage: usage, rate: rate(usage, at.Sub(started))}
		r.last[id] = s
		return s.rate
	}
	if took := at.Sub(last.at); took >= rateWindow {
		*last = sample{at: at, usage: usage, rate: rate(usage-last.usage, took)}
	}
	return last.rate
}

func rate(usage uint64, took time.Duration) uint64 {
	if took <= 0 {
		return 0
	}
	return uint64(float64(usage) / took.Seconds())
}

// keep forgets all but what is there.
func (r *rates) keep(there func(id string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.last {
		if !there(id) {
			delete(r.last, id)
		}
	}
}
