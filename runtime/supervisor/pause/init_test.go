package pause_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// initially is a command that is run by the init, as the first process of a PID namespace.
func initially(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	testenv.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "docker-init")
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := exec.CommandContext(t.Context(), name, append([]string{"--"}, args...)...)
	c.Stdout, c.Stderr = &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	return c, &out
}

func code(err error) int {
	exit := (*exec.ExitError)(nil)
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

func TestInitPassesTheCodeOn(t *testing.T) {
	for _, row := range []struct {
		args []string
		want int
		out  string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "echo $$; exit 7"}, 7, "2\n"},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"/no/such/program"}, 127, "/no/such/program: No such file or directory\n"},
		{[]string{"/etc/passwd"}, 126, "/etc/passwd: Permission denied\n"},
	} {
		c, out := initially(t, row.args...)
		if got := code(c.Run()); got != row.want || out.String() != row.out {
			t.Errorf("%v: code %d, output %q", row.args, got, out)
		}
	}
}

func TestInitForwardsSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH} {
		dir := t.TempDir()
		c, out := initially(t, "sh", "-c", "trap 'echo caught; exit 3' TERM HUP USR1 WINCH; touch "+dir+"/ready; while :; do sleep 0.05; done")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 5*time.Second, "it is ready", func() bool {
			_, err := os.Stat(dir + "/ready")
			return err == nil
		})
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := code(c.Wait()); got != 3 || out.String() != "caught\n" {
			t.Errorf("%v: code %d, output %q", sig, got, out)
		}
	}
}

// TestInitReaps leaves an orphan to it, and looks for a zombie.
func TestInitReaps(t *testing.T) {
	c, out := initially(t, "sh", "-c", "mount --make-rprivate /; mount -t proc proc /proc; (sleep 0.1 &); sleep 0.5; cat /proc/1/task/1/children; cat /proc/1/comm")
	c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS
	err := c.Run()
	if err != nil || !strings.HasPrefix(out.String(), "2 ") || !strings.HasSuffix(strings.TrimSpace(out.String()), "docker-init") || len(strings.Fields(out.String())) != 2 {
		t.Errorf("%v, %q", err, out)
	}
}
