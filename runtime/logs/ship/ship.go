// Package ship sends what containers log to where their log drivers say: journald, syslog, fluentd. It reads the files that
// the supervisor writes, and keeps a cursor beside them, so that a restart of the daemon loses nothing and repeats at most
// the one entry that was under way when the daemon was killed. A target that does not answer is tried again, ever more
// slowly; meanwhile the files hold the output, as much as they may, and the container notices nothing.
//
// What the options mean is decided in package driver. Formats of files do not live here.
package ship

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
)

// Part says which part of a line an entry is.
type Part struct {
	ID      string // of the line
	Ordinal int    // from 1
	Last    bool
}

// Line is an entry on its way.
type Line struct {
	logs.Entry
	Part *Part // nil: it is a whole line
}

// text is the line without its end.
func (l Line) text() []byte {
	if n := len(l.Data); n > 0 && l.Data[n-1] == '\n' {
		return l.Data[:n-1]
	}
	return l.Data
}

// Target is a place that lines are sent to.
type Target interface {
	// Send hands a line over. After an error the target is closed, and the line sent to another one.
	Send(ctx context.Context, l Line) error
	Close() error
}

// patience is how long a target may take for one line, or to be opened.
const patience = 10 * time.Second

// Open opens the target. Its error says what does not answer.
func Open(ctx context.Context, s driver.Ship) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var t Target
	var err error
	switch s.Driver {
	case driver.Journald:
		t, err = openJournald(s, journalSocket)
	case driver.Syslog:
		t, err = openSyslog(ctx, s)
	case driver.Fluentd:
		t, err = openFluentd(ctx, s)
	default:
		err = fmt.Errorf("nothing is known of it")
	}
	if err != nil {
		return nil, fmt.Errorf("log driver %s: %w", s.Driver, err)
	}
	return t, nil
}

// Deferred says whether a container may start while its target does not answer, because its options say so.
func Deferred(s driver.Ship) bool {
	for _, key := range []string{"fluentd-async", "fluentd-async-connect"} {
		if yes, err := strconv.ParseBool(s.Options[key]); err == nil && yes {
			return true
		}
	}
	return false
}

// Options say what a shipper does.
type Options struct {
	Ship   driver.Ship
	Format string // of the log's files: logs.DriverJSON or DriverCRI
	Path   string // of the log's current file
	Cursor string // path of the file that keeps the place
	// Done, when closed, says that nothing more will be written: the shipper ends when all is sent.
	Done <-chan struct{}
	// Changed is called when the target begins or ceases to be in trouble. May be nil.
	Changed func(Status)
	Log     *slog.Logger
	// Open opens the target; nil is the function Open.
	Open func(context.Context, driver.Ship) (Target, error)
}

// Status is how the shipping stands.
type Status struct {
	Error   string    // why the target takes nothing; empty: it does
	Since   time.Time // of the error
	Dropped int64     // lines given up, after all retries
	Gaps    int64     // times that lines were rotated away before they were sent
}

// Shipper ships the log of one container.
type Shipper struct {
	Options
	target Target
	cursor *cursorFile
	wait   backoff
	parts  map[string]Part // by stream

	mu     sync.Mutex
	status Status
}

// New makes a shipper; Run does the work.
func New(o Options) *Shipper {
	if o.Open == nil {
		o.Open = Open
	}
	return &Shipper{Options: o, wait: newBackoff(o.Ship), parts: map[string]Part{}}
}

// Status says how it stands now.
func (s *Shipper) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run ships until ctx ends, or everything is sent after Done. A log without files is shipped already.
func (s *Shipper) Run(ctx context.Context) error {
	c, err := openCursor(s.Cursor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the container is gone
	}
	if err != nil {
		return err
	}
	s.cursor = c
	defer c.close()
	defer s.closeTarget()
	at := c.load()
	err = logs.Read(ctx, logs.ReadOptions{
		Driver: s.Format, Path: s.Path, Follow: true, From: &at, Done: s.Done, Gap: s.gap,
	}, func(e logs.Entry) error { return s.deliver(ctx, e) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Shipper) gap() {
	s.mu.Lock()
	s.status.Gaps++
	s.mu.Unlock()
	s.Log.Warn("some of a log may not have been shipped: it was rotated away before", "container", s.Ship.Info.ID, "driver", s.Ship.Driver)
}

// deliver sends one entry, however long that takes.
func (s *Shipper) deliver(ctx context.Context, e logs.Entry) error {
	l := Line{Entry: e, Part: s.partOf(e)}
	for tries := 0; ; tries++ {
		err := s.send(ctx, l)
		if err == nil {
			s.recovered()
			return s.cursor.save(e.End)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.troubled(err)
		if s.wait.limit >= 0 && tries >= s.wait.limit {
			s.mu.Lock()
			s.status.Dropped++
			s.mu.Unlock()
			return s.cursor.save(e.End)
		}
		if err := pause(ctx, s.wait.after(tries)); err != nil {
			return err
		}
	}
}

func (s *Shipper) send(ctx context.Context, l Line) error {
	if s.target == nil {
		t, err := s.Open(ctx, s.Ship)
		if err != nil {
			return err
		}
		s.target = t
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	target := s.target
	defer context.AfterFunc(ctx, func() { target.Close() })() // ends a write that is under way
	err := target.Send(limited, l)
	if err != nil {
		s.closeTarget()
	}
	return err
}

func (s *Shipper) closeTarget() {
	if s.target != nil {
		if err := s.target.Close(); err != nil {
			s.Log.Debug("close the target of a log", "container", s.Ship.Info.ID, "error", err)
		}
		s.target = nil
	}
}

// partOf numbers the parts of a long line.
func (s *Shipper) partOf(e logs.Entry) *Part {
	p, begun := s.parts[e.Stream]
	if !begun && !e.Partial {
		return nil
	}
	if !begun {
		var b [16]byte
		rand.Read(b[:]) // never fails
		p.ID = hex.EncodeToString(b[:])
	}
	p.Ordinal++
	p.Last = !e.Partial
	if p.Last {
		delete(s.parts, e.Stream)
	} else {
		s.parts[e.Stream] = p
	}
	return &p
}

func (s *Shipper) troubled(err error) {
	s.mu.Lock()
	first := s.status.Error == ""
	if first {
		s.status.Since = time.Now()
	}
	s.status.Error = err.Error()
	status := s.status
	s.mu.Unlock()
	if first {
		s.Log.Warn("a log is not shipped: its target does not take it; it is tried again", "container", s.Ship.Info.ID, "driver", s.Ship.Driver, "error", err)
		s.changed(status)
	}
}

func (s *Shipper) recovered() {
	s.mu.Lock()
	was := s.status.Error != ""
	s.status.Error, s.status.Since = "", time.Time{}
	status := s.status
	s.mu.Unlock()
	if was {
		s.Log.Info("a log is shipped again", "container", s.Ship.Info.ID, "driver", s.Ship.Driver)
		s.changed(status)
	}
}

func (s *Shipper) changed(status Status) {
	if s.Changed != nil {
		s.Changed(status)
	}
}

// backoff says how long is waited between two tries.
type backoff struct {
	first, last time.Duration
	limit       int // retries of one line; negative: no limit
}

func newBackoff(s driver.Ship) backoff {
	b := backoff{first: 100 * time.Millisecond, last: 30 * time.Second, limit: -1}
	if d, err := time.ParseDuration(s.Options["fluentd-retry-wait"]); err == nil && d > 0 {
		b.first = d
	}
	if d, err := time.ParseDuration(s.Options["fluentd-async-reconnect-interval"]); err == nil && d > 0 {
		b.last = max(d, b.first)
	}
	if n, err := strconv.Atoi(s.Options["fluentd-max-retries"]); err == nil {
		b.limit = n
	}
	return b
}

// after is the wait after a number of tries: half as long again each time, as fluentd's clients have it.
func (b backoff) after(tries int) time.Duration {
	d := b.first
	for range min(tries, 64) {
		if d = d * 3 / 2; d >= b.last {
			return b.last
		}
	}
	return min(d, b.last)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
