package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestRunGoesBackwardsAndTriesAll(t *testing.T) {
	var s Stack
	var got []int
	boom := errors.New("boom")
	for i := range 3 {
		s.Add(func(ctx context.Context) error {
			got = append(got, i)
			if ctx.Err() != nil {
				t.Error("the caller's cancellation reached a clean-up")
			}
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a clean-up has no deadline")
			}
			if i == 1 {
				return boom
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); !errors.Is(err, boom) {
		t.Fatalf("Run: %v", err)
	}
	if !slices.Equal(got, []int{2, 1, 0}) {
		t.Fatalf("order %v", got)
	}
	if err := s.Run(ctx); err != nil || len(got) != 3 {
		t.Fatalf("a second Run did something: %v, %v", got, err)
	}
}

func TestDisarm(t *testing.T) {
	var s Stack
	s.Add(func(context.Context) error { return errors.New("ran") })
	s.Disarm()
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
