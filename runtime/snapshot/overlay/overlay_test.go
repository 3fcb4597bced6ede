package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// TestVolatile: the option is given where it is wanted, and a mount that a power cut has ended is no hindrance.
func TestVolatile(t *testing.T) {
	s := openStore(t, t.TempDir())
	ctx := context.Background()
	if _, err := s.PrepareLayer(ctx, key("making")); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, "ns", "layer", "making", nil); err != nil {
		t.Fatal(err)
	}
	for name, volatile := range map[string]bool{"careful": false, "volatile": true} {
		mounts, err := s.Prepare(ctx, key(name), "layer", snapshot.Options{Volatile: volatile})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(mounts[0].Options, "volatile"); got != volatile {
			t.Errorf("%s: mounted with %v", name, mounts[0].Options)
		}
	}
	r, _, err := s.Get(key("volatile"))
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.Dir(r.Dir), "work", "work", "incompat", "volatile")
	if err := os.MkdirAll(mark, 0o755); err != nil { // as the kernel leaves it
		t.Fatal(err)
	}
	mounts, err := s.Mounts(ctx, key("volatile"))
	if err != nil {
		t.Fatal(err)
	}
	if err := mount.Temp(ctx, mounts, func(string) error { return nil }); err != nil {
		t.Errorf("mounted again: %v", err)
	}
}
