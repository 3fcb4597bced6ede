package keylock

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

func TestOneHolderPerKey(t *testing.T) {
	var l Locks
	counts := make([]int, 5) // unguarded but for the locks: the race detector watches
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			k := i % len(counts)
			unlock, err := l.Lock(t.Context(), strconv.Itoa(k))
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			counts[k]++
		})
	}
	wg.Wait()
	for k, n := range counts {
		if n != 100 {
			t.Errorf("key %d counted %d, want 100", k, n)
		}
	}
	if len(l.keys) != 0 {
		t.Errorf("%d idle keys are kept", len(l.keys))
	}
}

func TestLockGivesUpWithItsContext(t *testing.T) {
	var l Locks
	unlock, err := l.Lock(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Lock(ctx, "k"); !errors.Is(err, context.Canceled) || !errdefs.IsUnavailable(err) {
		t.Fatalf("second Lock: %v", err)
	}
	if _, ok := l.TryLock("k"); ok {
		t.Fatal("TryLock took a held key")
	}
	unlock()
	unlock() // harmless
	again, ok := l.TryLock("k")
	if !ok {
		t.Fatal("not free after unlock")
	}
	again()
	if len(l.keys) != 0 {
		t.Errorf("%d idle keys are kept", len(l.keys))
	}
}

func TestLockOfAFreeKeyIgnoresAnEndedContext(t *testing.T) {
	var l Locks
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unlock, err := l.Lock(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
