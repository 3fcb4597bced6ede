package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// ref makes a reference in a test registry.
func ref(t *testing.T, r *registrytest.Registry, rest string) name.Ref {
	t.Helper()
	return parseRef(t, r.Host()+"/"+rest)
}

func parseRef(t *testing.T, s string) name.Ref {
	t.Helper()
	parsed, err := name.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// client makes one that does not wait, does not see the user's credentials,
// and has these hosts.toml by directory name.
func client(t *testing.T, o Options, hosts map[string]string) *Client {
	t.Helper()
	if o.DockerConfig == "" {
		o.DockerConfig = filepath.Join(t.TempDir(), "none.json")
	}
	if len(hosts) > 0 {
		root := t.TempDir()
		for dir, text := range hosts {
			write(t, filepath.Join(root, dir, "hosts.toml"), text)
		}
		o.HostsDirs = append(o.HostsDirs, root)
	}
	c := New(o)
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(c.Close)
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fails demands an error of a class whose text has all the parts.
func fails(t *testing.T, err, class error, parts ...string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("got %v, want the class %v", err, class)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q lacks %q", err, p)
		}
	}
	if s := err.Error(); strings.Contains(s, "\n") || strings.Contains(s, "failed to") {
		t.Errorf("%q is not one plain line", s)
	}
}

func readBlob(t *testing.T, r io.ReadCloser, want []byte) {
	t.Helper()
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes that differ from the %d expected", len(got), len(want))
	}
}

// random bytes that are the same each time.
func content(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	r := registrytest.New(t, registrytest.Options{})
	r.Stop()
	return r.Host()
}
