// Package events is the daemon's bus in memory: who changes something publishes it, who wants to know subscribes. The
// last events are remembered for those who come late. Nothing is written to disk: an event is a hint, the records are
// the truth.
package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Event says that something happened. Its Attributes are shared by all who get it: do not change them.
type Event struct {
	Time       time.Time
	Namespace  string
	Type       string // namespace, image, content, snapshot, lease, container, process, pod, daemon
	Action     string // create, start, exit, oom, pause, resume, update, delete, pull, tag, …
	ID         string
	Attributes map[string]string
}

// ParseFilter reads the filter of a subscription.
func ParseFilter(expressions []string) (Filter, error) {
	return ParseFilterOf(expressions, "namespace", "type", "action", "id", "attributes.")
}

func (e Event) lookup(key string) (string, bool) {
	switch key {
	case "namespace":
		return e.Namespace, true
	case "type":
		return e.Type, true
	case "action":
		return e.Action, true
	case "id":
		return e.ID, true
	}
	v, ok := e.Attributes[key[len("attributes."):]]
	return v, ok
}

const (
	remembered = 1024 // events kept for late subscribers
	backlog    = 4096 // events that may wait for one subscriber
)

// Bus hands events from publishers to subscribers. Publish never blocks.
type Bus struct {
	mu          sync.Mutex
	ring        []Event // grows to its limit, then wraps
	next        int     // where the oldest is, once it wraps
	remember    int
	backlog     int
	subscribers map[*Subscription]struct{}
	closed      bool
}

// New makes a bus.
func New() *Bus { return newBus(remembered, backlog) }

func newBus(remember, backlog int) *Bus {
	return &Bus{remember: remember, backlog: backlog, subscribers: map[*Subscription]struct{}{}}
}

// Publish tells every subscriber, and remembers the event. A zero Time becomes now.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if len(b.ring) < b.remember {
		b.ring = append(b.ring, e)
	} else {
		b.ring[b.next] = e
		b.next = (b.next + 1) % len(b.ring)
	}
	for s := range b.subscribers {
		if s.wants(e) && !s.push(e) {
			delete(b.subscribers, s)
		}
	}
}

// Close ends all subscriptions, each after what already waits for it.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for s := range b.subscribers {
		s.end(io.EOF)
	}
	clear(b.subscribers)
}

// Options say what a subscriber wants.
type Options struct {
	Namespace string // empty: all of them
	Filter    Filter
	Since     time.Time // not zero: remembered events from this time on come first
	Until     time.Time // not zero: the subscription ends then
}

// Subscribe begins a subscription; Close it.
func (b *Bus) Subscribe(o Options) *Subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Subscription{bus: b, options: o, wake: make(chan struct{}, 1)}
	if !o.Since.IsZero() {
		for i := range b.ring {
			if e := b.ring[(b.next+i)%len(b.ring)]; !e.Time.Before(o.Since) && s.wants(e) {
				s.queue = append(s.queue, e)
			}
		}
	}
	s.limit = len(s.queue) + b.backlog
	if b.closed {
		s.err = io.EOF
		return s
	}
	b.subscribers[s] = struct{}{}
	return s
}

// Subscription is one subscriber's queue.
type Subscription struct {
	bus     *Bus
	options Options
	limit   int
	wake    chan struct{} // something changed

	mu    sync.Mutex
	queue []Event
	err   error // after the queue
}

// errSlow ends a subscription whose subscriber does not keep up.
var errSlow = fmt.Errorf("events came faster than they were read, and the rest is lost: subscribe again: %w", errdefs.ErrResourceExhausted)

func (s *Subscription) wants(e Event) bool {
	return (s.options.Namespace == "" || s.options.Namespace == e.Namespace) &&
		(s.options.Until.IsZero() || !e.Time.After(s.options.Until)) &&
		s.options.Filter.Match(e.lookup)
}

// push queues an event; false when the subscriber is cut off.
func (s *Subscription) push(e Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= s.limit {
		s.err = errSlow
		s.signal()
		return false
	}
	s.queue = append(s.queue, e)
	s.signal()
	return true
}

func (s *Subscription) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next event. It returns io.EOF when the bus is closed or Until has passed, ErrResourceExhausted when
// the subscriber was too slow, and ctx's error. One goroutine calls it.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	wait := ctx
	if !s.options.Until.IsZero() {
		var cancel context.CancelFunc
		wait, cancel = context.WithDeadlineCause(ctx, s.options.Until, io.EOF)
		defer cancel()
	}
	for {
		if e, ok, err := s.pop(); ok || err != nil {
			return e, err
		}
		select {
		case <-s.wake:
		case <-wait.Done():
			// What was published before the deadline may have come together with it.
			if e, ok, err := s.pop(); ok || err != nil {
				return e, err
			}
			return Event{}, context.Cause(wait)
		}
	}
}

func (s *Subscription) pop() (Event, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return Event{}, false, s.err
	}
	e := s.queue[0]
	s.queue[0] = Event{}
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return e, true, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	delete(s.bus.subscribers, s)
	s.bus.mu.Unlock()
	s.end(errors.New("the subscription is closed"))
}
