package scenario_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
)

// manifestOf reads the manifest of an image that is no index.
func manifestOf(t *testing.T, i testenv.ImageInfo) ocispec.Manifest {
	t.Helper()
	return decode[ocispec.Manifest](t, string(testenv.Blob(t, i.Digest)))
}

// whole wants an image to be there, complete and unpacked.
func whole(t *testing.T, d *testenv.DaemonProcess, ref string) {
	t.Helper()
	status := decode[[]struct {
		Name, Status string
		Unpacked     bool
	}](t, d.Minictr("images", "check", "-o", "json", ref))
	if len(status) != 1 || status[0].Status != "complete" || !status[0].Unpacked {
		t.Errorf("%s: %+v", ref, status)
	}
}

// TestPullWithCredentials reaches a registry that has a CA of its own and wants a password, in the ways there are.
func TestPullWithCredentials(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{TLS: true, BasicAuth: true})
	other := testenv.Registry(t, testenv.RegistryOptions{TLS: true, Empty: true}) // for the CA of somebody else
	docker := filepath.Join(testenv.Dir(t), "config.json")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[registry]\ndocker_config = %q\n", docker)})
	mirror := func(ca string) string {
		return hostsDir(t, "tls.example", r.URL()+"\nca = \""+ca+"\"")
	}
	ref, user := "tls.example/busybox:latest", testenv.User+":"+testenv.Password

	refused(t, d.Try("images", "pull", "--hosts-dir", mirror(other.CA), "--user", user, ref), "certificate")
	refused(t, d.Try("images", "pull", "--hosts-dir", mirror(r.CA), ref), "401")
	refused(t, d.Try("images", "pull", r.Ref("busybox")), "401")

	d.Minictr("images", "pull", "-q", "--http-trace", "-u", user, r.Ref("config"))
	secret := base64.StdEncoding.EncodeToString([]byte(user))
	if log := d.Log(); !strings.Contains(log, "/v2/config/manifests/") || strings.Contains(log, secret) || strings.Contains(log, ":"+testenv.Password) {
		t.Error("the trace of requests is missing, or tells the password")
	}
	auth := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Address, secret)
	if err := os.WriteFile(docker, []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pull := range [][]string{{"--hosts-dir", mirror(r.CA), ref}, {r.Ref("busybox")}} {
		out := d.Minictr(append([]string{"images", "pull", "-q"}, pull...)...)
		if strings.TrimSpace(out) != i.Digest {
			t.Errorf("pull %s: printed %q, want %s", pull, out, i.Digest)
		}
		d.Minictr("images", "rm", "--sync", pull[len(pull)-1])
	}
}

// TestPullWithClientCertificate reaches a registry that wants to know its clients.
func TestPullWithClientCertificate(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{TLS: true, ClientCert: true})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := "mutual.example/busybox:latest"
	ca := "\nca = \"" + r.CA + "\""
	refused(t, d.Try("images", "pull", "--hosts-dir", hostsDir(t, "mutual.example", r.URL()+ca), ref), r.Address)
	client := fmt.Sprintf("\nclient = [[%q, %q]]", r.ClientCert, r.ClientKey)
	d.Minictr("images", "pull", "--hosts-dir", hostsDir(t, "mutual.example", r.URL()+ca+client), ref)
	d.Minictr("images", "pull", "--tlscacert", r.CA, "--tlscert", r.ClientCert, "--tlskey", r.ClientKey, r.Ref("schema2"))
}

// TestMirrors pulls through mirrors that fail in their ways.
func TestMirrors(t *testing.T) {
	i := testenv.Image(t, "nginx")
	big := manifestOf(t, i).Layers[1]
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := "mirrored.example/nginx:latest"
	gone := func(t *testing.T) { d.In(t).Minictr("images", "rm", "--sync", ref) }

	t.Run("dies midway", func(t *testing.T) {
		dying := newProxy(t, r, func(_ string, nth int, body io.ReadCloser) io.ReadCloser {
			if nth > 1 {
				return &broken{ReadCloser: body}
			}
			return &broken{ReadCloser: body, left: big.Size / 2}
		})
		good := newProxy(t, r, nil)
		d.In(t).Minictr("images", "pull", "--hosts-dir", hostsDir(t, "mirrored.example", dying.URL, good.URL), ref)
		whole(t, d.In(t), ref)
		_, ranges := good.requests()
		if len(ranges) == 0 {
			t.Error("the second mirror was not asked for the rest of the layer")
		}
		gone(t)
	})
	t.Run("wrong bytes", func(t *testing.T) {
		lying := newProxy(t, r, func(digest string, _ int, body io.ReadCloser) io.ReadCloser {
			if digest == big.Digest.String() {
				return &altered{ReadCloser: body}
			}
			return body
		})
		good := newProxy(t, r, nil)
		refused(t, d.In(t).Try("images", "pull", "--hosts-dir", hostsDir(t, "mirrored.example", lying.URL), ref), big.Digest.String(), "digest")
		if list := d.In(t).Minictr("images", "ls", "-q"); strings.Contains(list, ref) {
			t.Errorf("an image with a wrong layer is listed: %s", list)
		}
		refused(t, d.In(t).Try("content", "get", big.Digest.String()), "not in the content")
		d.In(t).Minictr("images", "pull", "--hosts-dir", hostsDir(t, "mirrored.example", lying.URL, good.URL), ref)
		whole(t, d.In(t), ref)
		if gets, _ := good.requests(); gets[big.Digest.String()] == 0 {
			t.Error("the layer did not come from the good mirror")
		}
		gone(t)
	})
	t.Run("all are dead", func(t *testing.T) {
		refused(t, d.In(t).Try("images", "pull", "--hosts-dir", hostsDir(t, "mirrored.example", "http://127.0.0.1:2"), ref), "127.0.0.1:2", "127.0.0.1:1", "refused")
	})
	t.Run("no such image", func(t *testing.T) {
		refused(t, d.In(t).Try("images", "pull", r.Address+"/nothing:here"), r.Address, "nothing")
		refused(t, d.In(t).Try("images", "pull", "UPPER"), "UPPER")
	})
}

// TestPullPlatforms chooses platforms of an index, in OCI's and Docker's form.
func TestPullPlatforms(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	type entry struct {
		Target    struct{ Digest string }
		Platforms []string
	}
	mounted := filepath.Join(testenv.Dir(t), "tree")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"multi", "schema2-list"} {
		i := testenv.Image(t, repo)
		for _, c := range []struct {
			platform, want string
		}{{"linux/arm64", "linux/arm64 v8\n"}, {"linux/arm/v7", "linux/arm v7\n"}, {"linux/386", "linux/386 \n"}, {"", "linux/amd64 \n"}} {
			pull, mount := []string{"images", "pull"}, []string{"images", "mount"}
			if c.platform != "" {
				pull, mount = append(pull, "--platform", c.platform), append(mount, "--platform", c.platform)
			}
			d.Minictr(append(pull, r.Ref(repo))...)
			d.Minictr(append(mount, r.Ref(repo), mounted)...)
			if got, err := os.ReadFile(filepath.Join(mounted, "platform")); string(got) != c.want {
				t.Errorf("%s %q: the image is of %q (%v), want %q", repo, c.platform, got, err, c.want)
			}
			d.Minictr("images", "unmount", "--rm", mounted)
		}
		d.Minictr("images", "rm", "--sync", r.Ref(repo))
		d.Minictr("images", "pull", "--all-platforms", r.Ref(repo))
		list := decode[[]entry](t, d.Minictr("images", "ls", "-o", "json", "name=="+r.Ref(repo)))
		if len(list) != 1 || list[0].Target.Digest != i.Digest || len(list[0].Platforms) != 4 {
			t.Errorf("%s with all platforms: %+v", repo, list)
		}
		for _, m := range decode[ocispec.Index](t, string(testenv.Blob(t, i.Digest))).Manifests {
			for _, l := range decode[ocispec.Manifest](t, d.Minictr("content", "get", m.Digest.String())).Layers {
				d.Minictr("content", "get", l.Digest.String())
			}
		}
		d.Minictr("images", "rm", "--sync", r.Ref(repo))
	}
	refused(t, d.Try("images", "pull", "--platform", "windows/amd64", r.Ref("multi")), "windows/amd64")
	refused(t, d.Try("images", "pull", "--platform", "a/b/c/d", r.Ref("multi")), "a/b/c/d")
}

// TestPushAndPullBack sends an image to another repository of the same registry, and to another registry.
func TestPushAndPullBack(t *testing.T) {
	source := testenv.Registry(t, testenv.RegistryOptions{})
	target := testenv.Registry(t, testenv.RegistryOptions{TLS: true, BasicAuth: true, Empty: true})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	for _, repo := range []string{"mixed", "schema2", "multi", "schema2-list"} {
		i := testenv.Image(t, repo)
		d.Minictr("images", "pull", "--all-platforms", source.Ref(repo))
		mounted, sent := source.Ref("pushed/"+repo), target.Ref(repo)
		d.Minictr("images", "push", mounted, source.Ref(repo))
		refused(t, d.Try("images", "push", "--tlscacert", target.CA, sent, source.Ref(repo)), "401")
		d.Minictr("images", "push", "--tlscacert", target.CA, "--user", testenv.User+":"+testenv.Password, sent, source.Ref(repo))
		d.Minictr("images", "rm", "--sync", source.Ref(repo))
		d.Minictr("images", "pull", mounted)
		whole(t, d, mounted)
		d.Minictr("images", "rm", "--sync", mounted)
		out := d.Minictr("images", "pull", "-q", "--tlscacert", target.CA, "-u", testenv.User+":"+testenv.Password, sent)
		if strings.TrimSpace(out) != i.Digest {
			t.Errorf("%s: came back as %s, was %s", repo, out, i.Digest)
		}
		d.Minictr("images", "rm", "--sync", sent)
	}
	if !strings.Contains(source.Log(), "mount=sha256") {
		t.Error("no layer was mounted from its first repository")
	}
	refused(t, d.Try("images", "push", target.Ref("none")), "not in namespace")
}

// TestPushOnePlatform pushes a part of an index.
func TestPushOnePlatform(t *testing.T) {
	i := testenv.Image(t, "multi")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	arm := ""
	for _, m := range decode[ocispec.Index](t, string(testenv.Blob(t, i.Digest))).Manifests {
		if m.Platform.Architecture == "arm64" {
			arm = m.Digest.String()
		}
	}
	d.Minictr("images", "pull", "--all-platforms", r.Ref("multi"))
	for repo, flags := range map[string][]string{"arm-by-platform": {"--platform", "linux/arm64"}, "arm-by-digest": {"--manifest", arm}} {
		d.Minictr(append(append([]string{"images", "push", "-q"}, flags...), r.Ref(repo), r.Ref("multi"))...)
		if got := d.Minictr("content", "fetch", "-q", "--platform", "linux/arm64", r.Ref(repo)); strings.TrimSpace(got) != arm {
			t.Errorf("%s: %s, want %s", repo, got, arm)
		}
	}
}
