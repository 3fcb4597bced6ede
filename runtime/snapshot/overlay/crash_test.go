package overlay

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

// crashDir tells the test binary, started by TestKilled, that it is the one to be killed.
const crashDir = "OVERLAY_CRASH_DIR"

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

// TestKilled kills a process at every failure point of a snapshot's life, opens what it left, and goes through that life
// again. The end is the same whatever happened.
func TestKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, point := range []string{"snapshot-recorded", "snapshot-filled", "snapshot-committing", "snapshot-doomed", "snapshot-emptied"} {
		t.Run(point, func(t *testing.T) {
			root := t.TempDir()
			child := exec.Command("/proc/self/exe", "-test.run=^TestLife$")
			child.Env = append(os.Environ(), crashDir+"="+root, failpoint.Env+"="+point+"=kill")
			out, err := child.CombinedOutput()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			s := openStore(t, root)
			if freed, err := s.Cleanup(context.Background()); freed != 0 || err != nil {
				t.Errorf("Open left %d things to clean up, %v", freed, err)
			}
			live(t, s)
		})
	}
}

// TestLife is what is killed.
func TestLife(t *testing.T) {
	root := os.Getenv(crashDir)
	if root == "" {
		t.Skip("only as a part of TestKilled")
	}
	live(t, openStore(t, root))
}

// live makes a layer and an active snapshot on it, and removes the latter. Each step may have been taken before.
func live(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	if _, err := s.Info(ctx, key("layer")); errdefs.IsNotFound(err) {
		mounts, err := s.Prepare(ctx, key("making"), "", snapshot.Options{})
		if errdefs.IsAlreadyExists(err) {
			mounts, err = s.Mounts(ctx, key("making"))
		}
		if err == nil {
			err = mount.Temp(ctx, mounts, func(root string) error { return os.WriteFile(root+"/f", []byte("1"), 0o644) })
		}
		if err == nil {
			err = s.Commit(ctx, "ns", "layer", "making", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Prepare(ctx, key("active"), "layer", snapshot.Options{})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, key("active")); err != nil {
		t.Fatal(err)
	}
	infos, err := s.List(ctx, "")
	if err != nil || len(infos) != 1 || infos[0].Name != "layer" {
		t.Errorf("records %v, %v", infos, err)
	}
	entries, err := os.ReadDir(filepath.Dir(s.Dir(1)))
	if err != nil || len(entries) != 1 {
		t.Errorf("directories %v, %v", entries, err)
	}
	if names, err := os.ReadDir(s.fs(mustNumber(t, s))); err != nil || !slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "f" }) {
		t.Errorf("the layer has %v, %v", names, err)
	}
}

func mustNumber(t *testing.T, s *Store) uint64 {
	t.Helper()
	r, _, err := s.Get(key("layer"))
	if err != nil {
		t.Fatal(err)
	}
	return r.Dir
}
