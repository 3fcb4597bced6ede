package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Btrfs makes a btrfs in a file and mounts it for as long as the test runs.
func Btrfs(t testing.TB) string {
	t.Helper()
	Root(t)
	Need(t, "mkfs.btrfs")
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(known), "\tbtrfs\n") {
		t.Skip("needs a kernel with btrfs")
	}
	dir := Dir(t)
	file, at := filepath.Join(dir, "disk"), filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 256<<20); err != nil {
		t.Fatal(err)
	}
	mkfs, err := find("mkfs.btrfs")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{mkfs, "-q", file}, {"mount", "-o", "loop", file, at}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil { // the loop device ends with it
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}
