package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "ps", Aliases: []string{"ls", "list"}, Usage: "list containers, the running ones by default",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "those that do not run too"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Value: -1, Usage: "the `N` newest, whatever their state"},
			&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "the newest one, whatever its state"},
			&cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "print how much they have written"},
			filterFlag(view.ContainerFilterKeys()), formatFlag(), noTruncFlag(), quietFlag("print the ids only"),
		},
		Action: with(0, 0, "", runList),
	}
}

func runList(c *cli.Context, d *daemon) error {
	filters, err := view.ParseFilters(c.StringSlice("filter"), view.ContainerFilterKeys()...)
	if err != nil {
		return err
	}
	size := c.Bool("size") || strings.Contains(c.String("format"), ".Size")
	all, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns, Size: size})
	if err != nil {
		return err
	}
	last := max(0, c.Int("last"))
	if c.Bool("latest") {
		last = 1
	}
	list, err := view.Containers(all.Containers, filters, c.Bool("all"), last)
	if err != nil {
		return err
	}
	if c.Bool("quiet") && c.String("format") == "" {
		for _, one := range list {
			fmt.Fprintln(c.App.Writer, view.ShortID(one.Id, c.Bool("no-trunc")))
		}
		return nil
	}
	now := time.Now()
	var rows []view.Container
	for _, one := range list {
		rows = append(rows, view.ContainerRow(one, c.Bool("no-trunc"), now))
	}
	columns := view.ContainerColumns
	if c.Bool("size") {
		columns = view.ContainerSizeColumns
	}
	return format.List(c.App.Writer, c.String("format"), columns, view.ContainerHeader(), rows)
}

func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "list the processes of a container", ArgsUsage: "CONTAINER",
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			got, err := d.Containers.Top(c.Context, d.request(name))
			if err != nil {
				return missing(err, name)
			}
			rows := view.ProcessRows(got.Processes, time.Now())
			return format.List(c.App.Writer, "", view.ProcessColumns, view.ProcessHeader(), rows)
		}),
	}
}

func portCommand() *cli.Command {
	const usage = "CONTAINER [PORT[/PROTOCOL]]"
	return &cli.Command{
		Name: "port", Usage: "list where the ports of a container are on the host", ArgsUsage: usage,
		Action: with(1, 2, usage, func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			got, err := d.Containers.Get(c.Context, d.request(name))
			if err != nil {
				return missing(err, name)
			}
			lines := view.PortLines(got, c.Args().Get(1))
			if c.NArg() == 2 && len(lines) == 0 {
				return fmt.Errorf("no public port '%s' published for %s: %w", view.WithProtocol(c.Args().Get(1)), name, errdefs.ErrNotFound)
			}
			for _, l := range lines {
				fmt.Fprintln(c.App.Writer, l)
			}
			return nil
		}),
	}
}

func containerPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove all containers that do not run",
		Flags: []cli.Flag{forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			if ok, err := confirmed(c, "This will remove all stopped containers."); !ok {
				return err
			}
			removed, err := pruneContainers(c, d)
			if len(removed) > 0 {
				fmt.Fprintln(c.App.Writer, "Deleted Containers:")
				for _, id := range removed {
					fmt.Fprintln(c.App.Writer, id)
				}
			}
			return err
		}),
	}
}

// pruneContainers removes what does not run, and what was only made.
func pruneContainers(c *cli.Context, d *daemon) ([]string, error) {
	filters, err := view.ParseFilters(c.StringSlice("filter"), view.PruneFilterKeys()...)
	if err != nil {
		return nil, err
	}
	all, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns})
	if err != nil {
		return nil, err
	}
	list, err := view.Prunable(all.Containers, filters, time.Now())
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, one := range list {
		_, err := d.Containers.Delete(c.Context, &api.DeleteContainerRequest{Namespace: d.ns, Id: one.Id})
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return removed, err
		default:
			removed = append(removed, one.Id)
		}
	}
	slices.Sort(removed)
	return removed, nil
}
