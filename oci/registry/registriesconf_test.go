package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry/registrytest"
)

const registriesExample = `
unqualified-search-registries = ["quay.example", "docker.io"]
[aliases]
"tool" = "tools.example/infra/tool"
[[registry]]
prefix = "a.example"
location = "b.example/mirror"
[[registry.mirror]]
location = "m1.example:5000/a"
insecure = true
[[registry.mirror]]
location = "m2.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m3.example"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "a.example/team"
location = "c.example"
[[registry]]
location = "evil.example"
blocked = true
[[registry]]
prefix = "*.wild.example"
location = "w.example/all"
[[registry]]
prefix = "*.quiet.example"
insecure = true
`

// places renders where a reference is looked for.
func renderPlaces(f registriesFile, ref string) string {
	r, err := name.Parse(ref)
	if err != nil {
		return err.Error()
	}
	list, err := f.places(r.Domain(), r.Path(), r.Digest() != "")
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, p := range list {
		text := p.domain + "/" + p.path
		if p.insecure {
			text += " insecure"
		}
		if p.mirror {
			text += " " + p.capabilities.String()
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func TestPlaces(t *testing.T) {
	f, err := parseRegistries([]byte(registriesExample))
	if err != nil {
		t.Fatal(err)
	}
	byDigest := "@sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]string{
		"other.example/x:1":           "other.example/x",
		"a.example/x/y:1":             "m1.example:5000/a/x/y insecure pull,resolve,referrers; m2.example/x/y pull; m3.example/x/y pull,resolve,referrers; b.example/mirror/x/y",
		"a.example/x" + byDigest:      "m1.example:5000/a/x insecure pull,resolve,referrers; m2.example/x pull; b.example/mirror/x",
		"a.example/team/x:1":          "c.example/x",
		"a.example/teams/x:1":         "m1.example:5000/a/teams/x insecure pull,resolve,referrers; m2.example/teams/x pull; m3.example/teams/x pull,resolve,referrers; b.example/mirror/teams/x",
		"one.wild.example/x:1":        "w.example/all/x",
		"one.two.wild.example:80/x:1": "w.example/all/x",
		"wild.example/x:1":            "wild.example/x",
		"one.quiet.example/x:1":       "one.quiet.example/x insecure",
		"evil.example/x:1":            "registry evil.example is blocked in : permission denied",
	} {
		if got := renderPlaces(f, ref); got != want {
			t.Errorf("%s:\n got %s\nwant %s", ref, got, want)
		}
	}
}

func TestRegistriesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"[[registry]]\ninsecure = true":                                                                       "neither a prefix nor a location",
		"[[registry]]\nprefix = \"a.*.example\"":                                                              "first part of a host",
		"[[registry]]\nlocation = \"https://a.example\"":                                                      "no scheme",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\ninsecure = true":                                "has no location",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"never\"": "digest-only",
		"short-name-mode = \"ask\"":                                                                           "enforcing",
		"[registries.search]\nregistries=[]":                                                                  "line 1",
		"unqualified = 1":                                                                                     "unknown key",
	} {
		if _, err := parseRegistries([]byte(text)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestShortNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registries.conf")
	write := func(p, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(ref string) string {
		names, err := ShortNames(path, ref)
		if err != nil {
			return err.Error()
		}
		return strings.Join(names, " ")
	}
	if got := ask("busybox"); got != "" {
		t.Errorf("no file: %q", got)
	}
	write(path, registriesExample)
	if got := ask("busybox"); !strings.Contains(got, "write the whole name") {
		t.Errorf("two registries: %q", got)
	}
	write(path+".d/10-mode.conf", "short-name-mode = \"permissive\"\n[aliases]\n\"other\" = \"quay.example/other\"")
	for ref, want := range map[string]string{
		"busybox": "quay.example/busybox:latest docker.io/library/busybox:latest", "team/x:1": "quay.example/team/x:1 docker.io/team/x:1",
		"tool": "tools.example/infra/tool:latest", "tool:2": "tools.example/infra/tool:2", "other": "quay.example/other:latest",
		"a.example/x": "", "localhost/x": "", "docker.io/library/x": "", strings.Repeat("a", 64): "",
	} {
		if got := ask(ref); got != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
	write(path+".d/20-one.conf", "short-name-mode = \"disabled\"\nunqualified-search-registries = [\"only.example\"]")
	if got := ask("tool"); got != "only.example/tool:latest" {
		t.Errorf("disabled: %q", got)
	}
}

// TestRegistriesConf fetches a tag through a mirror under another name, and notices when the file changes.
func TestRegistriesConf(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	path := filepath.Join(t.TempDir(), "registries.conf")
	text := fmt.Sprintf("[[registry]]\nprefix = \"far.example/team\"\nlocation = %q\ninsecure = true\n", r.Host()+"/near/copy")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`)
	want := r.PutManifest("near/copy/app", "1", "application/vnd.oci.image.manifest.v1+json", manifest)
	c := New(Options{RegistriesConf: path, DockerConfig: t.TempDir(), Retry: Retry{Attempts: 1}})
	ref, err := name.Parse("far.example/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Resolve(t.Context(), ref)
	if err != nil || got.Digest != want.Digest {
		t.Errorf("resolved to %s, %v; want %s", got.Digest, err, want.Digest)
	}
	if plan := c.Explain(ref); len(plan) != 1 || plan[0].Source != path || !strings.Contains(plan[0].URL, r.Host()) {
		t.Errorf("explained: %+v", plan)
	}
	if err := os.WriteFile(path, []byte("[[registry]]\nlocation = \"far.example\"\nblocked = true"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), ref); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "blocked in "+path) {
		t.Errorf("blocked: %v", err)
	}
}

func FuzzRegistries(f *testing.F) {
	f.Add(registriesExample, "a.example/x/y:1")
	f.Fuzz(func(t *testing.T, text, ref string) {
		file, err := parseRegistries([]byte(text))
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Error(err)
			}
			return
		}
		r, err := name.Parse(ref)
		if err != nil {
			return
		}
		list, err := file.places(r.Domain(), r.Path(), false)
		if err == nil && len(list) == 0 {
			t.Errorf("%s has no place", ref)
		}
	})
}
