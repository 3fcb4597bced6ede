package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func containersCheckpointCommand() *cli.Command {
	const usage = "CONTAINER IMAGE|DIRECTORY"
	return &cli.Command{
		Name: "checkpoint", Usage: "make an image of a container, or write its processes to a directory of the daemon's machine, with criu",
		ArgsUsage: usage,
		Description: "A directory begins with / or a dot; everything else is the name of an image. The image says how the container was\n" +
			"made; what of the rest it has, the flags tell. Only --task, and a directory, need criu.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "rw", Usage: "with what the container has changed of its root filesystem"},
			&cli.BoolFlag{Name: "image", Usage: "with the container's own image, to restore it elsewhere"},
			&cli.BoolFlag{Name: "task", Usage: "with its processes"},
			&cli.BoolFlag{Name: "leave-running", Usage: "let them go on"},
			&cli.BoolFlag{Name: "tcp-established", Usage: "also with open TCP connections"},
			&cli.BoolFlag{Name: "file-locks", Usage: "also with file locks"},
			&cli.StringFlag{Name: "work-path", Usage: "`DIRECTORY` of criu's logs"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			r := &api.CheckpointRequest{
				Namespace: d.ns, Id: c.Args().Get(0), LeaveRunning: c.Bool("leave-running"), TcpEstablished: c.Bool("tcp-established"),
				FileLocks: c.Bool("file-locks"), WorkPath: c.String("work-path"),
				Rw: c.Bool("rw"), Base: c.Bool("image"), Processes: c.Bool("task"),
			}
			r.Path, r.Image = checkpointTarget(c.Args().Get(1))
			made, err := d.Containers.Checkpoint(c.Context, r)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, made.Path+made.GetImage().GetName())
			return nil
		}),
	}
}

// checkpointTarget tells a directory from the name of an image.
func checkpointTarget(arg string) (path, image string) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return arg, ""
	}
	return "", arg
}

func containersRestoreCommand() *cli.Command {
	const usage = "CONTAINER IMAGE|DIRECTORY"
	return &cli.Command{
		Name: "restore", Usage: "make a container of the image of a checkpoint, or start a stopped one from a directory", ArgsUsage: usage,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "live", Usage: "let the processes of the image go on; otherwise the container is not started"},
			&cli.BoolFlag{Name: "tcp-established", Usage: "also with open TCP connections"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			r := &api.RestoreRequest{Namespace: d.ns, Id: c.Args().Get(0), Live: c.Bool("live"), TcpEstablished: c.Bool("tcp-established")}
			r.Path, r.Image = checkpointTarget(c.Args().Get(1))
			made, err := d.Containers.Restore(c.Context, r)
			if err != nil {
				return err
			}
			warn(c, made.Warnings)
			if made.Pid == 0 {
				fmt.Fprintln(c.App.Writer, r.Id)
			} else {
				fmt.Fprintln(c.App.Writer, made.Pid)
			}
			return nil
		}),
	}
}
