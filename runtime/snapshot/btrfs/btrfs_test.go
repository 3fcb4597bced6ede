package btrfs

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
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

// suite has a directory on one disk for each test.
func suite(t *testing.T) snapshottest.Suite {
	t.Helper()
	disk := testenv.Btrfs(t)
	return snapshottest.Suite{Open: open, Root: func(t *testing.T) string {
		t.Helper()
		root, err := os.MkdirTemp(disk, "test-")
		if err != nil {
			t.Fatal(err)
		}
		return root
	}}
}

func TestContract(t *testing.T) { suite(t).Run(t) }

func TestKilled(t *testing.T) { suite(t).Killed(t, snapshottest.Points()...) }

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { snapshottest.Suite{Open: open}.Life(t) }

func TestArguments(t *testing.T) {
	if unsafe.Sizeof(volArgs{}) != 4096 || unsafe.Sizeof(volArgsV2{}) != 4096 {
		t.Errorf("sizes %d and %d", unsafe.Sizeof(volArgs{}), unsafe.Sizeof(volArgsV2{}))
	}
	if err := new(volArgsV2).named(strings.Repeat("x", 256)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a long name: %v", err)
	}
}

func TestElsewhere(t *testing.T) {
	if _, err := Open(context.Background(), Options{Root: "/proc/self", Log: slog.New(slog.DiscardHandler)}); !errdefs.IsNotImplemented(err) {
		t.Errorf("%v", err)
	}
}

// TestShares: what a snapshot has of its parent counts as the parent's, and so does what is deleted.
func TestShares(t *testing.T) {
	ctx, root := context.Background(), testenv.Btrfs(t)
	s := open(t, root, snapshottest.NewRecords())
	key := func(name string) snapshot.Key { return snapshot.Key{Namespace: "ns", Name: name} }
	fill := func(name, parent string, edit func(root string) error) {
		t.Helper()
		mounts, err := s.Prepare(ctx, key(name), parent, snapshot.Options{})
		if err == nil {
			err = mount.Temp(ctx, mounts, edit)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill("making", "", func(root string) error { return os.WriteFile(root+"/big", make([]byte, 8<<20), 0o644) })
	if err := s.Commit(ctx, "ns", "layer", "making", nil); err != nil {
		t.Fatal(err)
	}
	fill("active", "layer", func(root string) error {
		return os.WriteFile(root+"/small", make([]byte, 1<<20), 0o644)
	})
	if err := s.Sync(ctx); err != nil { // blocks are counted when they are allocated
		t.Fatal(err)
	}
	u, err := s.Usage(ctx, key("active"))
	if err != nil || u.Size < 1<<20 || u.Size > 2<<20 || u.Inodes != 2 { // the file, and the root, which has a new name
		t.Errorf("%+v, %v", u, err)
	}
}
