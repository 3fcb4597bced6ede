package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/runtime/api"
)

func checkpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "keep what containers are doing, to go on from there (start --checkpoint)",
		Subcommands: []*cli.Command{checkpointCreateCommand(), checkpointListCommand(), checkpointRemoveCommand()},
	}
}

func checkpointDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "checkpoint-dir", Usage: "`DIRECTORY` of the daemon's machine for checkpoints, instead of the container's own"}
}

// checkpointDir is an absolute path, or empty.
func checkpointDir(c *cli.Context) (string, error) {
	dir := c.String("checkpoint-dir")
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

func checkpointCreateCommand() *cli.Command {
	const usage = "CONTAINER CHECKPOINT"
	return &cli.Command{
		Name: "create", Usage: "write a checkpoint of a running container, which ends then", ArgsUsage: usage,
		Flags: []cli.Flag{checkpointDirFlag(), &cli.BoolFlag{Name: "leave-running", Usage: "let it run on"}},
		Action: with(2, 2, usage, func(c *cli.Context, d *daemon) error {
			dir, err := checkpointDir(c)
			if err != nil {
				return err
			}
			container, name := c.Args().First(), c.Args().Get(1)
			_, err = d.Containers.Checkpoint(c.Context, &api.CheckpointRequest{
				Namespace: d.ns, Id: container, Name: name, Dir: dir, LeaveRunning: c.Bool("leave-running"),
			})
			if err != nil {
				return missing(err, container)
			}
			fmt.Fprintln(c.App.Writer, name)
			return nil
		}),
	}
}

// checkpointRow is a row of checkpoint ls.
type checkpointRow struct{ Name string }

func checkpointListCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "list the checkpoints of a container", ArgsUsage: "CONTAINER", Flags: []cli.Flag{checkpointDirFlag()},
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			dir, err := checkpointDir(c)
			if err != nil {
				return err
			}
			container := c.Args().First()
			r, err := d.Containers.ListCheckpoints(c.Context, &api.ListCheckpointsRequest{Namespace: d.ns, Id: container, Dir: dir})
			if err != nil {
				return missing(err, container)
			}
			var rows []checkpointRow
			for _, name := range r.Names {
				rows = append(rows, checkpointRow{name})
			}
			return format.List(c.App.Writer, "", "{{.Name}}", checkpointRow{"CHECKPOINT NAME"}, rows)
		}),
	}
}

func checkpointRemoveCommand() *cli.Command {
	const usage = "CONTAINER CHECKPOINT"
	return &cli.Command{
		Name: "rm", Aliases: []string{"remove"}, Usage: "remove a checkpoint", ArgsUsage: usage, Flags: []cli.Flag{checkpointDirFlag()},
		Action: with(2, 2, usage, func(c *cli.Context, d *daemon) error {
			dir, err := checkpointDir(c)
			if err != nil {
				return err
			}
			container := c.Args().First()
			_, err = d.Containers.RemoveCheckpoint(c.Context, &api.RemoveCheckpointRequest{Namespace: d.ns, Id: container, Name: c.Args().Get(1), Dir: dir})
			if err != nil {
				return missing(err, container)
			}
			return nil
		}),
	}
}
