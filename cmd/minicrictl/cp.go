package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/files"
	"github.com/minirt/mini/runtime/client"
)

func cpCommand() *cli.Command {
	const usage = "CONTAINER:PATH PATH | PATH CONTAINER:PATH"
	return &cli.Command{
		Name: "cp", Usage: "copy files between a container, running or not, and this machine; with minid", ArgsUsage: usage,
		Description: "What ends with /. is the contents of a directory. Nothing in the container is run for it.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "keep the numbers of users and groups"}},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			from, to := files.ParsePlace(c.Args().First()), files.ParsePlace(c.Args().Get(1))
			if (from.Container == "") == (to.Container == "") {
				return fmt.Errorf("cp: one of the two is in a container: usage: %s %s: %w", c.Command.HelpName, usage, errdefs.ErrInvalidArgument)
			}
			return withNative(func(c *cli.Context, d *client.Client) error { return runCp(c, d, from, to) })(c)
		},
	}
}

func runCp(c *cli.Context, d *client.Client, from, to files.Place) error {
	id := from.Container + to.Container
	target, err := findContainer(c.Context, d, id)
	if err != nil {
		return err
	}
	return files.In(c.Context, d, target, func(root string) error {
		roots := [2]string{"", ""}
		if from.Container != "" {
			roots[0] = root
		} else {
			roots[1] = root
		}
		k := files.Copier{Owners: c.Bool("archive"), Skipped: func(name string) { warn(c, "cp: %s is neither file, directory nor link: left out", name) }}
		if err := k.CopyPath(roots[0], from.Path, roots[1], to.Path); err != nil {
			return fmt.Errorf("cp: %w", err)
		}
		return nil
	})
}
