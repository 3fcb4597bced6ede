package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// toolbox is the image that minid carries.
const toolbox = "mini/toolbox:latest"

// TestFirstContainer is what a stranger does first: no registry, one command, a running container.
func TestFirstContainer(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	out := d.Minictr("run", "--rm", toolbox, "hello", "sh", "-c", "echo hello from $(hostname); cat /etc/os-release; ps -o pid,args")
	for _, want := range []string{"hello from hello", "mini toolbox", "1    sh -c"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the container's output:\n%s", want, out)
		}
	}
	if left := d.Minictr("containers", "ls", "-q"); left != "" {
		t.Errorf("after run --rm there is still %s", left)
	}
	if images := d.Minictr("images", "ls", "-q"); strings.TrimSpace(images) != "docker.io/mini/toolbox:latest" {
		t.Errorf("images: %q", images)
	}
}

func TestExitCodesAndStreams(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	tests := []struct {
		script         string
		code           int
		stdout, stderr string
	}{
		{"echo out; echo err >&2", 0, "out\n", "err\n"},
		{"exit 7", 7, "", ""},
		{"sh -c 'kill -KILL $$'", 137, "", ""},
		{"trap 'echo caught; exit 3' TERM; kill -TERM $$; sleep 0.1; true", 3, "caught\n", ""},
	}
	for _, test := range tests {
		o := d.Try("run", "--rm", toolbox, "streams", "sh", "-c", test.script)
		if o.Code != test.code || o.Stdout != test.stdout || o.Stderr != test.stderr {
			t.Errorf("%s: code %d, stdout %q, stderr %q", test.script, o.Code, o.Stdout, o.Stderr)
		}
	}
	if o := d.Try("run", "--rm", toolbox, "nothing", "/no/such/program"); o.Code != 127 || !strings.Contains(o.Stderr, "/no/such/program") {
		t.Errorf("a program that is not there: code %d, stderr %q", o.Code, o.Stderr)
	}
	if left := d.Minictr("containers", "ls", "-q"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestDetached goes through the life of a container in the background.
func TestDetached(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", toolbox, "back", "sh", "-c", "echo begun; sleep 600")
	if list := d.Minictr("tasks", "ls"); !strings.Contains(list, "back") || !strings.Contains(list, "RUNNING") {
		t.Errorf("tasks ls:\n%s", list)
	}
	testenv.Eventually(t, 5*time.Second, "the container's first line is logged", func() bool {
		return d.Minictr("logs", "back") == "begun\n"
	})
	if out := d.Minictr("exec", "back", "sh", "-c", "hostname; echo $PPID"); !strings.HasPrefix(out, "back\n") {
		t.Errorf("exec: %q", out)
	}
	if o := d.Try("exec", "back", "sh", "-c", "exit 9"); o.Code != 9 {
		t.Errorf("exec of exit 9: code %d", o.Code)
	}
	if o := d.Try("containers", "rm", "back"); o.Code == 0 {
		t.Error("a running container was removed without force")
	}
	d.Minictr("tasks", "kill", "-s", "KILL", "back")
	testenv.Eventually(t, 5*time.Second, "the container has exited", func() bool {
		return strings.Contains(d.Minictr("containers", "info", "back"), `"exited"`)
	})
	d.Minictr("containers", "rm", "back")
	if o := d.Try("containers", "info", "back"); o.Code == 0 {
		t.Error("the container is still there after rm")
	}
}
