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
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "into a container: for the user that it runs as; out of one: keep the numbers of users and groups"},
			&cli.BoolFlag{Name: "follow-link", Aliases: []string{"L"}, Usage: "copy what a link leads to"},
		},
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
	target, err := findContainer(c.Context, d, from.Container+to.Container)
	if err != nil {
		return err
	}
	if from.Container != "" {
		from.Container = target.Id
	} else {
		to.Container = target.Id
	}
	k := files.Copier{
		Client: d, Namespace: target.Namespace, Archive: c.Bool("archive"), Follow: c.Bool("follow-link"),
		Skipped: func(what string) { warn(c, "cp: %s", what) },
	}
	if _, err := k.Copy(c.Context, from, to); err != nil {
		return fmt.Errorf("cp: %w", err)
	}
	return nil
}
