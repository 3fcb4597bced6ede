package cli

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestPosix(t *testing.T) {
	app := NewBareApp("app", "", "")
	app.Flags = []cli.Flag{&cli.StringFlag{Name: "address", Aliases: []string{"a", "H"}}, &cli.BoolFlag{Name: "debug", Aliases: []string{"D"}}}
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}}, &cli.BoolFlag{Name: "tty", Aliases: []string{"t"}},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}}, &cli.StringSliceFlag{Name: "publish", Aliases: []string{"p"}},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}}, &cli.BoolFlag{Name: "force", Aliases: []string{"f"}},
		}
	}
	app.Commands = []*cli.Command{
		{Name: "run", Flags: flags()}, {Name: "rm", Aliases: []string{"remove"}, Flags: flags()},
		{Name: "container", Subcommands: []*cli.Command{{Name: "run", Flags: flags()}, {Name: "rm", Flags: flags()}}},
	}
	for in, want := range map[string]string{
		"":                                   "",
		"-Ha rm x":                           "--address=a rm x",
		"-D --address /s rm x":               "--debug --address=/s rm x",
		"run -it busybox sh -c ls":           "run --interactive --tty busybox sh -c ls",
		"run -itp8080:80 -eA=b x -it":        "run --interactive --tty --publish=8080:80 --env=A=b x -it",
		"run -p 80:80 --env=A x":             "run --publish=80:80 --env=A x",
		"run --env A --tty=false x":          "run --env=A --tty=false x",
		"run -i=false x":                     "run --interactive=false x",
		"run -n -1 x":                        "run --last=-1 x",
		"run -- x -f":                        "run -- x -f",
		"rm x -f y":                          "rm --force x y",
		"remove x --env a=b":                 "remove --env=a=b x",
		"rm -- -f":                           "rm -- -f",
		"rm -f - x":                          "rm --force - x",
		"container run -i x -t":              "container run --interactive x -t",
		"container rm x -f":                  "container rm --force x",
		"run --nothing x -t":                 "run --nothing x -t",
		"run -iz x":                          "run --interactive -z x",
		"run -h x":                           "run --help x",
		"run -e":                             "run -e",
		"nothing -f x":                       "nothing -f x",
		"rm x -f --generate-bash-completion": "rm x -f --generate-bash-completion",
	} {
		got := strings.Join(Posix(app, append([]string{"app"}, strings.Fields(in)...), "run", "container run"), " ")
		if got != strings.TrimSpace("app "+want) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestCalled(t *testing.T) {
	global := []cli.Flag{
		&cli.StringFlag{Name: "address", Aliases: []string{"H"}}, &cli.BoolFlag{Name: "debug", Aliases: []string{"D"}},
		&cli.DurationFlag{Name: "timeout"},
	}
	for line, want := range map[string]string{
		"": "", "mini": "", "mini ps": "ps", "mini ps -a": "ps", "mini --address ps run": "run", "mini --address=ps run": "run",
		"mini -H run ps": "ps", "mini -D ps": "ps", "mini --debug --timeout 3s ps": "ps", "mini --debug=false ps": "ps",
		"mini --help": "", "mini --help ps": "", "mini --wrong ps": "", "mini -DH x ps": "ps", "mini --address": "",
		"mini -- ps": "ps", "mini ps --generate-bash-completion": "",
	} {
		if got := Called(global, strings.Fields(line)); got != want {
			t.Errorf("%q calls %q, want %q", line, got, want)
		}
	}
}
