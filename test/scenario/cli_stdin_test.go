package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestStandardInput starts and attaches to containers that were made with and without a standard input.
func TestStandardInput(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	script := "read line; echo got $line; exit 3"
	d.Minictr("containers", "create", toolbox, "without", "sh", "-c", script)
	if o := d.Try("tasks", "start", "without"); o.Stdout != "got\n" || o.Code != 3 {
		t.Errorf("without: code %d: %q %s", o.Code, o.Stdout, o.Stderr)
	}
	d.Minictr("containers", "create", "-i", toolbox, "with", "sh", "-c", script)
	o := call{stdin: strings.NewReader("text\n")}.run(t, d, "tasks", "start", "with")
	if o.Stdout != "got text\n" || o.Code != 3 {
		t.Errorf("with: code %d: %q %s", o.Code, o.Stdout, o.Stderr)
	}
	d.Minictr("run", "-d", toolbox, "ticking", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
	p := begin(t, d, "tasks", "attach", "ticking")
	testenv.Eventually(t, 10*time.Second, "a client is attached to a container without standard input", func() bool {
		return strings.Contains(p.said(), "tick")
	})
	d.Minictr("tasks", "kill", "-s", "KILL", "ticking")
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 137 {
		t.Errorf("attached to one that was killed: code %d: %s", code, p.said())
	}
}
