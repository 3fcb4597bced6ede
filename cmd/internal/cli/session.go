package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// DefaultDetachKeys end an attachment and leave the process running.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// DetachKeysFlag is the flag of commands that attach.
func DetachKeysFlag() cli.Flag {
	return &cli.StringFlag{Name: "detach-keys", Value: DefaultDetachKeys, EnvVars: []string{"MINID_DETACH_KEYS"},
		Usage: "`KEYS` that leave the process running; empty: none"}
}

// Session is one process attached to this program's streams and terminal.
type Session struct {
	Client     *client.Client
	Terminal   bool // the process has one: the local one is put in raw mode and its size is followed
	Stdin      bool
	DetachKeys string
	NoStdout   bool // do not show what it writes there
	NoStderr   bool
	KeepSignal bool // signals are this program's own: an interrupt ends it and leaves the process
	// Opened is called when the attachment is in place; nil for none.
	Opened func(*api.AttachOpened)
}

// Run attaches as open says and returns when the process has ended or was left: its code as an ExitError, nil for 0
// and for a process that was left. Without a terminal, signals to this program go on to the process.
func (s Session) Run(ctx context.Context, open *api.AttachOpen) error {
	keys, err := client.ParseDetachKeys(s.DetachKeys)
	if err != nil {
		return err
	}
	a := client.Attachment{Stdout: os.Stdout, Stderr: os.Stderr, Opened: s.Opened}
	a.Warning = func(w string) { fmt.Fprintln(os.Stderr, "warning:", w) }
	if s.NoStdout {
		a.Stdout = nil
	}
	if s.NoStderr {
		a.Stderr = nil
	}
	if s.Stdin {
		a.Stdin = os.Stdin
	}
	switch {
	case s.Terminal:
		a.Stderr, a.DetachKeys = nil, keys
		restore, err := s.raw(open, &a)
		if err != nil {
			return err
		}
		defer restore()
	case !s.KeepSignal:
		signals, stop := forward()
		defer stop()
		a.Signals = signals
		limit, limited := ctx.Deadline()
		ctx = context.WithoutCancel(ctx) // an interrupt is the process's, which ends by it
		if limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, limit)
			defer cancel()
		}
	}
	exit, err := s.Client.Attach(ctx, open, a)
	if err != nil {
		return err
	}
	if exit != nil && exit.Code != 0 {
		return ExitError{Code: int(exit.Code)}
	}
	return nil
}

// raw hands the local terminal to the process. Without one (a pipe), the process's terminal is fed and read as a pipe.
func (s Session) raw(open *api.AttachOpen, a *client.Attachment) (restore func(), err error) {
	if !s.Stdin { // keys are not the process's: an interrupt is for this program
		return func() {}, nil
	}
	term, err := RawTerminal()
	if err != nil || term == nil {
		return func() {}, err
	}
	if size := term.Size(); size.Width > 0 {
		open.Size = &api.TerminalSize{Width: size.Width, Height: size.Height}
	}
	a.Resize = term.Changes
	return term.Restore, nil
}

// forward gives the signals that this program gets, as far as they can be meant for the process.
func forward() (<-chan syscall.Signal, func()) {
	in := make(chan os.Signal, 16)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	out := make(chan syscall.Signal, 16)
	go func() {
		for s := range in {
			out <- s.(syscall.Signal)
		}
	}()
	return out, func() { signal.Stop(in); close(in) }
}
