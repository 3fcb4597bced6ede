package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/files"
)

func copyCommand() *cli.Command {
	const usage = "CONTAINER:PATH PATH|- | PATH|- CONTAINER:PATH"
	return &cli.Command{
		Name: "cp", Usage: "copy files between a container, running or not, and this machine", ArgsUsage: usage,
		Description: "What ends with /. is the contents of a directory, - is an archive on the standard input or output.\nNothing in the container is run for it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "into a container: for the user that it runs as; out of one: keep the numbers of users and groups"},
			&cli.BoolFlag{Name: "follow-link", Aliases: []string{"L"}, Usage: "copy what a link leads to"},
			quietFlag("print nothing; so it is without a terminal"),
		},
		Action: with(2, 2, usage, func(c *cli.Context, d *daemon) error {
			from, to := files.ParsePlace(c.Args().First()), files.ParsePlace(c.Args().Get(1))
			k := files.Copier{
				Client: d.Client, Namespace: d.ns, Archive: c.Bool("archive"), Follow: c.Bool("follow-link"),
				Skipped: func(what string) { warn(c, []string{"cp: " + what}) },
			}
			n, err := k.Copy(c.Context, from, to)
			if err != nil {
				return err
			}
			if !c.Bool("quiet") && isTerminal(os.Stdout) && to.Path != files.Stream {
				target := to.Path
				if to.Container != "" {
					target = to.Container + ":" + to.Path
				}
				fmt.Fprintf(c.App.ErrWriter, "Successfully copied %s to %s\n", units.HumanSize(float64(n)), target)
			}
			return nil
		}),
	}
}

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write a container's root filesystem as a tar archive", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of the standard output"}},
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			to := c.String("output")
			if to == "" && isTerminal(os.Stdout) {
				return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
			}
			if to == "" {
				to = files.Stream
			} else if err := files.CheckOutput(to); err != nil {
				return err
			}
			name := c.Args().First()
			return missing(icli.ToFile(to, func(w io.Writer) error { return d.ExportFiles(c.Context, d.request(name), w) }), name)
		}),
	}
}

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "list what a container has added (A), changed (C) and deleted (D) in its root filesystem", ArgsUsage: "CONTAINER",
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			answer, err := d.Archives.Changes(c.Context, d.request(name))
			if err != nil {
				return missing(err, name)
			}
			for _, change := range answer.Changes {
				fmt.Fprintln(c.App.Writer, change.Kind, change.Path)
			}
			return nil
		}),
	}
}
