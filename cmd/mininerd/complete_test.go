package main

import (
	"context"
	"os"
	"strings"
	"testing"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func TestObjectAt(t *testing.T) {
	for _, row := range []struct {
		usage string
		place int
		want  string
	}{
		{"CONTAINER [CONTAINER...]", 0, "CONTAINER"}, {"CONTAINER [CONTAINER...]", 5, "CONTAINER"}, {"CONTAINER NEW_NAME", 1, "NEW_NAME"}, {"CONTAINER NEW_NAME", 2, ""},
		{runUsage, 0, "IMAGE"}, {runUsage, 1, "COMMAND"}, {"NETWORK CONTAINER", 1, "CONTAINER"}, {"[CONTAINER...]", 0, "CONTAINER"}, {"NAME...", 3, "NAME"},
	} {
		if got := objectAt(row.usage, row.place); got != row.want {
			t.Errorf("%s at %d: %q, want %q", row.usage, row.place, got, row.want)
		}
	}
}

// TestCompleteNames asks as the shells' scripts do.
func TestCompleteNames(t *testing.T) {
	f := newFake()
	socket := f.serve(t)
	t.Setenv("MININERD_TOML", os.DevNull)
	t.Setenv("MININERD_ADDRESS", socket)
	before := os.Args
	t.Cleanup(func() { os.Args = before })
	for line, want := range map[string]string{
		"stop": "web old", "container stop web": "web old", "run": "nginx:latest", "run nginx": "", "cp": "web: old:", "rmi": "nginx:latest", "history": "nginx:latest",
		"-H /nosuch/socket stop": "", "stop --ti": "--timeout --time", "inspect": "web old nginx:latest",
	} {
		var out strings.Builder
		app := newApp(nil)
		app.Writer, app.ErrWriter = &out, &strings.Builder{}
		icli.Complete(app)
		app.UseShortOptionHandling = false
		os.Args = append(append([]string{program}, strings.Fields(line)...), "--generate-bash-completion")
		if err := app.RunContext(context.Background(), os.Args); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
