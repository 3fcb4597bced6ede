package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestFilter(t *testing.T) {
	event := Event{Namespace: "ns", Type: "container", Action: "exit", ID: "abc", Attributes: map[string]string{"code": "0", "a.b/c": "x=y"}}
	for _, tc := range []struct {
		filters string // separated by spaces
		want    bool
	}{
		{"", true},
		{"type==container", true},
		{"type=container", true},
		{"type==image", false},
		{"type==image type==container", true},
		{"type==container id==x", false},
		{"id~=^a", true},
		{"id~=^b", false},
		{"id~=^b id==abc", true},
		{"id!=abc", false},
		{"id!=a id!=b", true},
		{"id!=a id!=abc", false},
		{"attributes.code==0", true},
		{"attributes.code", true},
		{"attributes.none", false},
		{"attributes.none!=1", true},
		{"attributes.none==", false},
		{`attributes."a.b/c"=="x=y"`, true},
		{`attributes.a.b/c==x=y`, true},
	} {
		f, err := ParseFilter(strings.Fields(tc.filters))
		if err != nil {
			t.Errorf("%s: %v", tc.filters, err)
		} else if got := f.Match(event.lookup); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.filters, got, tc.want)
		}
	}
	for _, bad := range []string{"", "==x", "nmae==x", "id~=(", `id=="x`, `attributes."x==1`, "attributes.", "id!x", `id=="a"b`, "id\"x\""} {
		if _, err := ParseFilter([]string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: error is %v, want an invalid argument", bad, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"type==x", `attributes."a"~="^b"`, "id!=", `labels."`, "==", "~="} {
		f.Add(s)
	}
	event := Event{Attributes: map[string]string{"": "x"}}
	f.Fuzz(func(t *testing.T, s string) {
		if filter, err := ParseFilter([]string{s}); err == nil {
			filter.Match(event.lookup)
		}
	})
}

func publish(b *Bus, n int) {
	for i := range n {
		b.Publish(Event{ID: fmt.Sprint(i), Time: time.Unix(int64(i), 0)})
	}
}

func ids(t *testing.T, s *Subscription, n int) string {
	t.Helper()
	var got []string
	for range n {
		e, err := s.Next(t.Context())
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, e.ID)
	}
	return strings.Join(got, " ")
}

func TestOrderAndSince(t *testing.T) {
	b := newBus(4, 100)
	publish(b, 6) // 0 and 1 are forgotten
	late := b.Subscribe(Options{Since: time.Unix(3, 0)})
	all := b.Subscribe(Options{Since: time.Unix(0, 1)})
	fresh := b.Subscribe(Options{})
	b.Publish(Event{ID: "new"})
	if got := ids(t, late, 4); got != "3 4 5 new" {
		t.Errorf("since 3: %s", got)
	}
	if got := ids(t, all, 5); got != "2 3 4 5 new" {
		t.Errorf("since the beginning: %s", got)
	}
	if got := ids(t, fresh, 1); got != "new" {
		t.Errorf("from now on: %s", got)
	}
	b.Close()
	if _, err := fresh.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := b.Subscribe(Options{}).Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("subscribed after Close: %v", err)
	}
}

func TestNamespace(t *testing.T) {
	b := New()
	s := b.Subscribe(Options{Namespace: "a"})
	b.Publish(Event{Namespace: "b", ID: "1"})
	b.Publish(Event{Namespace: "a", ID: "2"})
	if got := ids(t, s, 1); got != "2" {
		t.Errorf("got %s", got)
	}
}

func TestSlowSubscriberIsCutOff(t *testing.T) {
	b := newBus(2, 3)
	slow, quick := b.Subscribe(Options{}), b.Subscribe(Options{})
	for i := range 4 {
		b.Publish(Event{ID: fmt.Sprint(i)})
		ids(t, quick, 1)
	}
	if got := ids(t, slow, 3); got != "0 1 2" {
		t.Errorf("before the cut: %s", got)
	}
	if _, err := slow.Next(t.Context()); !errdefs.IsResourceExhausted(err) {
		t.Errorf("error is %v, want resource exhausted", err)
	}
	if len(b.subscribers) != 1 {
		t.Errorf("%d subscribers are left, want 1", len(b.subscribers))
	}
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		b.Publish(Event{ID: "old"})
		s := b.Subscribe(Options{Since: time.Now().Add(-time.Minute), Until: time.Now().Add(time.Minute)})
		if got := ids(t, s, 1); got != "old" {
			t.Errorf("got %s", got)
		}
		start := time.Now()
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) || time.Since(start) != time.Minute {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
	})
}

func TestNextObeysContext(t *testing.T) {
	s := New().Subscribe(Options{})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	b := New()
	var wg sync.WaitGroup
	for range 8 {
		s := b.Subscribe(Options{})
		wg.Go(func() {
			defer s.Close()
			for range 400 {
				if _, err := s.Next(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() { publish(b, 100) })
	}
	wg.Wait()
	if len(b.subscribers) != 0 {
		t.Errorf("%d subscribers are left after Close", len(b.subscribers))
	}
}
