package devmapper

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/disks"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

// suite has a pool for each store: the name is in the store's root, for the children of TestKilled too.
func suite(t *testing.T) snapshottest.Suite {
	t.Helper()
	testenv.DeviceMapper(t)
	return snapshottest.Suite{
		Filesystems: 8 << 20,
		Root: func(t *testing.T) string {
			t.Helper()
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "pool"), []byte(testenv.ThinPool(t)), 0o600); err != nil {
				t.Fatal(err)
			}
			return root
		},
		Open: func(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
			t.Helper()
			pool, err := os.ReadFile(filepath.Join(root, "pool"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(context.Background(), string(pool), disks.Options{Root: root, Size: 64 << 20, Records: records, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
}

func TestContract(t *testing.T) { suite(t).Run(t) }

func TestKilled(t *testing.T) { suite(t).Killed(t, snapshottest.Points()...) }

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { suite(t).Life(t) }

func TestNoPool(t *testing.T) {
	_, err := Open(t.Context(), "mini-no-such-pool", disks.Options{Root: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotImplemented(err) {
		t.Errorf("without a pool: %v", err)
	}
	if _, err := Open(t.Context(), "x", disks.Options{Root: t.TempDir(), Size: 1}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a size of one byte: %v", err)
	}
}
