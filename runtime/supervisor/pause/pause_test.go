package pause_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/minirt/mini/runtime/supervisor/pause"

	"github.com/minirt/mini/internal/testenv"
)

// pausing runs this test's program as the first process of a PID namespace.
func pausing(t *testing.T) *exec.Cmd {
	t.Helper()
	testenv.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "pause")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	testenv.Eventually(t, 5*time.Second, "it pauses", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		return err == nil && string(name) == "pause\n"
	})
	return c
}

func TestEndsWhenAsked(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := pausing(t)
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}

// TestReaps leaves an orphan to it.
func TestReaps(t *testing.T) {
	c := pausing(t)
	pid := c.Process.Pid
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-p", "sh", "-c", "(sleep 0.1 &)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	children := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	testenv.Eventually(t, 5*time.Second, "the orphan is reaped", func() bool { return children() == "" })
}

// TestIsSmall looks at what makes a process of its own worth it.
func TestIsSmall(t *testing.T) {
	c := pausing(t)
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, is := strings.CutPrefix(line, "Threads:"); is && strings.TrimSpace(rest) != "1" {
			t.Errorf("threads: %s; Go must not have started", strings.TrimSpace(rest))
		}
	}
}
