package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/internal/spell"
)

// Complete gives an application what all of its commands share: a wrong flag or command is told in one line, with the
// one that may have been meant.
func Complete(app *cli.App) {
	if app.OnUsageError == nil {
		app.OnUsageError = UsageError
	}
	app.Action = group
	complete(app.Commands)
}

// completionFlag, as the last argument, asks for what could be typed next instead of doing it.
const completionFlag = "--generate-bash-completion"

// completing tells whether a shell asks for completions, and whether there can be any. Behind -- there are none: there the
// flag would be an argument like any other, and the command would be done.
func completing(args []string) (asked, possible bool) {
	asked = len(args) > 1 && args[len(args)-1] == completionFlag
	return asked, asked && !slices.Contains(args, "--")
}

func complete(commands []*cli.Command) {
	for _, c := range commands {
		if c.OnUsageError == nil {
			c.OnUsageError = UsageError
		}
		if len(c.Subcommands) > 0 && c.Action == nil {
			c.Action = group
		}
		complete(c.Subcommands)
	}
}

// group is what a command does that only has subcommands.
func group(c *cli.Context) error {
	commands, help := c.Command.Subcommands, cli.ShowSubcommandHelp
	if c.Command.Name == c.App.Name {
		commands, help = c.App.Commands, cli.ShowAppHelp
	}
	if c.NArg() == 0 {
		return help(c)
	}
	var names []string
	for _, sub := range commands {
		names = append(names, sub.Names()...)
	}
	name := c.Args().First()
	return fmt.Errorf("there is no command %q%s: see %s --help: %w", name, meant(name, names), path(c), errdefs.ErrInvalidArgument)
}

// UsageError says which flag is wrong, and which one may have been meant.
func UsageError(c *cli.Context, err error, _ bool) error {
	if _, flag, ok := strings.Cut(err.Error(), "flag provided but not defined: -"); ok {
		flag = strings.TrimPrefix(flag, "-")
		var names []string
		for _, f := range c.Command.Flags {
			for _, n := range f.Names() {
				if len(n) > 1 {
					names = append(names, "--"+n)
				}
			}
		}
		return fmt.Errorf("there is no flag --%s%s: see %s --help: %w", flag, meant("--"+flag, names), path(c), errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%w: see %s --help", err, path(c))
}

func path(c *cli.Context) string {
	if c.Command.HelpName == "" {
		return c.App.Name
	}
	return c.Command.HelpName
}

// meant asks whether the nearest of names was meant, if any is near.
func meant(typed string, names []string) string {
	best, least := "", max(1, len(strings.TrimLeft(typed, "-"))/3)+1
	for _, n := range names {
		d := spell.Distance(typed, n)
		if strings.HasPrefix(n, typed) {
			d = 1 // cut off
		}
		if d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}
