package apparmor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func host(t *testing.T) Host {
	dir := t.TempDir()
	return Host{Module: filepath.Join(dir, "enabled"), Security: dir, Rules: filepath.Join(dir, "rules")}
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

// TestHost reads what a kernel shows; a kernel with AppArmor is not needed.
func TestHost(t *testing.T) {
	h := host(t)
	if _, err := h.Profiles(); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no AppArmor") {
		t.Errorf("%v", err)
	}
	write(t, h.Module, "Y\n")
	write(t, filepath.Join(h.Security, "profiles"), "mini-default (enforce)\n/usr/bin/man (complain)\n")
	list, err := h.Profiles()
	if err != nil || len(list) != 2 || list[1] != (Loaded{"/usr/bin/man", "complain"}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := h.Ensure(t.Context()); err != nil {
		t.Errorf("a profile that is loaded is loaded again: %v", err)
	}
	if err := h.Unload("other"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	write(t, filepath.Join(h.Security, ".remove"), "")
	if err := h.Unload(Profile); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(h.Security, ".remove")); err != nil || string(data) != Profile {
		t.Errorf("%q, %v", data, err)
	}
}

func TestText(t *testing.T) {
	h := host(t)
	bare := h.Text()
	if !strings.HasPrefix(bare, "@{PROC}=/proc/\n\nprofile "+Profile+" flags=") || strings.Contains(bare, "#include") {
		t.Errorf("without the machine's files:\n%s", bare)
	}
	write(t, filepath.Join(h.Rules, "tunables/global"), "")
	write(t, filepath.Join(h.Rules, "abstractions/base"), "")
	if full := h.Text(); !strings.HasPrefix(full, "#include <tunables/global>\n") || !strings.Contains(full, "  #include <abstractions/base>\n") || strings.Contains(full, "@{PROC}=") {
		t.Errorf("with them:\n%s", full)
	}
}
