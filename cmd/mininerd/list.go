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
	text := rowFormat(c, "container_id", func(f dockerFile) string { return f.PsFormat })
	size := c.Bool("size") || strings.Contains(text, ".Size")
	brief := !size && slices.Contains([]string{"", "table", "{{.ID}}"}, text) && !c.IsSet("filter")
	all, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns, Size: size, Brief: brief})
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
	rows, err := containerRows(c, d, list, size)
	if err != nil {
		return err
	}
	columns := view.ContainerColumns
	if c.Bool("size") {
		columns = view.ContainerSizeColumns
	}
	return format.List(c.App.Writer, text, columns, view.ContainerHeader(), rows)
}

// containerRows are those of the containers; with their sizes, what their images take is told too.
func containerRows(c *cli.Context, d *daemon, list []*api.Container, size bool) ([]view.Container, error) {
	rows := view.ContainerRows(list, c.Bool("no-trunc"), time.Now())
	if !size {
		return rows, nil
	}
	images := map[string]int64{} // sizes by name
	for i, one := range list {
		whole, known := images[one.Image]
		if !known {
			var err error
			if whole, err = d.imageSize(c.Context, one); err != nil {
				return nil, err
			}
			images[one.Image] = whole
		}
		rows[i].Size = view.WrittenAndWhole(one, whole)
	}
	return rows, nil
}

func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "list the processes of a container, by ps where options of it are given", ArgsUsage: "CONTAINER [PS OPTIONS]",
		Action: with(1, -1, "CONTAINER [PS OPTIONS]", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			got, err := d.Containers.Top(c.Context, &api.TopRequest{Namespace: d.ns, Id: name, PsOptions: c.Args().Tail()})
			if err != nil {
				return missing(err, name)
			}
			if len(got.Titles) > 0 {
				return format.Rows(c.App.Writer, got.Titles, view.Cells(got.Rows))
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
