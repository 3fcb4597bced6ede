// Package cli is what the command lines share: the application with its global flags, tables and JSON, terminals,
// progress, and exit codes. No command lives here.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/client"
)

// DefaultAddress is where minid listens: a user's own, where "minid rootless" runs, before that of the machine.
func DefaultAddress() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		own := filepath.Join(dir, "minid/minid.sock")
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return client.DefaultAddress
}

// Exit codes of a command that runs a container, as docker's.
const (
	CodeDaemon        = 125 // the daemon or the command line is at fault
	CodeNotExecutable = 126
	CodeNotFound      = 127
	CodeInterrupted   = 130 // ended by an interrupt, as shells say it
)

// ExitError ends the program with a code, without a message: the code is the message (a container's own).
type ExitError struct{ Code int }

func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// CodedError ends the program with its message and a code other than 1.
type CodedError struct {
	Err  error
	Code int
}

func (e CodedError) Error() string { return e.Err.Error() }
func (e CodedError) Unwrap() error { return e.Err }

// NewApp returns an application with the flags that every command line of the daemon's native API has.
func NewApp(name, usage, version string) *cli.App {
	app := NewBareApp(name, usage, version)
	app.DisableSliceFlagSeparator = true // a mount has commas
	app.Flags = append([]cli.Flag{
		&cli.StringFlag{Name: "address", Aliases: []string{"a"}, Value: DefaultAddress(), EnvVars: []string{"MINID_ADDRESS"}, Usage: "the daemon's `SOCKET`, or tcp://HOST:PORT"},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Value: "default", EnvVars: []string{"MINID_NAMESPACE"}, Usage: "`NAME` of the namespace to work in"},
		&cli.DurationFlag{Name: "timeout", Usage: "end the command after this time; 0: never"},
		&cli.DurationFlag{Name: "connect-timeout", Usage: "how long to wait for the daemon's socket; 0: 10 seconds"},
		&cli.BoolFlag{Name: "debug", Usage: "print each call to the daemon, and how long it took"},
	}, TLSFlags("MINID")...)
	return app
}

// NewBareApp returns an application without flags.
func NewBareApp(name, usage, version string) *cli.App {
	app := cli.NewApp()
	app.Name, app.Usage, app.Version = name, usage, version
	app.EnableBashCompletion = true
	app.UseShortOptionHandling = true
	app.HideVersion = false
	app.Suggest = true
	app.ExitErrHandler = func(*cli.Context, error) {}
	return app
}

// Main runs an application that NewApp has made and returns the program's exit code. --timeout ends the command.
func Main(app *cli.App, args []string) int {
	var limit time.Duration
	before := app.Before
	app.Before = func(c *cli.Context) error {
		if before != nil {
			if err := before(c); err != nil {
				return err
			}
		}
		if limit = c.Duration("timeout"); limit > 0 {
			var cancel context.CancelFunc
			c.Context, cancel = context.WithTimeout(c.Context, limit)
			context.AfterFunc(c.Context, cancel)
		}
		return nil
	}
	return Run(app, args, func(err error) error {
		if limit > 0 && errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("not done after %s, which --timeout allows: %w", limit, err)
		}
		return err
	})
}

// gcPercent lets most commands end before anything is collected: the first collection comes at 16 MiB instead of 4.
const gcPercent = 400

// Run runs an application and returns the program's exit code. A first interrupt cancels the command's context, which
// cleans up; a second one ends the program at once. explain may say more about an error; nil does not.
func Run(app *cli.App, args []string, explain func(error) error) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	Complete(app)
	if asked, possible := completing(args); asked && !possible {
		return 0
	} else if asked {
		app.UseShortOptionHandling = false // it does not bear half a flag
		defer func() { _ = recover() }()   // the library asks for the arguments of what it could not parse
	} else {
		remember(app)
	}
	err := app.RunContext(ctx, args)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return Report(os.Stderr, app.Name, CodedError{Err: errors.New("interrupted"), Code: CodeInterrupted})
	}
	if err != nil && explain != nil {
		err = explain(err)
	}
	return Report(os.Stderr, app.Name, err)
}

// Report prints an error as people read it and returns the exit code that belongs to it.
func Report(w io.Writer, app string, err error) int {
	if err == nil {
		return 0
	}
	var exit ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	fmt.Fprintf(w, "%s: %s\n", app, grpcx.Message(err))
	var coded CodedError
	if errors.As(err, &coded) {
		return coded.Code
	}
	return 1
}

// Args checks the number of a command's arguments; names are those of the usage line ("IMAGE", "[CMD...]").
func Args(c *cli.Context, least, most int, usage string) error {
	n := c.NArg()
	if n >= least && (most < 0 || n <= most) {
		return nil
	}
	what := "too few arguments"
	if n > least {
		what = "too many arguments"
	}
	return fmt.Errorf("%s: usage: %s %s: %w", what, c.Command.HelpName, usage, errdefs.ErrInvalidArgument)
}

// Version is the module's version as the linker or the build information has it.
func Version(linked string) string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
