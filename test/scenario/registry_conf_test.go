package scenario_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestRegistriesConf pulls through a registries.conf: from a mirror, from another location, by short names; what is blocked
// is refused, and a change counts at once.
func TestRegistriesConf(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	conf := filepath.Join(testenv.Dir(t), "registries.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf(`
unqualified-search-registries = ["none.example", %[1]q]
short-name-mode = "permissive"
[aliases]
"shell" = "moved.example/team/busybox"
[[registry]]
prefix = "moved.example/team"
location = %[1]q
insecure = true
[[registry]]
location = "none.example"
[[registry.mirror]]
location = "127.0.0.1:1"
insecure = true
[[registry.mirror]]
location = %[1]q
insecure = true
[[registry]]
location = "evil.example"
blocked = true
`, r.Address))
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[registry]\nregistries_conf = %q\n[image]\nlayer_part_size = \"1MiB\"\n", conf)})
	for _, name := range []string{"moved.example/team/busybox:latest", "none.example/busybox:latest"} {
		d.Minictr("images", "pull", "-q", name)
		if got := d.Minictr("run", "--rm", name, "x", "echo", "works"); got != "works\n" {
			t.Errorf("%s: printed %q", name, got)
		}
	}
	d.Minictr("images", "pull", "-q", "shell")
	if got := d.Minictr("run", "--rm", "shell", "x", "echo", "short"); got != "short\n" {
		t.Errorf("an alias: printed %q", got)
	}
	d.Minictr("images", "pull", "-q", "nginx") // the first that has it is the mirror of the first; its layers come in parts
	whole(t, d, "none.example/nginx:latest")
	refused(t, d.Try("images", "pull", "evil.example/busybox:latest"), "evil.example is blocked in "+conf)
	write("[[registry]]\nlocation = \"moved.example\"\nblocked = true\n")
	refused(t, d.Try("images", "pull", "moved.example/team/busybox:latest"), "moved.example is blocked")
	write("[[registry]]\nlocated = \"moved.example\"\n")
	refused(t, d.Try("images", "pull", "moved.example/team/busybox:latest"), conf, "line 2", "located")
}

// TestNamespacedAuth pulls with credentials that are kept for a namespace and an image alone, and pins an image.
func TestNamespacedAuth(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{BasicAuth: true})
	auths := filepath.Join(testenv.Dir(t), "auths")
	if err := os.Mkdir(auths, 0o700); err != nil {
		t.Fatal(err)
	}
	ref := r.Ref("busybox")
	secret := base64.StdEncoding.EncodeToString([]byte(testenv.User + ":" + testenv.Password))
	sum := sha256.Sum256([]byte(ref))
	file := filepath.Join(auths, "team-"+hex.EncodeToString(sum[:])+".json")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Address, secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf(
		"[cri]\nnamespaced_auth_dir = %q\n[image]\npinned_images = [%q]\n", auths, r.Address+"/*")})
	c := testenv.DialCRI(t, d.Address)
	pull := func(namespace string) error {
		config := c.PodConfig("p", func(p *runtimeapi.PodSandboxConfig) { p.Metadata.Namespace = namespace })
		_, err := c.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}, SandboxConfig: config})
		return err
	}
	declined(t, "a namespace without credentials", pull("others"), codes.Unauthenticated, "401")
	if err := pull("team"); err != nil {
		t.Fatalf("the namespace that has them: %v", err)
	}
	s, err := c.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	if err != nil || !s.GetImage().GetPinned() {
		t.Errorf("the image is not pinned: %v, %v", s, err)
	}
	if strings.Contains(d.Log(), secret) || strings.Contains(d.Log(), ":"+testenv.Password) {
		t.Error("the log tells the password")
	}
}
