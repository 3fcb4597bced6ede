package native

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

func open(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
	t.Helper()
	s, err := Open(context.Background(), Options{Root: root, Records: records, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	snapshottest.Run(t, open)
}

func TestKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	snapshottest.Suite{Open: open}.Killed(t, snapshottest.Points()...)
}

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { snapshottest.Suite{Open: open}.Life(t) }
