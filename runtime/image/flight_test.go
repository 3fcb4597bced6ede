package image

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

// The state of a flight is dropped once, when the last one has left.
func TestFlights(t *testing.T) {
	dropped := make(chan string, 10)
	g := flights[string]{drop: func(s string) { dropped <- s }}
	started, finish := make(chan struct{}), make(chan struct{})
	begin := func(name string) func() work[string] {
		return func() work[string] {
			return work[string]{name, func(ctx context.Context, _ string, _ func(Progress)) error {
				close(started)
				select {
				case <-finish:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
		}
	}
	a, leaveA := g.join(t.Context(), "k", func(Progress) {}, begin("first"))
	b, leaveB := g.join(t.Context(), "k", func(Progress) {}, begin("second"))
	if a != b || b.state != "first" {
		t.Fatal("not joined")
	}
	<-started
	leaveA()
	close(finish)
	if err := b.wait(t.Context()); err != nil {
		t.Errorf("one left, the other got %v", err)
	}
	leaveB()
	if got := <-dropped; got != "first" {
		t.Error(got)
	}
	started, finish = make(chan struct{}), make(chan struct{})
	_, leave := g.join(t.Context(), "k", func(Progress) {}, begin("abandoned"))
	<-started
	leave()
	if got := <-dropped; got != "abandoned" {
		t.Error(got)
	}
}

// A reader of a growing file sees all of it, in whatever pieces it comes, or learns that it was begun anew.
func TestGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := must(os.Create(path))
	g := newGrowing()
	r := g.reader(t.Context())
	go func() {
		_ = g.open(path, 0)
		for i := range 100 {
			_, _ = f.WriteString("0123456789")
			g.grew(int64(i+1) * 10)
		}
		g.end(nil)
	}()
	if data, err := io.ReadAll(r); err != nil || len(data) != 1000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	_ = g.open(path, 0)
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errRestarted) {
		t.Errorf("%v", err)
	}
	g.end(errdefs.ErrDataLoss)
	if _, err := io.ReadAll(g.reader(t.Context())); !errdefs.IsDataLoss(err) {
		t.Errorf("%v", err)
	}
}

// A thing that a collection may have missed in the records is not swept.
func TestPins(t *testing.T) {
	p := newPins()
	end := p.collect()
	release := p.hold("a")
	release()
	if done, _ := p.sweep("a", func() error { return nil }); done {
		t.Error("swept what was released during the collection")
	}
	end()
	swept := false
	if done, _ := p.sweep("a", func() error { swept = true; return nil }); !done || !swept {
		t.Error("not swept afterwards")
	}
}
