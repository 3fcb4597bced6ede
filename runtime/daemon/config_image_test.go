package daemon

import "testing"

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
