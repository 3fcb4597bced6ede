package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestFindInDockerConfig(t *testing.T) {
	config, err := parseDockerConfig([]byte(`{
  "auths": {
    "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
    "quay.io": {"auth": "cXVheTpwOnc="},
    "https://ghcr.io/v2/": {"username": "g", "password": "s"},
    "idt.example": {"auth": "dTpwdw==", "identitytoken": "idt"},
    "reg.example:5000": {"registrytoken": "rt"},
    "bad.example": {"auth": "!"}
  },
  "credHelpers": {"helped.example": "one", "docker.io": "hubhelper"}
}`))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]login{
		"registry-1.docker.io": {username: "hub", password: "pw", helper: "hubhelper", key: dockerKey},
		"quay.io":              {username: "quay", password: "p:w", key: "quay.io"},
		"ghcr.io":              {username: "g", password: "s", key: "ghcr.io"},
		"idt.example":          {username: "u", password: "pw", identityToken: "idt", key: "idt.example"},
		"reg.example:5000":     {registryToken: "rt", key: "reg.example:5000"},
		"reg.example":          {key: "reg.example"},
		"helped.example":       {helper: "one", key: "helped.example"},
	} {
		got, err := config.find(host)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", host, got, err, want)
		}
	}
	if _, err := config.find("bad.example"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	all, _ := parseDockerConfig([]byte(`{"credsStore": "all", "credHelpers": {"https://index.docker.io/v1/": "hub"}}`))
	if l, _ := all.find("anything"); l.helper != "all" {
		t.Errorf("got %+v", l)
	}
	if l, _ := all.find(dockerHost); l.helper != "hub" || l.key != dockerKey {
		t.Errorf("got %+v", l)
	}
}

func FuzzParseDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths": {"a": {"auth": "aHViOnB3"}}, "credHelpers": {"b": "c"}, "credsStore": "d"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := parseDockerConfig(data)
		if err != nil {
			return
		}
		for host := range config.Auths {
			if _, err := config.find(host); err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", data, err)
			}
		}
	})
}

func TestDockerConfigPath(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "auth.json"), "{}")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", dir)
	for in, want := range map[string]string{
		dir:                             "config.json",
		filepath.Join(dir, "auth.json"): "auth.json",
		filepath.Join(dir, "none.json"): "none.json",
		filepath.Join(dir, "none"):      "none/config.json",
		"":                              ".docker/config.json",
	} {
		if got, err := dockerConfigPath(in); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "elsewhere"))
	if got, _ := dockerConfigPath(""); got != filepath.Join(dir, "elsewhere/config.json") {
		t.Errorf("got %q", got)
	}
}

// helper puts a credential helper on the PATH; the script sees the host as $host.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "docker-credential-"+name), "#!/bin/sh\n[ \"$1\" = get ] || exit 9\nread -r host\n"+script)
	if err := os.Chmod(filepath.Join(dir, "docker-credential-"+name), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestCredentialHelpers(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "token", Username: "u", Password: "p", IdentityToken: "idt"})
	r.PutImage("a", "1", nil)
	helper(t, "good", `[ "$host" = "`+r.Host()+`" ] && echo '{"ServerURL":"x","Username":"u","Secret":"p"}'`)
	helper(t, "token", `echo '{"Username":"<token>","Secret":"idt"}'`)
	helper(t, "empty", `echo "credentials not found in native keychain"; exit 1`)
	helper(t, "broken", `echo "the keychain is locked"; exit 1`)
	for config, wrong := range map[string]string{
		`{"credHelpers": {"` + r.Host() + `": "good"}}`: "",
		`{"credsStore": "good"}`:                        "",
		`{"credsStore": "token"}`:                       "",
		`{"credsStore": "empty", "auths": {"` + r.Host() + `": {"username":"u","password":"p"}}}`: "",
		`{"credsStore": "empty"}`:  "log in with",
		`{"credsStore": "broken"}`: "log in with",
		`{"credsStore": "absent"}`: "log in with",
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		write(t, path, config)
		_, err := client(t, Options{DockerConfig: path}, nil).Resolve(t.Context(), ref(t, r, "a:1"))
		if wrong == "" && err != nil {
			t.Errorf("%s: %v", config, err)
		}
		if wrong != "" && (!errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%s: got %v", config, err)
		}
	}
}

func TestHelperTroubleIsTold(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "basic", Username: "u", Password: "p"})
	helper(t, "locked", `echo "the keychain is locked"; exit 1`)
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, `{"credsStore": "locked"}`)
	_, err := client(t, Options{DockerConfig: path}, nil).Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrUnauthenticated, "docker-credential-locked", "the keychain is locked")
	if _, err := askHelper(t.Context(), "../evil", "x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path was run: %v", err)
	}
}
