package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "make a container and run it", ArgsUsage: "IMAGE|ROOTFS CONTAINER [COMMAND...]",
		Flags: icli.Join(containerFlags(), startFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "rm", Usage: "remove the container when it has exited"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it running and print its id"},
		}),
		Action: with(runRun),
	}
}

// startFlags are those of the commands that start a container.
func startFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "null-io", Usage: "keep no log, attach nothing"},
		&cli.StringFlag{Name: "pid-file", Usage: "write the process's id to `FILE`"},
		icli.DetachKeysFlag(),
	}
}

func runRun(c *cli.Context, d *daemon) error {
	req, err := createRequest(c, d)
	if err == nil {
		_, err = client.ParseDetachKeys(c.String("detach-keys")) // before anything is made
	}
	if err != nil {
		return icli.StartError(err)
	}
	detach := c.Bool("detach")
	req.AutoRemove = c.Bool("rm")
	req.Stdin = req.Stdin || !detach
	req.StdinOnce = !detach
	req.StartFollows = true
	made, err := d.Containers.Create(c.Context, req)
	if err != nil {
		return icli.StartError(err)
	}
	warn(c, made.Warnings)
	if detach || c.Bool("null-io") {
		return runDetached(c, d, made.Id, !detach)
	}
	return attachTo(c, d, &api.AttachOpen{Namespace: d.ns, Id: made.Id, Start: true}, terminalOf(c, made), true)
}

// terminalOf says whether the container has a terminal; a whole spec says so itself.
func terminalOf(c *cli.Context, made *api.Container) bool {
	if c.String("config") == "" {
		return c.Bool("tty")
	}
	return specHasTerminal(made.Spec)
}

func runDetached(c *cli.Context, d *daemon, id string, wait bool) error {
	r, err := d.Containers.Start(c.Context, &api.ContainerRequest{Namespace: d.ns, Id: id})
	if err != nil {
		return icli.StartError(err)
	}
	warn(c, r.Warnings)
	if err := writePid(c, r.Pid); err != nil {
		return err
	}
	if !wait {
		fmt.Fprintln(c.App.Writer, id)
		return nil
	}
	exit, err := d.Processes.Wait(c.Context, &api.ProcessRequest{Namespace: d.ns, Id: id})
	if err != nil {
		return err
	}
	return icli.ExitOf(exit)
}

// attachTo joins a process to this program's streams until it ends.
func attachTo(c *cli.Context, d *daemon, open *api.AttachOpen, terminal, stdin bool) error {
	s := icli.Session{Client: d.Client, Terminal: terminal, Stdin: stdin, DetachKeys: c.String("detach-keys")}
	var pidError error
	s.Opened = func(o *api.AttachOpened) { pidError = writePid(c, o.Pid) }
	return icli.StartError(errors.Join(s.Run(c.Context, open), pidError))
}

func writePid(c *cli.Context, pid int64) error {
	if c.String("pid-file") == "" {
		return nil
	}
	return os.WriteFile(c.String("pid-file"), []byte(strconv.FormatInt(pid, 10)), 0o644)
}

func tasksStartCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start a container that was made or has exited", ArgsUsage: "CONTAINER",
		Flags: icli.Join(startFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it running"},
		}),
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			id := c.Args().First()
			if c.Bool("detach") || c.Bool("null-io") {
				return runDetached(c, d, id, !c.Bool("detach"))
			}
			made, err := d.Containers.Get(c.Context, &api.ContainerRequest{Namespace: d.ns, Id: id, Spec: true})
			if err != nil {
				return err
			}
			return attachTo(c, d, &api.AttachOpen{Namespace: d.ns, Id: made.Id, Start: true}, specHasTerminal(made.Spec), true)
		}),
	}
}

func tasksAttachCommand() *cli.Command {
	return &cli.Command{
		Name: "attach", Usage: "join the streams of a running container", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			icli.DetachKeysFlag(),
			&cli.StringFlag{Name: "exec-id", Usage: "`ID` of a process executed in it"},
			&cli.BoolFlag{Name: "no-stdin", Usage: "do not feed its standard input"},
			&cli.BoolFlag{Name: "logs", Usage: "first print what it has logged"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			p, err := findProcess(c, d, c.Args().First(), c.String("exec-id"))
			if err != nil {
				return err
			}
			open := &api.AttachOpen{Namespace: d.ns, Id: c.Args().First(), ExecId: c.String("exec-id"), Logs: c.Bool("logs")}
			return attachTo(c, d, open, p.Terminal, !c.Bool("no-stdin"))
		}),
	}
}

func findProcess(c *cli.Context, d *daemon, id, execID string) (*api.Process, error) {
	r, err := d.Processes.List(c.Context, &api.ListProcessesRequest{Namespace: d.ns, Id: id})
	if err != nil {
		return nil, err
	}
	for _, p := range r.Processes {
		if p.ExecId == execID {
			return p, nil
		}
	}
	if execID == "" {
		return nil, fmt.Errorf("container %s has no process: start it first: %w", id, errdefs.ErrFailedPrecondition)
	}
	return nil, fmt.Errorf("process %s: not in container %s: %w", execID, id, errdefs.ErrNotFound)
}
