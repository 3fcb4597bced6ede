package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPinned(t *testing.T) {
	c := Default()
	c.Image.PinnedImages = []string{"busybox", "registry.example/pause:3", "registry.example/infra/*", "*critical*"}
	d := &Daemon{}
	d.config.Store(&c)
	for image, want := range map[string]bool{
		"docker.io/library/busybox:latest": true, "docker.io/library/busybox:1": false, "registry.example/pause:3": true, "registry.example/pause:4": false,
		"registry.example/infra/a:b": true, "other.example/critical-one:1": true, "other.example/one:1": false,
	} {
		if got := d.pinned(image); got != want {
			t.Errorf("%s: pinned %t", image, got)
		}
	}
}

func TestAuthFile(t *testing.T) {
	dir := t.TempDir()
	// The sum is that of "docker.io/library/busybox".
	for _, name := range []string{"ns.json", "ns-9d1e243a370d796821703defb72f477f8800c4321c055b247a9664a352d86046.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := RegistryConfig{NamespacedAuthDir: dir}
	for _, row := range []struct{ namespace, image, want string }{
		{"ns", "a/b", "ns.json"}, {"ns", "docker.io/library/busybox", "ns-9d1e243a370d796821703defb72f477f8800c4321c055b247a9664a352d86046.json"}, {"other", "a/b", ""}, {"", "a/b", ""}, {"../ns", "a/b", ""},
	} {
		got := r.authFile(row.namespace, row.image)
		if row.want == "" && got != "" || row.want != "" && got != filepath.Join(dir, row.want) {
			t.Errorf("%q %q: %q", row.namespace, row.image, got)
		}
	}
}
