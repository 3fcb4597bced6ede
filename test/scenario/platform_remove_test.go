package scenario_test

import (
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestRemovePlatform takes one platform out of an image, and leaves the others.
func TestRemovePlatform(t *testing.T) {
	testenv.Image(t, "multi")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	n := newNerd(t, d)
	image := r.Ref("multi")
	n.do("pull", "-q", "--all-platforms", image)
	blobs := func() int { return strings.Count(d.Minictr("content", "ls", "-q"), "\n") }
	before := blobs()
	n.do("create", "--name", "user", "--network", "none", "--platform", "linux/amd64", image, "true")
	refused(t, n.try(nil, "rmi", "--platform", "linux/amd64", image), "container user was made of it")
	if out := n.do("rmi", "--platform", "linux/arm64", image); !strings.HasPrefix(out, "Deleted: sha256:") {
		t.Errorf("rmi printed %q", out)
	}
	if after := blobs(); after >= before {
		t.Errorf("%d blobs, before %d", after, before)
	}
	refused(t, n.try(nil, "rmi", "--platform", "linux/arm64", image), "not in the content")
	refused(t, n.try(nil, "rmi", "--platform", "linux/none", image), "none")
	if out := n.do("start", "-a", "user"); out != "" {
		t.Errorf("the platform that stays says %q", out)
	}
	n.do("rm", "user")
	n.do("pull", "-q", "--platform", "linux/arm64", image)
	if again := blobs(); again < before-1 {
		t.Errorf("%d blobs after another pull, before %d", again, before)
	}
	n.do("pull", "-q", r.Ref("busybox"))
	refused(t, n.try(nil, "rmi", "--platform", "linux/amd64", r.Ref("busybox")), "no other platform")
}
