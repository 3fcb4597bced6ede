package snapshottest

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

// crashDir tells the test binary, started by Killed, that it is the one to be killed.
const crashDir = "SNAPSHOT_CRASH_DIR"

// Points are the failure points of every snapshotter of directories.
func Points() []string {
	return []string{"snapshot-recorded", "snapshot-filled", "snapshot-committing", "snapshot-doomed", "snapshot-emptied"}
}

// Killed kills a process at every failure point of a snapshot's life, opens what it left, and goes through that life again.
// The end is the same whatever happened. The test binary must have a test TestLife, which calls Life.
func (s Suite) Killed(t *testing.T, points ...string) {
	t.Helper()
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			root := s.root(t)
			child := exec.Command("/proc/self/exe", "-test.run=^TestLife$")
			child.Env = append(os.Environ(), crashDir+"="+root, failpoint.Env+"="+point+"=kill")
			out, err := child.CombinedOutput()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			sn := s.onDisk(t, root)
			if freed, err := sn.Cleanup(context.Background()); freed != 0 || err != nil {
				t.Errorf("Open left %d things to clean up, %v", freed, err)
			}
			s.live(t, sn, root)
		})
	}
}

// Life is what is killed.
func (s Suite) Life(t *testing.T) {
	t.Helper()
	root := os.Getenv(crashDir)
	if root == "" {
		t.Skip("only as a part of TestKilled")
	}
	s.live(t, s.onDisk(t, root), root)
}

func (s Suite) root(t *testing.T) string {
	t.Helper()
	if s.Root == nil {
		return t.TempDir()
	}
	return s.Root(t)
}

// onDisk opens the snapshotter with records that outlive the process.
func (s Suite) onDisk(t *testing.T, root string) snapshot.Snapshotter {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{Path: filepath.Join(root, "meta.db"), Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	sn := s.Open(t, root, snapshot.NewRecords(db, "killed"))
	t.Cleanup(func() {
		if err := sn.Close(); err != nil {
			t.Error(err)
		}
	})
	return sn
}

// live makes a layer and an active snapshot on it, and removes the latter. Each step may have been taken before.
func (s Suite) live(t *testing.T, sn snapshot.Snapshotter, root string) {
	t.Helper()
	ctx := context.Background()
	if _, err := sn.Info(ctx, key("layer")); errdefs.IsNotFound(err) {
		mounts, err := sn.Prepare(ctx, key("making"), "", snapshot.Options{})
		if errdefs.IsAlreadyExists(err) {
			mounts, err = sn.Mounts(ctx, key("making"))
		}
		must(t, err)
		with(t, mounts, func(root string) { must(t, os.WriteFile(root+"/f", []byte("1"), 0o644)) })
		must(t, sn.Commit(ctx, "test", "layer", "making", nil))
	}
	mounts, err := sn.Prepare(ctx, key("active"), "layer", snapshot.Options{})
	if errdefs.IsAlreadyExists(err) {
		mounts, err = sn.Mounts(ctx, key("active"))
	}
	must(t, err)
	must(t, mount.Temp(ctx, mounts, func(root string) error {
		names, err := os.ReadDir(root)
		if !slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "f" }) {
			t.Errorf("on the layer there is %v, %v", names, err)
		}
		return nil
	}))
	must(t, sn.Remove(ctx, key("active")))
	infos, err := sn.List(ctx, "")
	if err != nil || len(infos) != 1 || infos[0].Name != "layer" {
		t.Errorf("records %v, %v", infos, err)
	}
	b := &bench{Suite: s, root: root}
	if left := b.dirs(t); len(left) != 1 {
		t.Errorf("of snapshots there is %v", left)
	}
}
