package scenario_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// crictlOutput is what a run of a CRI client gave.
type crictlOutput struct {
	Stdout, Stderr string
	Code           int
}

// runCrictl runs a CRI client without the machine's configuration.
func runCrictl(t *testing.T, program, input string, args ...string) crictlOutput {
	t.Helper()
	config := filepath.Join(t.TempDir(), "crictl.yaml")
	if err := os.WriteFile(config, []byte("timeout: 20\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	cmd.Env = append(os.Environ(), "CRI_CONFIG_FILE="+config)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return crictlOutput{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// TestCrictlNative uses the verbs that the CRI has no call for, on minid's native API.
func TestCrictlNative(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	program := testenv.Binary(t, "minicrictl")
	run := func(t *testing.T, code int, input string, args ...string) crictlOutput {
		t.Helper()
		o := runCrictl(t, program, input, append([]string{"--runtime-endpoint", "unix://" + d.Address}, args...)...)
		if o.Code != code {
			t.Fatalf("minicrictl %s: code %d, want %d\n%s%s", strings.Join(args, " "), o.Code, code, o.Stdout, o.Stderr)
		}
		return o
	}
	d.Minictr("-n", "k8s.io", "run", "-d", "--hostname", "beside", toolbox, "target", "sh", "-c", "echo inside > /tmp/made; ln -s /tmp /abs; sleep 600")
	testenv.Eventually(t, 10*time.Second, "the container has made its files", func() bool {
		return d.Try("-n", "k8s.io", "exec", "target", "test", "-e", "/abs").Code == 0
	})

	t.Run("debug", func(t *testing.T) {
		o := run(t, 0, "", "debug", "target", "--", "sh", "-c", "hostname; cat /target/tmp/made; cat /proc/1/root/tmp/made; ps")
		if !strings.HasPrefix(o.Stdout, "beside\ninside\ninside\n") || !strings.Contains(o.Stdout, "sleep 600") {
			t.Errorf("%q", o.Stdout)
		}
		if o := run(t, 7, "", "debug", "targ", "sh", "-c", "exit 7"); o.Stdout != "" {
			t.Errorf("%q", o.Stdout)
		}
		if left := strings.Fields(d.Minictr("-n", "k8s.io", "containers", "ls", "-q")); len(left) != 1 {
			t.Errorf("a toolbox is left: %v", left)
		}
		if o := run(t, 1, "", "debug", "nosuch"); !strings.Contains(o.Stderr, "nosuch") {
			t.Errorf("%q", o.Stderr)
		}
	})
	dir := testenv.Dir(t)
	copies := func(t *testing.T) {
		local := filepath.Join(dir, "made")
		run(t, 0, "", "cp", "target:/abs/made", dir)
		if data, err := os.ReadFile(local); err != nil || string(data) != "inside\n" {
			t.Errorf("%q, %v", data, err)
		}
		run(t, 0, "", "cp", local, "target:/tmp/back")
		run(t, 0, "", "cp", "target:/tmp/back", filepath.Join(dir, "back"))
		if data, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(data) != "inside\n" {
			t.Errorf("%q, %v", data, err)
		}
		if o := run(t, 1, "", "cp", "target:/nosuch", dir); !strings.Contains(o.Stderr, "could not find the file") {
			t.Errorf("%q", o.Stderr)
		}
	}
	t.Run("cp", copies)
	if got := d.Minictr("-n", "k8s.io", "exec", "target", "cat", "/tmp/back"); got != "inside\n" {
		t.Errorf("in the container: %q", got)
	}
	d.Minictr("-n", "k8s.io", "tasks", "kill", "-s", "KILL", "target")
	d.Try("-n", "k8s.io", "tasks", "wait", "target")
	t.Run("cp of a stopped container", copies)
	t.Run("debug of a stopped container", func(t *testing.T) {
		if o := run(t, 0, "", "debug", "target", "cat", "/target/tmp/made"); o.Stdout != "inside\n" {
			t.Errorf("%q", o.Stdout)
		}
	})
	t.Run("images", func(t *testing.T) {
		run(t, 0, "", "tag", toolbox, "example.org/tools:1")
		archive := filepath.Join(dir, "tools.tar")
		run(t, 0, "", "save", "-o", archive, "example.org/tools:1")
		d.Minictr("-n", "k8s.io", "images", "rm", "example.org/tools:1")
		if o := run(t, 0, "", "load", archive); o.Stdout != "Loaded image: example.org/tools:1\n" {
			t.Errorf("%q", o.Stdout)
		}
		piped := run(t, 0, "", "save", "example.org/tools:1")
		if o := run(t, 0, piped.Stdout, "load"); !strings.Contains(o.Stdout, "example.org/tools:1") {
			t.Errorf("%q", o.Stdout)
		}
		if o := run(t, 1, "no archive", "load"); strings.Count(o.Stderr, "\n") != 1 {
			t.Errorf("%q", o.Stderr)
		}
		if o := run(t, 1, "", "save", "-o", archive+"2", "nosuch"); !strings.Contains(o.Stderr, "nosuch") {
			t.Errorf("%q", o.Stderr)
		}
		if names, err := filepath.Glob(filepath.Join(dir, "*2*")); err != nil || len(names) > 0 {
			t.Errorf("half an archive is left: %v, %v", names, err)
		}
	})
}
