package scenario_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// call is a run of minictr that needs more than arguments.
type call struct {
	stdin io.Reader
	env   []string
}

// run runs minictr against a daemon.
func (c call) run(t *testing.T, d *testenv.DaemonProcess, args ...string) testenv.Output {
	t.Helper()
	return c.bare(t, append([]string{"--address", d.Address}, args...)...)
}

// bare runs minictr as it is.
func (c call) bare(t *testing.T, args ...string) testenv.Output {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t, "minictr"), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, &out, &errs
	cmd.Env = append(os.Environ(), c.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("minictr %s: %v", strings.Join(args, " "), err)
	}
	return testenv.Output{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// feed runs minictr with a standard input and wants it to work.
func feed(t *testing.T, d *testenv.DaemonProcess, in string, args ...string) string {
	t.Helper()
	o := call{stdin: strings.NewReader(in)}.run(t, d, args...)
	if o.Code != 0 {
		t.Fatalf("minictr %s: exit code %d: %s", strings.Join(args, " "), o.Code, o.Stderr)
	}
	return o.Stdout
}

// refused wants a command to fail with a message that has all of the texts, and nothing on the standard output.
func refused(t *testing.T, o testenv.Output, texts ...string) {
	t.Helper()
	if o.Code == 0 {
		t.Errorf("it worked: %s", o.Stdout)
	}
	for _, text := range texts {
		if !strings.Contains(o.Stderr, text) {
			t.Errorf("no %q in the message:\n%s", text, o.Stderr)
		}
	}
}

// decode reads what a command printed as JSON.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not the JSON that is wanted: %v:\n%s", err, text)
	}
	return v
}

// header wants a table to begin with these columns.
func header(t *testing.T, table string, columns ...string) {
	t.Helper()
	first, _, _ := strings.Cut(table, "\n")
	var got []string
	for _, c := range strings.Split(first, "    ") {
		if c = strings.TrimSpace(c); c != "" {
			got = append(got, c)
		}
	}
	if strings.Join(got, "|") != strings.Join(columns, "|") {
		t.Errorf("table begins with %q, want %q", got, columns)
	}
}

// lines are the lines of a text, without the last, empty one.
func lines(text string) []string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
