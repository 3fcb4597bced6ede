// Command sh is the toolbox's shell: POSIX sh and much of bash, as mvdan.cc/sh interprets it, with signal traps and a
// prompt. It has no job control: "&" and wait work, fg and bg do not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// killDelay is how long an interrupted command may take to end before it is killed.
const killDelay = 2 * time.Second

// options are what the command line asked for.
type options struct {
	command     *string  // -c
	set         []string // -e -u -x … and -o name, as set takes them
	interactive bool     // -i
	name        string   // $0
	params      []string // $1 …
	script      string   // a file to run
}

func main() {
	os.Exit(run(os.Args))
}

func run(argv []string) int {
	opts, err := parse(argv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	traps := newTraps()
	runner, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.ExecHandlers(execute),
		interp.CallHandler(traps.call),
		interp.Params(append(append(opts.set, "--"), opts.params...)...),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	switch {
	case opts.command != nil:
		traps.exitOnUntrapped()
		return source(runner, strings.NewReader(*opts.command), opts.name)
	case opts.script != "":
		traps.exitOnUntrapped()
		return script(runner, opts.script)
	case opts.interactive || term.IsTerminal(0):
		return interact(runner)
	default:
		traps.exitOnUntrapped()
		return follow(runner, byteReader{os.Stdin})
	}
}

// execute runs programs. One that is found and cannot be executed is no reason to end the shell.
func execute(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	start := interp.DefaultExecHandler(killDelay)
	return func(ctx context.Context, args []string) error {
		err := start(ctx, args)
		var refused *fs.PathError
		if errors.As(err, &refused) {
			fmt.Fprintf(interp.HandlerCtx(ctx).Stderr, "sh: %s: %v\n", args[0], refused.Err)
			return interp.ExitStatus(126)
		}
		return err
	}
}

// parse reads sh's own flags: -c, -i, -l, -s, -o NAME and the letters that set knows.
func parse(argv []string) (options, error) {
	o := options{name: "sh"}
	args := argv[1:]
	command := false
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		for _, letter := range arg[1:] {
			switch letter {
			case 'c':
				command = true
			case 'i':
				o.interactive = true
			case 'l', 's', 'm':
			case 'o':
				if len(args) == 0 {
					return o, errors.New("-o: which option?")
				}
				o.set = append(o.set, arg[:1]+"o", args[0])
				args = args[1:]
			default:
				o.set = append(o.set, arg[:1]+string(letter))
			}
		}
	}
	if command {
		if len(args) == 0 {
			return o, errors.New("-c: no command given")
		}
		o.command = &args[0]
		args = args[1:]
		if len(args) > 0 {
			o.name, args = args[0], args[1:]
		}
	} else if len(args) > 0 {
		o.script, o.name, args = args[0], args[0], args[1:]
	}
	o.params = args
	return o, nil
}

func script(runner *interp.Runner, path string) int {
	f, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 127
	}
	defer f.Close()
	return source(runner, f, path)
}

// source runs a whole script.
func source(runner *interp.Runner, r io.Reader, name string) int {
	file, err := syntax.NewParser().Parse(r, name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	return exitStatus(runner.Run(context.Background(), file))
}

// follow runs a script statement by statement, as it arrives, so that its commands can read what follows them.
func follow(runner *interp.Runner, r io.Reader) int {
	status := 0
	for stmt, err := range syntax.NewParser().StmtsSeq(r) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			return 2
		}
		status = exitStatus(runner.Run(context.Background(), stmt))
		if runner.Exited() {
			return status
		}
	}
	// The trap on EXIT belongs to the end of a file, of which this is an empty one.
	if err := runner.Run(context.Background(), &syntax.File{}); err != nil {
		return exitStatus(err)
	}
	return status
}

// byteReader reads no further than it is asked to, so that the commands of a script find the rest of the input.
type byteReader struct{ r io.Reader }

func (b byteReader) Read(p []byte) (int, error) { return b.r.Read(p[:min(len(p), 1)]) }

func exitStatus(err error) int {
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, context.Canceled):
		return 130
	default:
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 1
	}
}
