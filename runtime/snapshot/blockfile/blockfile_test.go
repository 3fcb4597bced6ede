package blockfile

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/disks"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

func open(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
	t.Helper()
	s, err := Open(context.Background(), disks.Options{Root: root, Size: 64 << 20, Records: records, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func suite(t *testing.T) snapshottest.Suite {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs e2fsprogs: ", err)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("needs loop devices: ", err)
	}
	return snapshottest.Suite{Open: open, Filesystems: 8 << 20}
}

func TestContract(t *testing.T) { suite(t).Run(t) }

func TestKilled(t *testing.T) { suite(t).Killed(t, snapshottest.Points()...) }

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { snapshottest.Suite{Open: open}.Life(t) }
