package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestOthersReadExports gives an export to skopeo and umoci.
func TestOthersReadExports(t *testing.T) {
	testenv.Need(t, "skopeo", "umoci")
	i := testenv.Image(t, "whiteouts")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dir := testenv.Dir(t)
	archive := filepath.Join(dir, "export.tar")
	d.Minictr("images", "pull", r.Ref("whiteouts"))
	d.Minictr("images", "export", archive, r.Ref("whiteouts"))

	if got := strings.TrimSpace(testenv.Run(t, "skopeo", "inspect", "--format", "{{.Digest}}", "oci-archive:"+archive)); got != i.Digest {
		t.Errorf("skopeo sees digest %s, want %s", got, i.Digest)
	}
	testenv.Run(t, "skopeo", "inspect", "docker-archive:"+archive)
	layout := filepath.Join(dir, "layout")
	testenv.Run(t, "skopeo", "copy", "oci-archive:"+archive, "oci:"+layout+":it")
	testenv.Run(t, "umoci", "unpack", "--image", layout+":it", filepath.Join(dir, "bundle"))
	for name, want := range map[string]bool{"kept": true, "removed": false, "opaque/new": true, "opaque/old": false, "replaced/in": true} {
		_, err := os.Lstat(filepath.Join(dir, "bundle/rootfs", name))
		if (err == nil) != want {
			t.Errorf("umoci's %s: there is %v, want %v", name, err == nil, want)
		}
	}
}

// TestImportsOfOthers imports what skopeo wrote, in both formats, and runs it.
func TestImportsOfOthers(t *testing.T) {
	testenv.Need(t, "skopeo")
	testenv.Image(t, "schema2")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dir := testenv.Dir(t)
	for _, format := range []string{"oci-archive", "docker-archive"} {
		archive := filepath.Join(dir, format+".tar")
		name := "example.com/from/" + format + ":v1"
		testenv.Run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+r.Ref("schema2"), format+":"+archive+":"+name)
		d.Minictr("images", "import", archive)
		if out := d.Minictr("run", "--rm", name, "imported", "cat", "/docker"); out != "schema 2\n" {
			t.Errorf("%s: the container wrote %q", format, out)
		}
	}
}

// TestMirrorFailsOver pulls an image of a registry that does not exist, by its mirrors, of which the first is down.
func TestMirrorFailsOver(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{TLS: true})
	hosts := filepath.Join(testenv.Dir(t), "registry.example")
	if err := os.Mkdir(hosts, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "server = \"http://127.0.0.1:9\"\n" +
		"[host.\"http://127.0.0.1:1\"]\ncapabilities = [\"pull\", \"resolve\"]\n" +
		"[host.\"" + r.URL() + "\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"" + r.CA + "\"\n"
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[registry]\nconfig_path = \"" + filepath.Dir(hosts) + "\""})
	d.Minictr("images", "pull", "registry.example/busybox:latest")
	if list := d.Minictr("images", "ls"); !strings.Contains(list, i.Digest) {
		t.Errorf("digest %s is not listed:\n%s", i.Digest, list)
	}
	r.Stop()
	o := d.Try("images", "pull", "registry.example/nginx:latest")
	if o.Code == 0 {
		t.Fatal("a pull from registries that are down worked")
	}
	for _, host := range []string{"127.0.0.1:1", r.Address, "127.0.0.1:9"} {
		if !strings.Contains(o.Stderr, host) {
			t.Errorf("the error does not say that %s was tried:\n%s", host, o.Stderr)
		}
	}
}
