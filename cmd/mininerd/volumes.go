package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

// noSuchVolume says so in docker's words, which scripts look for.
func noSuchVolume(name string) error {
	return fmt.Errorf("get %s: no such volume: %w", name, errdefs.ErrNotFound)
}

func volumeCommand() *cli.Command {
	return &cli.Command{
		Name: "volume", Usage: "work with volumes",
		Subcommands: []*cli.Command{
			volumeCreateCommand(), volumeListCommand(), inspectVerb("volume", inspectVolume, volumeSizeFlag()), volumeRemoveCommand(),
			volumePruneCommand(), volumeUpdateCommand(),
		},
	}
}

func volumeSizeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "with what its files take on the disk"}
}

func volumeCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a volume", ArgsUsage: "[VOLUME]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "local", Usage: "`DRIVER`: local"},
			&cli.StringSliceFlag{Name: "opt", Aliases: []string{"o"}, Usage: "`KEY=VALUE` for the driver: type=FILESYSTEM, device=DEVICE, o=OPTIONS of what is mounted on it while it is used"},
			&cli.StringSliceFlag{Name: "label", Usage: "set a label `KEY[=VALUE]`"},
			&cli.StringFlag{Name: "name", Usage: "the volume's `NAME`", Hidden: true},
		},
		Action: with(0, 1, "[VOLUME]", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			if c.String("name") != "" {
				if name != "" {
					return fmt.Errorf("conflicting options: either specify --name or provide positional arg, not both: %w", errdefs.ErrInvalidArgument)
				}
				name = c.String("name")
			}
			labels, err := options.Labels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			wanted, err := icli.Pairs("--opt", c.StringSlice("opt"))
			if err != nil {
				return err
			}
			v, err := d.Volumes.Create(c.Context, &api.CreateVolumeRequest{Namespace: d.ns, Name: name, Driver: c.String("driver"), Labels: labels, Options: wanted})
			if err == nil {
				fmt.Fprintln(c.App.Writer, v.Name)
			}
			return err
		}),
	}
}

func volumeListCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "list volumes",
		Flags: []cli.Flag{filterFlag(view.VolumeFilterKeys()), formatFlag(), quietFlag("print the names only"), volumeSizeFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			filters, err := view.ParseVolumeFilters(c.StringSlice("filter"))
			if err != nil {
				return err
			}
			size := c.Bool("size") || filters.Sized()
			r, err := d.Volumes.List(c.Context, &api.ListVolumesRequest{Namespace: d.ns, Size: size})
			if err != nil {
				return err
			}
			rows, err := view.VolumeRows(r.Volumes, filters)
			if err != nil {
				return err
			}
			text, columns := c.String("format"), view.VolumeColumns
			if c.Bool("quiet") && text == "" {
				text = "{{.Name}}"
			}
			if size {
				columns = view.VolumeSizeColumns
			}
			return format.List(c.App.Writer, text, columns, view.VolumeHeader(), rows)
		}),
	}
}

func inspectVolume(c *cli.Context, d *daemon, name string) (any, error) {
	v, err := d.Volumes.Inspect(c.Context, &api.VolumeRequest{Namespace: d.ns, Name: name, Size: c.Bool("size")})
	if errdefs.IsNotFound(err) {
		return nil, noSuchVolume(name)
	}
	if err != nil {
		return nil, err
	}
	if c.String("mode") == "native" {
		return v, nil
	}
	return view.DocumentOfVolume(v), nil
}

func volumeRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"remove"}, Usage: "remove volumes that no container has", ArgsUsage: "VOLUME...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "one that is not there is no error"}},
		Action: with(1, -1, "VOLUME...", func(c *cli.Context, d *daemon) error {
			var failed error
			for _, name := range c.Args().Slice() {
				_, err := d.Volumes.Remove(c.Context, &api.VolumeRequest{Namespace: d.ns, Name: name})
				switch {
				case errdefs.IsNotFound(err) && !c.Bool("force"):
					failed = errors.Join(failed, noSuchVolume(name))
				case err != nil && !errdefs.IsNotFound(err):
					failed = errors.Join(failed, err)
				default:
					fmt.Fprintln(c.App.Writer, name)
				}
			}
			return failed
		}),
	}
}

func volumePruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove the volumes without a name that no container has",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "those with a name too"}, forceFlag(),
			&cli.StringSliceFlag{Name: "filter", Usage: "only those with `KEY=VALUE`: " + strings.Join(view.VolumePruneKeys(), ", ")},
		},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			filters, err := view.ParseFilters(c.StringSlice("filter"), view.VolumePruneKeys()...)
			if err != nil {
				return err
			}
			all, err := filters.All(c.Bool("all"))
			if err != nil {
				return err
			}
			kind := "anonymous local"
			if all {
				kind = "local"
			}
			if ok, err := confirmed(c, "This will remove all "+kind+" volumes not used by at least one container."); !ok {
				return err
			}
			freed, err := pruneVolumes(c, d, filters, all)
			if err == nil {
				fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", units.HumanSize(float64(freed)))
			}
			return err
		}),
	}
}

// pruneVolumes removes the volumes that the filters let through and prints them; it returns the bytes that they took.
func pruneVolumes(c *cli.Context, d *daemon, filters view.Filters, all bool) (freed int64, err error) {
	list, err := d.Volumes.List(c.Context, &api.ListVolumesRequest{Namespace: d.ns})
	if err != nil {
		return 0, err
	}
	names := view.VolumeNames(list.Volumes, filters)
	if len(names) == 0 {
		return 0, nil
	}
	out, err := d.Volumes.Prune(c.Context, &api.PruneVolumesRequest{Namespace: d.ns, All: all, Names: names})
	if err != nil || len(out.Removed) == 0 {
		return 0, err
	}
	fmt.Fprintln(c.App.Writer, "Deleted Volumes:")
	for _, v := range out.Removed {
		fmt.Fprintln(c.App.Writer, v.Name)
		freed += v.GetUsage().GetSize()
	}
	fmt.Fprintln(c.App.Writer)
	return freed, nil
}

// volumeUpdateCommand is docker's verb for the volumes of a cluster, which there are none of.
func volumeUpdateCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "change a volume of a cluster (there are none)", ArgsUsage: "VOLUME",
		Flags: []cli.Flag{&cli.StringFlag{Name: "availability", Usage: "active, pause or drain: `STATE` of a volume of a cluster"}},
		Action: func(*cli.Context) error {
			return fmt.Errorf("volume update can only be done to cluster volumes, which there are none of: make another volume: %w", errdefs.ErrNotImplemented)
		},
	}
}
