package cli

import "github.com/urfave/cli/v2"

// remember makes the flags of an application tell their names without working them out. The library asks all flags of
// a command for all their names for each of them, and each answer runs a regular expression: with the sixty flags of
// "run", a tenth of what the whole program does.
func remember(app *cli.App) {
	named(app.Flags)
	var walk func([]*cli.Command)
	walk = func(commands []*cli.Command) {
		for _, c := range commands {
			named(c.Flags)
			walk(c.Subcommands)
		}
	}
	walk(app.Commands)
}

// named wraps the flags, where they are so many that it pays. Their names are as written: the library also takes what is
// before a comma or a space.
func named(flags []cli.Flag) {
	const many = 20
	if len(flags) < many {
		return
	}
	for i, flag := range flags {
		switch f := flag.(type) {
		case *cli.StringFlag:
			flags[i] = &namedString{f, names(f.Name, f.Aliases)}
		case *cli.StringSliceFlag:
			flags[i] = &namedStrings{f, names(f.Name, f.Aliases)}
		case *cli.BoolFlag:
			flags[i] = &namedBool{f, names(f.Name, f.Aliases)}
		case *cli.IntFlag:
			flags[i] = &namedInt{f, names(f.Name, f.Aliases)}
		case *cli.Int64Flag:
			flags[i] = &namedInt64{f, names(f.Name, f.Aliases)}
		case *cli.Float64Flag:
			flags[i] = &namedFloat64{f, names(f.Name, f.Aliases)}
		case *cli.UintFlag:
			flags[i] = &namedUint{f, names(f.Name, f.Aliases)}
		case *cli.DurationFlag:
			flags[i] = &namedDuration{f, names(f.Name, f.Aliases)}
		}
	}
}

func names(name string, aliases []string) []string { return append([]string{name}, aliases...) }

// The types of the most flags; each has its flag's other methods.
type (
	namedString struct {
		*cli.StringFlag
		names []string
	}
	namedStrings struct {
		*cli.StringSliceFlag
		names []string
	}
	namedBool struct {
		*cli.BoolFlag
		names []string
	}
	namedInt struct {
		*cli.IntFlag
		names []string
	}
	namedInt64 struct {
		*cli.Int64Flag
		names []string
	}
	namedFloat64 struct {
		*cli.Float64Flag
		names []string
	}
	namedUint struct {
		*cli.UintFlag
		names []string
	}
	namedDuration struct {
		*cli.DurationFlag
		names []string
	}
)

func (f *namedString) Names() []string   { return f.names }
func (f *namedStrings) Names() []string  { return f.names }
func (f *namedBool) Names() []string     { return f.names }
func (f *namedInt) Names() []string      { return f.names }
func (f *namedInt64) Names() []string    { return f.names }
func (f *namedFloat64) Names() []string  { return f.names }
func (f *namedUint) Names() []string     { return f.names }
func (f *namedDuration) Names() []string { return f.names }
