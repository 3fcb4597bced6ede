package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
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

func TestDefaultOptions(t *testing.T) {
	values := map[string]string{"index": "Y\n", "redirect_dir": "N\n"}
	got := defaultOptions(func(path string) ([]byte, error) {
		value, ok := values[filepath.Base(path)]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(value), nil
	})
	if fmt.Sprint(got) != "[index=off]" {
		t.Errorf("options %v", got)
	}
}

func TestOpenWhereOverlaysDoNotWork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	_, err := Open(context.Background(), Options{Root: t.TempDir(), Records: snapshottest.NewRecords(),
		Log: slog.New(slog.DiscardHandler), MountOptions: []string{"no-such-option"}})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "native") {
		t.Errorf("error %v", err)
	}
}

// BenchmarkPrepare is the part of a container's start that is here.
func BenchmarkPrepare(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	ctx := context.Background()
	s, err := Open(ctx, Options{Root: b.TempDir(), Records: snapshottest.NewRecords(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	parent := ""
	for i := range 30 {
		name := fmt.Sprint("layer", i)
		if _, err := s.Prepare(ctx, snapshot.Key{Namespace: "ns", Name: "making"}, parent, snapshot.Options{}); err != nil {
			b.Fatal(err)
		}
		if err := s.Commit(ctx, "ns", name, "making", nil); err != nil {
			b.Fatal(err)
		}
		parent = name
	}
	root, key := b.TempDir(), snapshot.Key{Namespace: "ns", Name: "active"}
	for b.Loop() {
		mounts, err := s.Prepare(ctx, key, parent, snapshot.Options{})
		if err == nil {
			err = mount.All(mounts, root)
		}
		if err == nil {
			err = mount.Unmount(root)
		}
		if err == nil {
			err = s.Remove(ctx, key)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
