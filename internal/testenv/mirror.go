package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Mirrors writes a certs.d directory by which every one of the hosts is this registry. containerd and minid read it.
func (r *RegistryServer) Mirrors(t testing.TB, hosts ...string) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "certs.d")
	text := fmt.Sprintf("server = %[1]q\n[host.%[1]q]\ncapabilities = [\"pull\", \"resolve\"]\n", r.URL())
	for _, host := range hosts {
		if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// SuiteHosts are the registries that the CRI's conformance suite names.
func SuiteHosts() []string { return []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io"} }
