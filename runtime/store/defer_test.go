package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestDefer(t *testing.T) {
	s, err := Open(context.Background(), Options{Path: filepath.Join(t.TempDir(), "meta.db")})
	if err != nil {
		t.Fatal(err)
	}
	words := NewTable[string](s, "words", 1, nil)
	put := func(key string) func(*Tx) error {
		return func(tx *Tx) error { return words.In(tx).Put("a", key, "x") }
	}
	has := func(key string) bool {
		_, err := words.Get("a", key)
		return err == nil
	}

	t.Run("with the next change", func(t *testing.T) {
		first := s.Defer(put("first"))
		if has("first") {
			t.Error("a change that nobody has asked for is there")
		}
		if err := words.Put("a", "second", "x"); err != nil {
			t.Fatal(err)
		}
		if !has("first") {
			t.Error("the next change is there, and what was deferred is not")
		}
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("alone", func(t *testing.T) {
		if err := s.Defer(put("third")).Wait(); err != nil || !has("third") {
			t.Errorf("not there: %v", err)
		}
	})
	t.Run("fails alone", func(t *testing.T) {
		own := errors.New("own")
		bad := s.Defer(func(*Tx) error { return own })
		if err := words.Put("a", "fourth", "x"); err != nil || !has("fourth") {
			t.Errorf("the next change suffers: %v", err)
		}
		if err := bad.Wait(); !errors.Is(err, own) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a closed store", func(t *testing.T) {
		last := s.Defer(put("last"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := last.Wait(); err != nil {
			t.Errorf("what was deferred before: %v", err)
		}
		if err := s.Defer(put("late")).Wait(); !errdefs.IsUnavailable(err) {
			t.Errorf("error is %v", err)
		}
	})
}
