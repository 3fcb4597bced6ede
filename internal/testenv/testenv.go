// Package testenv gives tests what they need from the machine: root, programs, a registry with the test images, a real
// daemon in directories of its own, and a look for leftovers. It skips what the machine cannot do, with the reason. It
// knows the suite's binaries by their command lines only and imports none of its packages.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Root skips the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// Need skips the test unless all programs are installed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := find(p); err != nil {
			t.Skipf("needs %s, which is not installed (make deps-test)", p)
		}
	}
}

// Long skips the test in a short run (go test -short).
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long; left out of a short run")
	}
}

// Measured notes what a test has measured; the report of a run shows it though the test has passed.
func Measured(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("measured: "+format, args...)
}

// find looks for a program in PATH and where Debian puts those of root.
func find(program string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, program); executable(path) {
			return path, nil
		}
	}
	return exec.LookPath(program)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Repository is the directory of the module.
func Repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			err = os.ErrNotExist
		}
		dir = parent
	}
	t.Fatalf("the module's directory: %v", err)
	return ""
}

// Binary is the path of a built binary. Tests that need one that is not built are skipped.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Repository(t), "bin", name)
	if !executable(path) {
		t.Skipf("needs bin/%s, which is not built (make build)", name)
	}
	return path
}

// Dir is a temporary directory of a short name, as Unix sockets want it (108 bytes), removed when the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mini-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // root of a user namespace goes through it
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's directory: %v", err)
		}
	})
	return dir
}

// Eventually asks until the answer is true, and fails the test when it is not within the time.
func Eventually(t testing.TB, within time.Duration, what string, ask func() bool) {
	t.Helper()
	if !poll(within, ask) {
		t.Fatalf("not within %s: %s", within, what)
	}
}

// poll asks every 10 ms, at least twice.
func poll(within time.Duration, ask func() bool) bool {
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ask() {
			return true
		}
		if now := <-ticker.C; now.After(deadline) {
			return ask()
		}
	}
}

// Run runs a program of the machine and returns its standard output; the test fails when it does.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	path, err := find(program)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// Try runs a program of the machine, which may fail; the error has what it printed.
func Try(t testing.TB, program string, args ...string) error {
	t.Helper()
	path, err := find(program)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}
