package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// ManCommand prints the manual page of the application that it belongs to.
func ManCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print this program's manual page",
		Action: func(c *cli.Context) error {
			_, err := io.WriteString(c.App.Writer, Manual(c.App))
			return err
		},
	}
}

// Manual is the page of section 8 of the manual, in the macros of man(7): every command that is not hidden, with its flags.
// The library has one too, which goes by way of Markdown; its parser took every start of the program a third of a
// millisecond.
func Manual(app *cli.App) string {
	p := &manual{}
	p.line(".TH %s 8", quoted(strings.ToUpper(app.Name)))
	p.line(".nh")
	p.section("NAME")
	p.text(app.Name + " - " + app.Usage)
	p.section("SYNOPSIS")
	p.line(".B %s", app.Name)
	p.text("[GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS...]")
	if app.Description != "" {
		p.section("DESCRIPTION")
		p.text(app.Description)
	}
	p.section("GLOBAL OPTIONS")
	p.flags(app.Flags)
	p.section("COMMANDS")
	p.commands(app.Name, app.Commands)
	return p.String()
}

// manual is a page being written.
type manual struct{ strings.Builder }

// line adds a request.
func (p *manual) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *manual) section(name string) { p.line(".SH %s", quoted(name)) }

// text adds lines as they are.
func (p *manual) text(text string) {
	for line := range strings.Lines(text + "\n") {
		p.WriteString(plain(strings.TrimRight(line, "\n")) + "\n")
	}
}

func (p *manual) commands(above string, commands []*cli.Command) {
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		name := above + " " + c.Name
		p.line(".SS %s", quoted(strings.TrimSpace(name+" "+c.ArgsUsage)))
		p.text(c.Usage)
		if len(c.Aliases) > 0 {
			p.line(".PP")
			p.text("also: " + strings.Join(c.Aliases, ", "))
		}
		if c.Description != "" {
			p.line(".PP")
			p.text(c.Description)
		}
		p.flags(c.Flags)
		p.commands(name, c.Subcommands)
	}
}

func (p *manual) flags(flags []cli.Flag) {
	for _, flag := range flags {
		f, ok := flag.(cli.DocGenerationFlag)
		if visible, hides := flag.(cli.VisibleFlag); !ok || hides && !visible.IsVisible() {
			continue
		}
		value, usage := "", f.GetUsage()
		if f.TakesValue() {
			value = "VALUE"
			if before, rest, found := strings.Cut(usage, "`"); found {
				if name, after, closed := strings.Cut(rest, "`"); closed {
					value, usage = name, before+name+after
				}
			}
		}
		p.line(".TP")
		p.line("\\fB%s\\fR %s", plain(strings.Join(dashed(flag.Names()), ", ")), plain(value))
		if text := f.GetDefaultText(); f.TakesValue() && text != "" {
			usage += " (default: " + text + ")"
		}
		p.text(usage)
	}
}

func dashed(names []string) []string {
	var out []string
	for _, name := range names {
		if len(name) == 1 {
			out = append(out, "-"+name)
		} else {
			out = append(out, "--"+name)
		}
	}
	return out
}

// plain takes the meaning from what man(7) would read as a request or an escape (groff_char(7)).
func plain(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// quoted is an argument of a request.
func quoted(text string) string { return `"` + strings.ReplaceAll(plain(text), `"`, `\(dq`) + `"` }
