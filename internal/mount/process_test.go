package mount

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/testenv"
)

// TestOfProcess takes a mount that only another process has.
func TestOfProcess(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	for _, d := range []string{source, target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other := exec.CommandContext(t.Context(), "sh", "-c", "mount -t tmpfs x "+source+" && echo theirs >"+source+"/f && echo ready && read end")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("the other process says %q: %v", ready, err)
	}
	if err := OfProcess(other.Process.Pid, source, target); err != nil {
		t.Fatal(err)
	}
	if err := OfProcess(other.Process.Pid, "/no/such", target); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("a path that is not there: %v", err)
	}
	in.Close()
	_ = other.Wait() // read fails at the end of its input
	if data, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(data) != "theirs\n" {
		t.Errorf("after the other's end: %q, %v", data, err)
	}
	if err := Unmount(target); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(target, "f")); !os.IsNotExist(err) {
		t.Errorf("unmounted: %v", err)
	}
}
