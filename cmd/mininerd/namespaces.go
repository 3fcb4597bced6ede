package main

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/runtime/api"
)

func namespaceCommand() *cli.Command {
	label := &cli.StringSliceFlag{Name: "label", Aliases: []string{"l"}, Usage: "set a label `KEY=VALUE`; KEY= removes one"}
	return &cli.Command{
		Name: "namespace", Aliases: []string{"ns"}, Usage: "work with namespaces, which keep images and containers apart",
		Subcommands: []*cli.Command{
			{Name: "create", Usage: "make a namespace", ArgsUsage: "NAMESPACE", Flags: []cli.Flag{label}, Action: with(1, 1, "NAMESPACE", func(c *cli.Context, d *daemon) error {
				labels, err := options.Labels(c.StringSlice("label"))
				if err == nil {
					_, err = d.Namespaces.Create(c.Context, &api.CreateNamespaceRequest{Name: c.Args().First(), Labels: labels})
				}
				return err
			})},
			{Name: "update", Usage: "set labels of a namespace", ArgsUsage: "NAMESPACE", Flags: []cli.Flag{label}, Action: with(1, 1, "NAMESPACE", func(c *cli.Context, d *daemon) error {
				labels, err := options.Labels(c.StringSlice("label"))
				if err == nil {
					_, err = d.Namespaces.SetLabels(c.Context, &api.SetNamespaceLabelsRequest{Name: c.Args().First(), Labels: labels})
				}
				return err
			})},
			namespaceListCommand(),
			inspectVerb("namespace", inspectNamespace),
			{Name: "remove", Aliases: []string{"rm"}, Usage: "remove namespaces that are empty", ArgsUsage: "NAMESPACE...", Flags: []cli.Flag{
				options.SilentSwitch("cgroup", "c"), // a namespace has no cgroup of its own
			}, Action: each("NAMESPACE...", false, func(c *cli.Context, d *daemon, name string) error {
				_, err := d.Namespaces.Delete(c.Context, &api.DeleteNamespaceRequest{Name: name})
				return err
			})},
		},
	}
}

// tableOrFlag is formatFlag with a letter.
func tableOrFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT`: table, 'table TEMPLATE', json, or a Go template"}
}

// namespaceRow is a row of namespace ls.
type namespaceRow struct{ Name, Containers, Images string }

func namespaceListCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "list namespaces", Flags: []cli.Flag{tableOrFlag(), quietFlag("print the names only")},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			r, err := d.Namespaces.List(c.Context, &api.ListNamespacesRequest{})
			if err != nil {
				return err
			}
			var rows []namespaceRow
			for _, n := range r.Namespaces {
				row := namespaceRow{Name: n.Name}
				if !c.Bool("quiet") {
					containers, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: n.Name})
					images, imagesErr := d.Images.List(c.Context, &api.ListImagesRequest{Namespace: n.Name})
					if err := errors.Join(err, imagesErr); err != nil {
						return err
					}
					row.Containers, row.Images = fmt.Sprint(len(containers.Containers)), fmt.Sprint(len(images.Images))
				}
				rows = append(rows, row)
			}
			text := c.String("format")
			if c.Bool("quiet") && text == "" {
				text = "{{.Name}}"
			}
			return format.List(c.App.Writer, text, `{{.Name}}\t{{.Containers}}\t{{.Images}}`, namespaceRow{"NAME", "CONTAINERS", "IMAGES"}, rows)
		}),
	}
}

func inspectNamespace(c *cli.Context, d *daemon, name string) (any, error) {
	r, err := d.Namespaces.List(c.Context, &api.ListNamespacesRequest{})
	if err != nil {
		return nil, err
	}
	for _, n := range r.Namespaces {
		if n.Name == name {
			return struct {
				Name   string
				Labels map[string]string
			}{n.Name, n.Labels}, nil
		}
	}
	//lint:ignore ST1005 as docker says it of other objects
	return nil, fmt.Errorf("No such namespace: %s: %w", name, errdefs.ErrNotFound)
}
