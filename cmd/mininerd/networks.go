package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func networkCommand() *cli.Command {
	return &cli.Command{
		Name: "network", Usage: "work with networks",
		Subcommands: []*cli.Command{
			networkCreateCommand(), networkListCommand(), inspectVerb("network", inspectNetwork, &cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "of no effect: there is no more to tell without a swarm"}), networkRemoveCommand(), networkPruneCommand(),
			networkConnectCommand(), networkDisconnectCommand(),
		},
	}
}

func networkCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a network", ArgsUsage: "NETWORK",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "bridge", Usage: "`DRIVER`: bridge, macvlan or ipvlan"},
			&cli.StringSliceFlag{Name: "opt", Aliases: []string{"o"}, Usage: "`KEY=VALUE` for the driver"},
			&cli.StringSliceFlag{Name: "subnet", Usage: "addresses in CIDR `FORM`"},
			&cli.StringSliceFlag{Name: "gateway", Usage: "`ADDRESS` of the gateway, in the order of the subnets"},
			&cli.StringSliceFlag{Name: "ip-range", Usage: "part of the subnet that addresses are given from, in CIDR `FORM`"},
			&cli.StringSliceFlag{Name: "label", Usage: "set a label `KEY[=VALUE]`"},
			&cli.BoolFlag{Name: "internal", Usage: "no way out of it"},
			&cli.BoolFlag{Name: "ipv6", Usage: "IPv6 addresses too"},
			&cli.BoolFlag{Name: "ipv4", Value: true, Usage: "IPv4 addresses; --ipv4=false: IPv6 alone"},
			&cli.StringSliceFlag{Name: "aux-address", Usage: "`NAME=ADDRESS` that something else has in a subnet"},
			&cli.StringFlag{Name: "ipam-driver", Value: "default", Usage: "who gives addresses: `DRIVER` default, the only one"},
			&cli.StringSliceFlag{Name: "ipam-opt", Usage: "`KEY=VALUE` for the IPAM driver, which has none"},
			&cli.BoolFlag{Name: "attachable", Usage: "what inspect tells: every network is"},
			&cli.StringFlag{Name: "scope", Usage: "`SCOPE`: local"},
			&cli.BoolFlag{Name: "ingress", Usage: "of a swarm, which there is none of"},
			&cli.BoolFlag{Name: "config-only", Usage: "only a configuration, which other networks are made like"},
			&cli.StringFlag{Name: "config-from", Usage: "the `CONFIGURATION` that it is made like"},
		},
		Action: with(1, 1, "NETWORK", func(c *cli.Context, d *daemon) error {
			r, err := options.NetworkRequest(c)
			if err != nil {
				return err
			}
			r.Namespace, r.Name = d.ns, c.Args().First()
			n, err := d.Networks.Create(c.Context, r)
			if err == nil {
				fmt.Fprintln(c.App.Writer, n.Id)
			}
			return err
		}),
	}
}

func networkListCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "list networks",
		Flags: []cli.Flag{filterFlag(view.NetworkFilterKeys()), formatFlag(), noTruncFlag(), quietFlag("print the ids only")},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			filters, err := view.ParseFilters(c.StringSlice("filter"), view.NetworkFilterKeys()...)
			if err != nil {
				return err
			}
			r, err := d.Networks.List(c.Context, &api.ListNetworksRequest{Namespace: d.ns})
			if err != nil {
				return err
			}
			rows, err := view.NetworkRows(r.Networks, filters, c.Bool("no-trunc"))
			if err != nil {
				return err
			}
			text := rowFormat(c, "network_id", func(f dockerFile) string { return f.NetworksFormat })
			return format.List(c.App.Writer, text, view.NetworkColumns, view.NetworkHeader(), rows)
		}),
	}
}

func inspectNetwork(c *cli.Context, d *daemon, name string) (any, error) {
	n, err := d.Networks.Inspect(c.Context, &api.NetworkRequest{Namespace: d.ns, Name: name})
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("%s: %s: %w", noSuchNetwork, name, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if c.String("mode") == "native" {
		return n, nil
	}
	return view.DocumentOfNetwork(n), nil
}

func networkRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"remove"}, Usage: "remove networks that no container is in", ArgsUsage: "NETWORK...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "one that is not there is no error"}},
		Action: with(1, -1, "NETWORK...", func(c *cli.Context, d *daemon) error {
			var failed error
			for _, name := range c.Args().Slice() {
				_, err := d.Networks.Remove(c.Context, &api.NetworkRequest{Namespace: d.ns, Name: name})
				switch {
				case errdefs.IsNotFound(err) && c.Bool("force"):
				case errdefs.IsNotFound(err):
					failed = errors.Join(failed, fmt.Errorf("%s: %s: %w", noSuchNetwork, name, errdefs.ErrNotFound))
				case err != nil:
					failed = errors.Join(failed, err)
				default:
					fmt.Fprintln(c.App.Writer, name)
				}
			}
			return failed
		}),
	}
}

func networkPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove the networks that no container is in", Flags: []cli.Flag{forceFlag(), networkPruneFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			if ok, err := confirmed(c, "This will remove all custom networks not used by at least one container."); !ok {
				return err
			}
			return pruneNetworks(c, d)
		}),
	}
}

// networkPruneFlag has no letter: -f is --force there.
func networkPruneFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "filter", Usage: "`KEY=VALUE`: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]"}
}

func pruneNetworks(c *cli.Context, d *daemon) error {
	request, err := options.PruneNetworks(c.StringSlice("filter"), time.Now())
	if err != nil {
		return err
	}
	request.Namespace = d.ns
	r, err := d.Networks.Prune(c.Context, request)
	if err != nil {
		return err
	}
	if len(r.Removed) > 0 {
		fmt.Fprintf(c.App.Writer, "Deleted Networks:\n%s\n\n", strings.Join(r.Removed, "\n"))
	}
	return nil
}

func networkConnectCommand() *cli.Command {
	return &cli.Command{
		Name: "connect", Usage: "put a container in a network", ArgsUsage: "NETWORK CONTAINER",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "alias", Usage: "one more `NAME` of the container in it"},
			&cli.StringFlag{Name: "ip", Usage: "IPv4 `ADDRESS`"}, &cli.StringFlag{Name: "ip6", Usage: "IPv6 `ADDRESS`"},
			&cli.StringSliceFlag{Name: "link", Usage: "`CONTAINER[:ALIAS]`: a name for another container"},
			&cli.StringSliceFlag{Name: "link-local-ip", Usage: "one more `ADDRESS`, a link-local one"},
			&cli.StringSliceFlag{Name: "driver-opt", Usage: "`KEY=VALUE` for the network's driver"},
		},
		Action: with(2, 2, "NETWORK CONTAINER", func(c *cli.Context, d *daemon) error {
			more, err := options.Pairs("--driver-opt", c.StringSlice("driver-opt"))
			if err != nil {
				return err
			}
			_, err = d.Containers.Connect(c.Context, &api.ConnectRequest{
				Namespace: d.ns, Id: c.Args().Get(1),
				Network: &api.NetworkAttachment{
					Network: c.Args().First(), Aliases: c.StringSlice("alias"), Ip: c.String("ip"), Ip6: c.String("ip6"), Links: c.StringSlice("link"),
					LinkLocalIps: c.StringSlice("link-local-ip"), DriverOptions: more,
				},
			})
			return err
		}),
	}
}

func networkDisconnectCommand() *cli.Command {
	return &cli.Command{
		Name: "disconnect", Usage: "take a container out of a network", ArgsUsage: "NETWORK CONTAINER",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also one that is in a bad state"}},
		Action: with(2, 2, "NETWORK CONTAINER", func(c *cli.Context, d *daemon) error {
			_, err := d.Containers.Disconnect(c.Context, &api.ConnectRequest{
				Namespace: d.ns, Id: c.Args().Get(1), Network: &api.NetworkAttachment{Network: c.Args().First()}, Force: c.Bool("force"),
			})
			return err
		}),
	}
}
