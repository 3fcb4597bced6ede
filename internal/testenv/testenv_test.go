package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"slices"
	"testing"
)

func TestRegistry(t *testing.T) {
	tests := []struct {
		name    string
		options RegistryOptions
	}{
		{"plain", RegistryOptions{}},
		{"empty", RegistryOptions{Empty: true}},
		{"TLS and password", RegistryOptions{TLS: true, BasicAuth: true, Empty: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := Registry(t, test.options)
			status := get(t, r, "/v2/", true)
			if status != http.StatusOK {
				t.Errorf("/v2/: status %d\n%s", status, r.Log())
			}
			want := http.StatusOK
			if test.options.Empty {
				want = http.StatusNotFound
			}
			if status := get(t, r, "/v2/busybox/manifests/latest", true); status != want {
				t.Errorf("busybox: status %d, want %d", status, want)
			}
			if test.options.BasicAuth {
				if status := get(t, r, "/v2/", false); status != http.StatusUnauthorized {
					t.Errorf("without a password: status %d", status)
				}
			}
			address := r.Address
			r.Stop()
			r.Start()
			if r.Address != address {
				t.Errorf("after a restart it listens on %s, not on %s", r.Address, address)
			}
		})
	}
}

func get(t *testing.T, r *RegistryServer, path string, password bool) int {
	t.Helper()
	transport := &http.Transport{}
	if r.options.TLS {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if password && r.options.BasicAuth {
		req.SetBasicAuth(User, Password)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestAdded(t *testing.T) {
	before := snapshot{"mount /a": true, "link mini-test-1": true}
	now := snapshot{
		"mount /a": true, "link mini-test-1": true,
		"mount /tmp/mini-test-2/x": true, "cgroup /other": true, "process 7 /bin/x cgroup /mini-test-2/y": true,
	}
	t.Setenv(strictEnv, "")
	want := []string{"mount /tmp/mini-test-2/x", "process 7 /bin/x cgroup /mini-test-2/y"}
	if got := before.added(now, []string{"mini-test-2"}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv(strictEnv, "1")
	if got := before.added(now, []string{"no-such"}); !slices.Equal(got, []string{"cgroup /other", "mount /tmp/mini-test-2/x"}) {
		t.Errorf("strict: got %q", got)
	}
}

func TestLookSeesTheHost(t *testing.T) {
	now := look()
	if !now["mount /proc"] || !now["link lo"] {
		t.Error("neither /proc nor lo are seen")
	}
}

// TestLeftoversOfNetworks finds a daemon's links and tables, which are called after it in three ways.
func TestLeftoversOfNetworks(t *testing.T) {
	Network(t)
	Need(t, "nft")
	before := look()
	const daemon = "mini-test-1"
	links := []string{"mv274600112233", "mi274600112233", "mini-test-2746"}
	for _, name := range links {
		Run(t, "ip", "link", "add", name, "type", "bridge")
	}
	Run(t, "ip", "link", "add", "other", "type", "bridge")
	Run(t, "nft", "add", "table", "inet", daemon)
	left := before.added(look(), append(linkMarks(daemon), daemon))
	want := []string{"link mi274600112233", "link mini-test-2746", "link mv274600112233", "table inet mini-test-1"}
	if !slices.Equal(left, want) {
		t.Errorf("left over %q, want %q", left, want)
	}
}
