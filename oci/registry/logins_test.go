package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestLoginsInTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(`{"psFormat": "x", "auths": {"other:5000": {"auth": "YTpi"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{"reg.example:5000": `"reg.example:5000"`, "docker.io": `"https://index.docker.io/v1/"`} {
		at, err := StoreLogin(t.Context(), dir, domain, Login{Username: "u", Password: "p:q"})
		if err != nil || at != path {
			t.Fatalf("store: %q, %v", at, err)
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), want) || !strings.Contains(string(data), `"psFormat"`) || !strings.Contains(string(data), "other:5000") {
			t.Errorf("%s: the file has %s, %v", domain, data, err)
		}
		if l, err := StoredLogin(t.Context(), dir, domain); err != nil || l != (Login{Username: "u", Password: "p:q"}) {
			t.Errorf("%s: stored %+v, %v", domain, l, err)
		}
		if found, err := EraseLogin(t.Context(), dir, domain); !found || err != nil {
			t.Errorf("%s: erase: %v, %v", domain, found, err)
		}
		if found, err := EraseLogin(t.Context(), dir, domain); found || err != nil {
			t.Errorf("%s: second erase: %v, %v", domain, found, err)
		}
		if l, err := StoredLogin(t.Context(), dir, domain); err != nil || l != (Login{}) {
			t.Errorf("%s: after erase: %+v, %v", domain, l, err)
		}
	}
}

func TestLoginsOfAHelper(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ncat > " + dir + "/$1\n[ $1 = get ] && echo '{\"Username\":\"h\",\"Secret\":\"s\"}'\nexit 0\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-fake"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore": "fake"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if at, err := StoreLogin(t.Context(), dir, "r:1", Login{Username: "u", Password: "p"}); err != nil || at != "" {
		t.Fatalf("store: %q, %v", at, err)
	}
	stored, err := os.ReadFile(filepath.Join(dir, "store"))
	if err != nil || string(stored) != `{"Secret":"p","ServerURL":"r:1","Username":"u"}` {
		t.Errorf("the helper got %s, %v", stored, err)
	}
	if l, err := StoredLogin(t.Context(), dir, "r:1"); err != nil || l.Username != "h" || l.Password != "s" {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, err := EraseLogin(t.Context(), dir, "r:1"); err != nil {
		t.Error(err)
	}
	if erased, err := os.ReadFile(filepath.Join(dir, "erase")); err != nil || string(erased) != "r:1" {
		t.Errorf("the helper was to erase %s, %v", erased, err)
	}
}

func TestVerify(t *testing.T) {
	for _, auth := range []registrytest.Auth{registrytest.AuthBasic, registrytest.AuthToken} {
		r := registrytest.New(t, registrytest.Options{Auth: auth, Username: "u", Password: "p"})
		domain := strings.TrimPrefix(r.URL(), "http://")
		for password, good := range map[string]bool{"p": true, "wrong": false} {
			c := New(Options{DockerConfig: t.TempDir(), Override: &HostOverride{PlainHTTP: true, Username: "u", Password: password}})
			err := c.Verify(t.Context(), domain)
			c.Close()
			if (err == nil) != good || !good && !errdefs.IsUnauthorized(err) {
				t.Errorf("password %s: %v", password, err)
			}
		}
	}
}
