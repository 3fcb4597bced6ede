package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func execCommand() *cli.Command {
	const usage = "CONTAINER COMMAND [ARG...]"
	return &cli.Command{
		Name: "exec", Usage: "run one more process in a running container", ArgsUsage: usage,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it running"},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "feed its standard input"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set an environment variable `KEY=VALUE`"},
			&cli.StringSliceFlag{Name: "env-file", Usage: "read environment variables from `FILE`", TakesFile: true},
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "working `DIRECTORY`"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:GROUP]`, names or numbers"},
			&cli.BoolFlag{Name: "privileged", Usage: "all capabilities"},
			icli.DetachKeysFlag(),
		},
		Action: with(2, -1, usage, runExec),
	}
}

func runExec(c *cli.Context, d *daemon) error {
	env, err := icli.Environment(c.StringSlice("env-file"), c.StringSlice("env"))
	if err != nil {
		return err
	}
	stdin := c.Bool("interactive") && !c.Bool("detach")
	if stdin && c.Bool("tty") && !isTerminal(os.Stdin) {
		return errors.New("the input device is not a TTY")
	}
	process, err := json.Marshal(spec.Exec{
		Args: c.Args().Tail(), Env: env, Cwd: c.String("workdir"), User: c.String("user"), Terminal: c.Bool("tty"), Privileged: c.Bool("privileged"),
		AllowNewPrivileges: c.Bool("privileged"),
	})
	if err != nil {
		return err
	}
	name := c.Args().First()
	x := &api.ExecRequest{Namespace: d.ns, Id: name, Process: process, Stdin: stdin}
	if c.Bool("detach") {
		_, err = d.Processes.Exec(c.Context, x)
	} else {
		s := icli.Session{Client: d.Client, Terminal: c.Bool("tty"), Stdin: stdin, DetachKeys: detachKeys(c), KeepSignal: true}
		err = s.Run(c.Context, &api.AttachOpen{Namespace: d.ns, Id: name, Exec: x})
	}
	return execError(err, name)
}

// execError gives 126 and 127 to what cannot be started; any other error of an exec is docker's 1.
func execError(err error, name string) error {
	var coded icli.CodedError
	if errors.As(icli.StartError(err), &coded) {
		if coded.Code == icli.CodeDaemon {
			if !errdefs.IsFailedPrecondition(err) && strings.Contains(err.Error(), "execute in container") { // it knows no such user, say
				return icli.CodedError{Err: err, Code: icli.CodeNotExecutable}
			}
			if errdefs.IsFailedPrecondition(err) {
				return fmt.Errorf("container %s is not running: %w", name, err)
			}
			return missing(err, name)
		}
		return coded
	}
	return err
}
