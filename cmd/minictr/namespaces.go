package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func namespacesCommand() *cli.Command {
	return &cli.Command{
		Name: "namespaces", Aliases: []string{"namespace", "ns"}, Usage: "work with namespaces",
		Subcommands: []*cli.Command{
			{
				Name: "create", Aliases: []string{"c"}, Usage: "make a namespace", ArgsUsage: "NAME [KEY=VALUE...]",
				Action: with(func(c *cli.Context, d *daemon) error {
					if err := icli.Args(c, 1, -1, "NAME [KEY=VALUE...]"); err != nil {
						return err
					}
					labels, err := icli.ParseLabels(c.Args().Tail())
					if err != nil {
						return err
					}
					_, err = d.Namespaces.Create(c.Context, &api.CreateNamespaceRequest{Name: c.Args().First(), Labels: labels})
					return err
				}),
			},
			{
				Name: "list", Aliases: []string{"ls"}, Usage: "list namespaces", Flags: icli.OutputFlags(),
				Action: with(func(c *cli.Context, d *daemon) error {
					r, err := d.Namespaces.List(c.Context, &api.ListNamespacesRequest{})
					if err != nil {
						return err
					}
					l := icli.List{Header: []string{"NAME", "LABELS"}, JSON: r.Namespaces}
					for _, n := range r.Namespaces {
						l.Rows = append(l.Rows, []string{n.Name, icli.Labels(n.Labels)})
					}
					return l.Print(c)
				}),
			},
			{
				Name: "remove", Aliases: []string{"rm"}, Usage: "remove empty namespaces", ArgsUsage: "NAME...",
				Action: func(c *cli.Context) error {
					return each(c, "NAME...", func(d *daemon, name string) error {
						_, err := d.Namespaces.Delete(c.Context, &api.DeleteNamespaceRequest{Name: name})
						if err == nil {
							fmt.Fprintln(c.App.Writer, name)
						}
						return err
					})
				},
			},
			{
				Name: "label", Usage: "set labels of a namespace; KEY= removes one", ArgsUsage: "NAME KEY=VALUE...",
				Action: labelAction("NAME", func(c *cli.Context, d *daemon, labels map[string]string) (map[string]string, error) {
					n, err := d.Namespaces.SetLabels(c.Context, &api.SetNamespaceLabelsRequest{Name: c.Args().First(), Labels: labels})
					return n.GetLabels(), err
				}),
			},
		},
	}
}

func leasesCommand() *cli.Command {
	return &cli.Command{
		Name: "leases", Aliases: []string{"lease"}, Usage: "work with leases, which keep content and snapshots from the garbage collection",
		Subcommands: []*cli.Command{leasesListCommand(), leasesCreateCommand(), leasesDeleteCommand(), leasesAddCommand()},
	}
}

func leasesListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list leases", ArgsUsage: "[FILTER...]", Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Leases.List(c.Context, &api.ListLeasesRequest{Namespace: d.ns, Filters: c.Args().Slice()})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"LEASE ID", "CREATED", "EXPIRES", "RESOURCES", "LABELS"}, JSON: r.Leases}
			for _, i := range r.Leases {
				l.Rows = append(l.Rows, []string{i.Id, icli.Ago(i.CreatedAt), icli.At(i.ExpiresAt), fmt.Sprint(len(i.Resources)), icli.Labels(i.Labels)})
			}
			return l.Print(c)
		}),
	}
}

func leasesCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a lease and print its id", ArgsUsage: "[KEY=VALUE...]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "id", Usage: "`ID` of the lease; one is made when missing"},
			&cli.DurationFlag{Name: "expires", Aliases: []string{"x"}, Value: 24 * 3600 * 1e9, Usage: "how long it lasts; 0: for ever"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			labels, err := icli.ParseLabels(c.Args().Slice())
			if err != nil {
				return err
			}
			l, err := d.Leases.Create(c.Context, &api.CreateLeaseRequest{
				Namespace: d.ns, Id: c.String("id"), Labels: labels, ExpireAfter: int64(c.Duration("expires")),
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, l.Id)
			return nil
		}),
	}
}

func leasesDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "delete leases", ArgsUsage: "LEASE...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "sync", Usage: "wait for the garbage collection"}},
		Action: func(c *cli.Context) error {
			return each(c, "LEASE...", func(d *daemon, id string) error {
				_, err := d.Leases.Delete(c.Context, &api.DeleteLeaseRequest{Namespace: d.ns, Id: id, Sync: c.Bool("sync")})
				return err
			})
		},
	}
}

func leasesAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "put content or a snapshot under a lease", ArgsUsage: "LEASE content|snapshot ID",
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 3, 3, "LEASE content|snapshot ID"); err != nil {
				return err
			}
			_, err := d.Leases.AddResource(c.Context, &api.LeaseResourceRequest{
				Namespace: d.ns, Id: c.Args().Get(0), Resource: &api.LeaseResource{Type: c.Args().Get(1), Id: c.Args().Get(2)},
			})
			return err
		}),
	}
}
