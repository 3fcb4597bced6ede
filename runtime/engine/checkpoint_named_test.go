package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

// TestNamedCheckpoints writes, lists and removes the directories; what they contain is criu's.
func TestNamedCheckpoints(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		for _, name := range []string{"", ".hidden", "a/b", ".."} {
			if _, err := w.CheckpointNamed(t.Context(), ns, "c", name, "", CheckpointOptions{}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", name, err)
			}
		}
		path, err := w.CheckpointNamed(t.Context(), ns, "c", "one", "", CheckpointOptions{LeaveRunning: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.CheckpointNamed(t.Context(), ns, "c", "one", "", CheckpointOptions{}); !errdefs.IsAlreadyExists(err) {
			t.Errorf("twice: %v", err)
		}
		if err := os.MkdirAll(filepath.Join(filepath.Dir(path), ".half"), 0o700); err != nil {
			t.Fatal(err)
		}
		names, err := w.ListCheckpoints(t.Context(), ns, "c", "")
		if err != nil || len(names) != 1 || names[0] != "one" {
			t.Errorf("%v, %v", names, err)
		}
		if err := w.RemoveCheckpoint(t.Context(), ns, "c", "two", ""); !errdefs.IsNotFound(err) {
			t.Errorf("%v", err)
		}
		if err := w.RemoveCheckpoint(t.Context(), ns, "c", "one", ""); err != nil {
			t.Error(err)
		}
		if names, err := w.ListCheckpoints(t.Context(), ns, "c", ""); err != nil || len(names) != 0 {
			t.Errorf("%v, %v", names, err)
		}
	})
}
