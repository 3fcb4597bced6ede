package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Posix rewrites a command line of POSIX habits, as docker's, into one that the library reads: flags may stand behind
// arguments, single letters may be joined (-it) and have their value attached (-p80:80, -eA=b). The flags of a command
// that is in literal, by its path ("run", "container run"), end at its first argument: what follows is another program's.
// What is not known stays as it is, for the library to refuse.
func Posix(app *cli.App, args []string, literal ...string) []string {
	if len(args) == 0 || args[len(args)-1] == completionFlag {
		return args
	}
	out := []string{args[0]}
	flags, commands, path := app.Flags, app.Commands, []string{}
	rest := args[1:]
	for {
		// Flags of a group end at the name of its command.
		ordered, behind := options(flags, rest, len(commands) == 0 && !slices.Contains(literal, strings.Join(path, " ")))
		out = append(out, ordered...)
		if len(behind) == 0 || len(commands) == 0 {
			return append(out, behind...)
		}
		next := find(commands, behind[0])
		if next == nil {
			return append(out, behind...)
		}
		out, rest = append(out, behind[0]), behind[1:]
		flags, commands, path = next.Flags, next.Subcommands, append(path, next.Name)
	}
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// options splits a command's words into its flags, each as --name=value, and its arguments. Unless mixed, everything
// behind the first argument is one.
func options(flags []cli.Flag, words []string, mixed bool) (ordered, arguments []string) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--":
			// A lone -- stays where an argument could be taken for a flag.
			arguments = append(arguments, words...)
			return guarded(ordered, arguments), arguments
		case word == "-" || !strings.HasPrefix(word, "-"):
			arguments = append(arguments, word)
			if !mixed {
				return ordered, append(arguments, words...)
			}
		case strings.HasPrefix(word, "--"):
			name, _, valued := strings.Cut(word[2:], "=")
			if takesValue(flags, name) && !valued && len(words) > 0 {
				word, words = word+"="+words[0], words[1:]
			}
			ordered = append(ordered, word)
		default:
			var taken []string
			taken, words = letters(flags, word, words)
			ordered = append(ordered, taken...)
		}
	}
	return guarded(ordered, arguments), arguments
}

// guarded puts -- between flags and arguments where one of these looks like a flag.
func guarded(ordered, arguments []string) []string {
	if slices.ContainsFunc(arguments, func(a string) bool { return strings.HasPrefix(a, "-") && a != "-" }) {
		return append(ordered, "--")
	}
	return ordered
}

// letters takes a word of single letters apart.
func letters(flags []cli.Flag, word string, words []string) (taken, rest []string) {
	for i, letter := range word[1:] {
		name, after := string(letter), word[1+i+len(string(letter)):]
		known := byName(flags, name)
		switch {
		case known == nil && name == "h":
			taken = append(taken, "--help")
		case known == nil:
			return append(taken, "-"+word[1+i:]), words
		case takesValue(flags, name):
			if after == "" && len(words) > 0 {
				return append(taken, "--"+known.Names()[0]+"="+words[0]), words[1:]
			}
			if after == "" {
				return append(taken, "-"+name), words
			}
			return append(taken, "--"+known.Names()[0]+"="+strings.TrimPrefix(after, "=")), words
		case strings.HasPrefix(after, "="):
			return append(taken, "--"+known.Names()[0]+after), words
		default:
			taken = append(taken, "--"+known.Names()[0])
		}
	}
	return taken, words
}

func byName(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(flags []cli.Flag, name string) bool {
	switch f := byName(flags, name).(type) {
	case nil, *cli.BoolFlag:
		return false
	case cli.DocGenerationFlag:
		return f.TakesValue()
	default:
		return true
	}
}

// Called is the command of a command line, the first argument of a program with these flags. It is empty where there is
// none, where a flag is another one (for help, or wrong), and where the rest of a line is asked for.
func Called(flags []cli.Flag, args []string) string {
	if asked, _ := completing(args); asked || len(args) == 0 {
		return ""
	}
	ordered, arguments := options(flags, args[1:], false)
	unknown := func(word string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		return name != "" && byName(flags, name) == nil
	}
	if len(arguments) == 0 || slices.ContainsFunc(ordered, unknown) {
		return ""
	}
	return arguments[0]
}
