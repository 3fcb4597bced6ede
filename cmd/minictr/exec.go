package main

import (
	"encoding/json"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run one more process in a running container", ArgsUsage: "CONTAINER COMMAND...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it running and print its id"},
			&cli.StringFlag{Name: "exec-id", Usage: "`ID` of the process; one is made when missing"},
			&cli.StringFlag{Name: "cwd", Aliases: []string{"w"}, Usage: "working `DIRECTORY`"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:GROUP]`, names or numbers"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set an environment variable `KEY=VALUE`"},
			&cli.StringSliceFlag{Name: "env-file", Usage: "read environment variables from `FILE`"},
			&cli.StringSliceFlag{Name: "cap-add", Usage: "add a `CAPABILITY`"},
			&cli.BoolFlag{Name: "privileged", Usage: "all capabilities"},
			&cli.BoolFlag{Name: "allow-new-privs", Usage: "let set-user-id programs raise privileges"},
			&cli.BoolFlag{Name: "no-stdin", Usage: "do not feed its standard input"},
			&cli.StringFlag{Name: "pid-file", Usage: "write the process's id to `FILE`"},
			icli.DetachKeysFlag(),
		},
		Action: with(runExec),
	}
}

func runExec(c *cli.Context, d *daemon) error {
	if err := icli.Args(c, 2, -1, "CONTAINER COMMAND..."); err != nil {
		return err
	}
	env, err := icli.Environment(c.StringSlice("env-file"), c.StringSlice("env"))
	if err != nil {
		return err
	}
	process, err := json.Marshal(spec.Exec{
		Args: c.Args().Tail(), Env: env, Cwd: c.String("cwd"), User: c.String("user"), Terminal: c.Bool("tty"),
		Privileged: c.Bool("privileged"), CapAdd: c.StringSlice("cap-add"), AllowNewPrivileges: c.Bool("allow-new-privs"),
	})
	if err != nil {
		return err
	}
	stdin := !c.Bool("detach") && !c.Bool("no-stdin")
	x := &api.ExecRequest{Namespace: d.ns, Id: c.Args().First(), ExecId: c.String("exec-id"), Process: process, Stdin: stdin}
	if !c.Bool("detach") {
		return attachTo(c, d, &api.AttachOpen{Namespace: d.ns, Id: x.Id, Exec: x}, c.Bool("tty"), stdin)
	}
	r, err := d.Processes.Exec(c.Context, x)
	if err != nil {
		return icli.StartError(err)
	}
	fmt.Fprintln(c.App.Writer, r.ExecId)
	return writePid(c, r.Pid)
}

func specHasTerminal(doc []byte) bool {
	var s specs.Spec
	return json.Unmarshal(doc, &s) == nil && s.Process != nil && s.Process.Terminal
}
