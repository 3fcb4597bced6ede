package content_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// TestTake moves files into the store.
func TestTake(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	d := digest.FromString("taken")
	for range 2 { // the second time it is there
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("taken"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Take(path, d); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(s.Path(d)); err != nil || info.Mode() != 0o444 {
		t.Errorf("%v, %v", info, err)
	}
	if err := s.Take(filepath.Join(dir, "none"), digest.FromString("other")); err == nil {
		t.Errorf("without the file: %v", err)
	}
	if err := s.Take(filepath.Join(dir, "file"), "sha256:../x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("what is no digest: %v", err)
	}
}
