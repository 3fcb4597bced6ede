package overlay

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
	"github.com/minirt/mini/runtime/store"
)

func openStore(t *testing.T, root string) *Store {
	t.Helper()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(root, "meta.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	o, err := Open(ctx, Options{Root: root, Records: snapshot.NewRecords(s, Name), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func key(name string) snapshot.Key { return snapshot.Key{Namespace: "ns", Name: name} }

func TestKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	snapshottest.Suite{Open: open}.Killed(t, snapshottest.Points()...)
}

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { snapshottest.Suite{Open: open}.Life(t) }
