package scenario_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// probeRootfs makes a root filesystem of one program, testdata/probe.
func probeRootfs(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	dir := filepath.Join(testenv.Dir(t), "probe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	for _, sub := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// container is what the tests read of "containers info".
type container struct {
	ID    string
	State string
	PID   int
	Exit  struct {
		Code, Signal int
		OOM          bool
		Reason       string
	}
	Snapshot, Snapshotter string
	Bundle                string
	LogPath               string `json:"log_path"`
	Warnings              []string
}

func inspect(t *testing.T, d *testenv.DaemonProcess, id string) container {
	t.Helper()
	return decode[container](t, d.Minictr("containers", "info", id))
}

// containers are all of the default namespace, by id.
func containers(t *testing.T, d *testenv.DaemonProcess) map[string]container {
	t.Helper()
	all := map[string]container{}
	for _, c := range decode[[]container](t, d.Minictr("containers", "ls", "-o", "json")) {
		all[c.ID] = c
	}
	return all
}

// runCase is a container that runs one script, and what the script prints.
type runCase struct {
	name   string
	flags  []string
	script string
	want   string // a whole output without its last newline, or part: and a part of it
}

// check runs a container of the case and removes it.
func (c runCase) check(t *testing.T, d *testenv.DaemonProcess, image string) {
	t.Run(c.name, func(t *testing.T) {
		args := append([]string{"run", "--rm"}, c.flags...)
		o := d.In(t).Try(append(args, image, "case", "sh", "-c", c.script)...)
		got := strings.TrimRight(o.Stdout, "\n")
		part, isPart := strings.CutPrefix(c.want, "part:")
		if o.Code != 0 || got != c.want && !(isPart && strings.Contains(got, part)) {
			t.Errorf("%s\n%s\ncode %d, got\n%s\nwant\n%s\n%s", strings.Join(c.flags, " "), c.script, o.Code, got, c.want, o.Stderr)
		}
	})
}

// status is a field of a process's /proc/PID/status on this host.
func status(t *testing.T, pid any, field string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%v/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in the status of process %v", field, pid)
	return ""
}

func itoa(n int) string { return fmt.Sprint(n) }

// signalTo sends a signal to a container's process from the host; one that does not run has the number 0, which means
// this test's own group.
func signalTo(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process %d", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Errorf("process %d has stopped: %v", pid, err)
	}
}
