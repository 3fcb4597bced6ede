package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestAppArmor reads what a kernel shows; a kernel with AppArmor is not needed.
func TestAppArmor(t *testing.T) {
	dir := t.TempDir()
	a := apparmor{module: filepath.Join(dir, "enabled"), security: dir}
	if _, err := a.profiles(); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no AppArmor") {
		t.Errorf("%v", err)
	}
	for name, text := range map[string]string{"enabled": "Y\n", "profiles": "mini-default (enforce)\n/usr/bin/man (complain)\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := a.profiles()
	if err != nil || len(rows) != 2 || rows[1] != (profileRow{"/usr/bin/man", "complain"}) {
		t.Errorf("%v, %v", rows, err)
	}
	if err := a.unload("other"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".remove"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.unload(apparmorProfile); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, ".remove")); err != nil || string(data) != apparmorProfile {
		t.Errorf("%q, %v", data, err)
	}
	if !strings.Contains(apparmorText, "profile "+apparmorProfile+" ") {
		t.Error("the profile has another name")
	}
}
