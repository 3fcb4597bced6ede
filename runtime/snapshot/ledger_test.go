package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/store"
)

func TestParseDir(t *testing.T) {
	for name, want := range map[string]string{
		"1": "1  true", "12.new": "12 .new true", "7.removing": "7 .removing true",
		"0": "0  false", "01": "1  false", "x": "0  false", "1.old": "1 .old false", "1.new.new": "1 .new.new false", "": "0  false",
	} {
		n, suffix, ok := parseDir(name)
		if got := fmt.Sprint(n, " ", suffix, " ", ok); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestFindLeftovers(t *testing.T) {
	record := func(ns, name, parent string, dir uint64) store.Entry[Record] {
		return store.Entry[Record]{Namespace: ns, Key: name, Value: Record{Parent: parent, Dir: dir}}
	}
	for _, test := range []struct {
		name    string
		dirs    []string
		named   []Held // whole
		entries []store.Entry[Record]
		busy    uint64
		want    string
	}{
		{"all is well", []string{"1", "2"}, nil, []store.Entry[Record]{record("a", "x", "", 1), record("b", "x", "", 1), record("a", "y", "x", 2), record("a", "view", "x", 0)}, 0, "[] [] []"},
		{"no record", []string{"1", "2.new", "3.removing", "README"}, nil, nil, 0, "[1 2.new 3.removing] [] []"},
		{"no directory", nil, nil, []store.Entry[Record]{record("a", "x", "", 1)}, 0, "[] [a/x] []"},
		{"not finished", []string{"1.new"}, nil, []store.Entry[Record]{record("a", "x", "", 1)}, 0, "[1.new] [a/x] []"},
		{"half removed", []string{"1.removing"}, nil, []store.Entry[Record]{record("a", "x", "", 1)}, 0, "[1.removing] [a/x] []"},
		{"being made", []string{"1.new"}, nil, []store.Entry[Record]{record("a", "x", "", 1)}, 1, "[] [] []"},
		{"whole, and an old attempt", []string{"1", "1.new"}, nil, []store.Entry[Record]{record("a", "x", "", 1)}, 0, "[1.new] [] []"},
		{"lost", nil, nil, []store.Entry[Record]{record("a", "x", "", 1), record("a", "view", "x", 0)}, 0, "[] [] [a/x]"},
		{"named", nil, []Held{{Dir: 7, Backend: "chain", Place: "chain"}}, []store.Entry[Record]{{Namespace: "a", Key: "x", Value: Record{Dir: 9, Backend: "chain"}}}, 0, "[] [] []"},
		{"named, without a record", nil, []Held{{Dir: 7, Backend: "chain", Place: "chain"}}, nil, 0, "[chain] [] []"},
		{"a name that is gone", nil, nil, []store.Entry[Record]{{Namespace: "a", Key: "x", Value: Record{Dir: 9, Backend: "chain"}}}, 0, "[] [a/x] []"},
	} {
		busy := func(n uint64) bool { return n != 0 && n == test.busy }
		var all []Held
		for _, name := range test.dirs {
			if n, suffix, ok := parseDir(name); ok {
				all = append(all, Held{Dir: n, Place: name, Whole: suffix == ""})
			}
		}
		found := findLeftovers(append(all, test.named...), test.entries, busy)
		var places []string
		for _, h := range found.held {
			places = append(places, h.Place)
		}
		if got := fmt.Sprint(places, found.records, found.lost); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestRecordsInStore runs a life of snapshots over the real store, and reopens it.
func TestRecordsInStore(t *testing.T) {
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	root := t.TempDir()
	openStore := func() (*store.Store, *Directories) {
		s, err := store.Open(ctx, store.Options{Path: filepath.Join(root, "meta.db"), Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		l, err := OpenDirectories(ctx, root, NewRecords(s, "test"), log, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s, l
	}
	s, l := openStore()
	fill := func(string, Record, []Record) error { return nil }
	_, _, err := l.New(ctx, Key{"ns", "active"}, Active, "", Options{Labels: map[string]string{"a": "b"}}, fill)
	if err != nil {
		t.Fatal(err)
	}
	none := func(Record) string { return "" }
	nothing := func(*Record, []Record) error { return nil }
	if err := l.Commit(ctx, "ns", "layer", "active", nil, none, nothing); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(ctx, "ns", "again", "active", nil, none, nothing); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the active name is still there: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, l = openStore()
	defer s.Close()
	r, chain, err := l.New(ctx, Key{"ns", "on top"}, Active, "layer", Options{}, fill)
	if err != nil || len(chain) != 1 || r.Dir <= chain[0].Dir {
		t.Fatalf("%+v on %+v, %v", r, chain, err)
	}
}

// TestNewUndoes: what cannot be made leaves neither record nor directory.
func TestNewUndoes(t *testing.T) {
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	root := t.TempDir()
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(root, "meta.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := OpenDirectories(ctx, root, NewRecords(s, "test"), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("disk full")
	_, _, err = l.New(ctx, Key{"ns", "x"}, Active, "", Options{}, func(dir string, _ Record, _ []Record) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), failure)
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	if _, err := l.Info(ctx, Key{"ns", "x"}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the record: %v", err)
	}
	if left, err := l.files.List(ctx); err != nil || len(left) != 0 {
		t.Errorf("directories %v, %v", left, err)
	}
}
