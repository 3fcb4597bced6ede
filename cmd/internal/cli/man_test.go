package cli

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestManual(t *testing.T) {
	page := Manual(&cli.App{
		Name: "app", Usage: "do things", Flags: []cli.Flag{&cli.StringFlag{Name: "address", Aliases: []string{"a"}, Value: "here", Usage: "the `SOCKET` to use"}},
		Commands: []*cli.Command{
			{Name: "run", Aliases: []string{"r"}, Usage: ".starts with a period, has a \\ and \"quotes\"", ArgsUsage: "NAME [X...]", Flags: []cli.Flag{
				&cli.BoolFlag{Name: "rm", Usage: "remove it"}, &cli.BoolFlag{Name: "secret", Hidden: true, Usage: "not told"},
			}, Subcommands: []*cli.Command{{Name: "now", Usage: "at once"}}},
			{Name: "hidden", Hidden: true, Usage: "not told"},
		},
	})
	for _, want := range []string{
		`.TH "APP" 8`, "app \\- do things", "\\fB\\-\\-address, \\-a\\fR SOCKET\n", "the SOCKET to use (default: \"here\")", `.SS "app run NAME [X...]"`, "also: r",
		`\&.starts with a period, has a \e and "quotes"`, "\\fB\\-\\-rm\\fR", `.SS "app run now"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "not told") {
		t.Errorf("what is hidden is told:\n%s", page)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("needs groff to look at the page")
	}
	cmd := exec.Command(groff, "-man", "-Tutf8", "-ww")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") || !strings.Contains(string(out), ".starts with a period, has a \\ and") {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
