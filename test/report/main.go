// Command report runs test commands that print `go test -json`, shows what failed in full and every skip with its
// reason, and counts: "N passed, N failed, N skipped" is its last line. It fails when a test, a build or a command did,
// and when no test ran at all.
//
// With -again N, up to N tests that failed are run once more, each by itself. One that passes then is unsteady: it is
// listed as such, beside the output of its failure, and does not fail the report. With more than N failures nothing is
// run again: then the code is at fault, and not the machine.
//
//	report [-quiet] [-again N] -- go test -json ./a/... -- go test -json -race ./b/...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	f, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	// That hangups are heard means that the tests' processes do not ignore them, where this one was begun so (nohup).
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGHUP)
	defer stop()
	r := newReport(os.Stdout, f.quiet)
	for _, command := range f.commands {
		before := len(r.failed)
		if err := run(ctx, r, command); err != nil {
			r.broken(strings.Join(command, " "), err)
		}
		for i := range r.failed[before:] {
			r.failed[before+i].command = command
		}
	}
	if r.failedTests() <= f.again {
		again(ctx, r)
	}
	if !r.summary() {
		os.Exit(1)
	}
}

// flags are what the command line asks for.
type flags struct {
	quiet    bool
	again    int
	commands [][]string
}

func parse(args []string) (f flags, err error) {
	usage := errors.New("usage: report [-quiet] [-again N] -- COMMAND… [-- COMMAND…]…")
	own := args[:max(slices.Index(args, "--"), 0)]
	args = args[len(own):]
	set := flag.NewFlagSet("report", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&f.quiet, "quiet", false, "")
	set.IntVar(&f.again, "again", 0, "")
	if err := set.Parse(own); err != nil || set.NArg() > 0 {
		return f, usage
	}
	for len(args) > 0 && args[0] == "--" {
		args = args[1:]
		end := slices.Index(args, "--")
		if end < 0 {
			end = len(args)
		}
		if end > 0 {
			f.commands = append(f.commands, args[:end])
		}
		args = args[end:]
	}
	if len(args) > 0 || len(f.commands) == 0 {
		return f, usage
	}
	return f, nil
}

// again runs each test that failed by itself. A part of a test is run with the whole.
func again(ctx context.Context, r *report) {
	passed := map[string]bool{}
	for _, f := range r.failed {
		name := f.top()
		if _, done := passed[name]; done || f.cut {
			continue
		}
		fmt.Fprintf(r.out, "\n%s failed; once more, by itself:\n", name)
		second := newReport(r.out, true)
		err := run(ctx, second, alone(f.command, f.pkg, f.topTest()))
		passed[name] = err == nil && second.problems() == 0 && second.passed > 0
	}
	steady := r.failed[:0]
	for _, f := range r.failed {
		if passed[f.top()] {
			r.unsteady = append(r.unsteady, f.String())
		} else {
			steady = append(steady, f)
		}
	}
	r.failed = steady
}

// alone is the command with one test of one package in the place of its packages.
func alone(command []string, pkg, test string) []string {
	isPackage := func(arg string) bool { return !strings.HasPrefix(arg, "-") && strings.Contains(arg, "/") }
	found := []string{command[0]} // the program may be a path
	for _, arg := range command[1:] {
		if !isPackage(arg) {
			found = append(found, arg)
		}
	}
	return append(found, "-count=1", "-run", "^"+test+"$", pkg)
}

// run feeds a command's output to the report. That it fails is told by its events; a command that fails without one
// is broken itself.
func run(ctx context.Context, r *report, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	before := r.problems()
	if err := r.read(out); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	if err := cmd.Wait(); err != nil && r.problems() == before {
		return err
	}
	return nil
}
