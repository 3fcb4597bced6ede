package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
)

func TestReportCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("no"), 1, "app: no\n"},
		{ExitError{Code: 7}, 7, ""},
		{fmt.Errorf("wrapped: %w", ExitError{Code: 130}), 130, ""},
		{CodedError{Err: errors.New("not there"), Code: CodeNotFound}, 127, "app: not there\n"},
	} {
		var out bytes.Buffer
		if code := Report(&out, "app", c.err); code != c.code || out.String() != c.text {
			t.Errorf("%v: code %d text %q, want %d %q", c.err, code, out.String(), c.code, c.text)
		}
	}
}

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels([]string{"a=1", "b=", "c=x=y"})
	if err != nil || Labels(got) != "a=1,b=,c=x=y" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"a", "=1"} {
		if _, err := ParseLabels([]string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestProgressPlainLines(t *testing.T) {
	var out bytes.Buffer
	p := &Progress{out: &out, now: time.Now, start: time.Now()}
	layer := "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, u := range []*api.Progress{
		{Item: layer, Kind: "layer", Stage: "fetching", Offset: 1, Total: 2048},
		{Item: layer, Kind: "layer", Stage: "fetching", Offset: 2, Total: 2048},
		{Item: layer, Kind: "layer", Stage: "done", Offset: 2048, Total: 2048},
	} {
		p.Update(u)
	}
	if got := out.String(); got != "layer 0123456789ab: fetching 2KiB\nlayer 0123456789ab: done 2KiB\n" {
		t.Errorf("got %q", got)
	}
}

func TestBarFitsTheTerminal(t *testing.T) {
	u := &api.Progress{Item: "sha256:0123456789abcdef", Kind: "layer", Stage: "fetching", Offset: 512, Total: 1024}
	for _, width := range []int{20, 40, 60, 80, 200} {
		if got := bar(u, 2*time.Second, width); len(got) > width {
			t.Errorf("width %d: %d characters: %q", width, len(got), got)
		}
	}
	if got := bar(u, 0, 80); !strings.Contains(got, "+-") || !strings.Contains(got, "512B/1KiB") {
		t.Errorf("half-way bar: %q", got)
	}
}

func TestListFormats(t *testing.T) {
	if got := Labels(nil); got != "-" {
		t.Errorf("no labels: %q", got)
	}
	var out bytes.Buffer
	if err := PrintTable(&out, []string{"A", "B"}, [][]string{{"x", "y"}}); err != nil || out.String() != "A    B\nx    y\n" {
		t.Errorf("table %q, %v", out.String(), err)
	}
	for _, empty := range []any{[]string{}, []*api.Image(nil)} {
		out.Reset()
		if err := PrintJSON(&out, empty); err != nil || out.String() != "[]\n" {
			t.Errorf("json %q, %v", out.String(), err)
		}
	}
}

func TestMeant(t *testing.T) {
	names := []string{"pull", "push", "prune", "list", "ls"}
	for typed, want := range map[string]string{
		"pul": ": did you mean pull?", "pulll": ": did you mean pull?", "purne": "", "puhs": "", "something": "", "li": ": did you mean list?",
	} {
		if got := meant(typed, names); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}

func TestCompleting(t *testing.T) {
	for _, c := range []struct {
		args            string
		asked, possible bool
	}{
		{"app images rm a", false, false},
		{"app images --generate-bash-completion", true, true},
		{"app images rm -- a --generate-bash-completion", true, false},
		{"app --generate-bash-completion x", false, false},
	} {
		if asked, possible := completing(strings.Fields(c.args)); asked != c.asked || possible != c.possible {
			t.Errorf("%s: %v %v", c.args, asked, possible)
		}
	}
}

// TestRemember: flags that remember their names are what they were.
func TestRemember(t *testing.T) {
	run := func(change func(*cli.App), args ...string) string {
		var out bytes.Buffer
		app := NewApp("test", "a test", "1")
		app.Writer, app.ErrWriter = &out, &out
		app.Commands = []*cli.Command{{
			Name: "do", Usage: "do it",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "text", Aliases: []string{"t"}, Value: "x", EnvVars: []string{"TEXT"}, Usage: "`WORDS`"},
				&cli.StringSliceFlag{Name: "list", Aliases: []string{"l"}, Value: cli.NewStringSlice("a")},
				&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}}, &cli.BoolFlag{Name: "hidden", Hidden: true},
				&cli.IntFlag{Name: "number", Category: "NUMBERS", Value: 3},
			},
			Action: func(c *cli.Context) error {
				fmt.Fprintln(&out, c.String("text"), c.StringSlice("l"), c.Bool("y"), c.Int("number"), c.IsSet("t"), c.IsSet("list"), c.Args().Slice())
				return nil
			},
		}}
		for i := range 20 {
			app.Commands[0].Flags = append(app.Commands[0].Flags, &cli.BoolFlag{Name: fmt.Sprint("flag", i)})
		}
		change(app)
		if err := app.Run(append([]string{"test"}, args...)); err != nil {
			fmt.Fprintln(&out, err)
		}
		return out.String()
	}
	for _, args := range [][]string{
		{"do"}, {"do", "--help"}, {"--help"}, {"do", "-y", "-t", "a,b", "--list", "b,c", "-l", "d", "--number", "7", "rest"}, {"do", "--number", "x"}, {"do", "--txt", "x"},
	} {
		if plain, got := run(func(*cli.App) {}, args...), run(remember, args...); got != plain {
			t.Errorf("%v: %s\nwant %s", args, got, plain)
		}
	}
}
