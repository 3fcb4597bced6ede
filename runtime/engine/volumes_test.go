package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMakeVolumes: directories are made below the root filesystem and nowhere else.
func TestMakeVolumes(t *testing.T) {
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "rootfs"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(root, "there"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	c := Container{MakeVolumes: true, ImageConfig: ocispec.ImageConfig{Volumes: map[string]struct{}{
		"/there": {}, "/data/deep": {}, "../up": {}, "/": {}, "/link/in": {},
	}}}
	warnings := makeVolumes(root, c)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "/link/in") {
		t.Errorf("warnings %q", warnings)
	}
	for _, d := range []string{"there", "data/deep", "up"} {
		if info, err := os.Stat(filepath.Join(root, d)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", d, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "in")); !os.IsNotExist(err) {
		t.Errorf("a directory outside: %v", err)
	}
	c.MakeVolumes = false
	if err := os.RemoveAll(filepath.Join(root, "data")); err != nil {
		t.Fatal(err)
	}
	makeVolumes(root, c)
	if _, err := os.Stat(filepath.Join(root, "data")); !os.IsNotExist(err) {
		t.Errorf("made without being asked: %v", err)
	}
}
