// Command report runs test commands that print `go test -json`, shows what failed in full and every skip with its
// reason, and counts: "N passed, N failed, N skipped" is its last line. It fails when a test, a build or a command did,
// and when no test ran at all.
//
//	report [-quiet] -- go test -json ./a/... -- go test -json -race ./b/...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	quiet, commands, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := newReport(os.Stdout, quiet)
	for _, command := range commands {
		if err := run(ctx, r, command); err != nil {
			r.broken(strings.Join(command, " "), err)
		}
	}
	if !r.summary() {
		os.Exit(1)
	}
}

func parse(args []string) (quiet bool, commands [][]string, err error) {
	if len(args) > 0 && args[0] == "-quiet" {
		quiet, args = true, args[1:]
	}
	for len(args) > 0 && args[0] == "--" {
		args = args[1:]
		end := slices.Index(args, "--")
		if end < 0 {
			end = len(args)
		}
		if end > 0 {
			commands = append(commands, args[:end])
		}
		args = args[end:]
	}
	if len(args) > 0 || len(commands) == 0 {
		return quiet, nil, errors.New("usage: report [-quiet] -- COMMAND… [-- COMMAND…]…")
	}
	return quiet, commands, nil
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
