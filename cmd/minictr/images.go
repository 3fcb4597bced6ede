package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func imagesCommand() *cli.Command {
	return &cli.Command{
		Name: "images", Aliases: []string{"image", "i"}, Usage: "work with images",
		Subcommands: []*cli.Command{
			imagesPullCommand(), imagesPushCommand(), imagesListCommand(), imagesCheckCommand(), imagesInspectCommand(),
			imagesUsageCommand(), imagesPruneCommand(), imagesImportCommand(), imagesExportCommand(), imagesTagCommand(),
			imagesDeleteCommand(), imagesMountCommand(), imagesUnmountCommand(), imagesLabelCommand(), imagesConvertCommand(),
			imagesUnpackCommand(),
		},
	}
}

func imagesListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list images", ArgsUsage: "[FILTER...]",
		Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Images.List(c.Context, &api.ListImagesRequest{Namespace: d.ns, Filters: c.Args().Slice()})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"}, JSON: r.Images}
			for _, i := range r.Images {
				l.Rows = append(l.Rows, []string{i.Name, i.Target.MediaType, i.Target.Digest, icli.Size(i.Size),
					dash(strings.Join(i.Platforms, ",")), icli.Labels(i.Labels)})
			}
			return l.Print(c)
		}),
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func imagesDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "remove images by name", ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "sync", Usage: "wait until what nothing else uses is deleted from the disk"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "by an id that has several names: remove them all"},
		},
		Action: func(c *cli.Context) error {
			return each(c, "IMAGE...", func(d *daemon, name string) error {
				r, err := d.Images.Delete(c.Context, &api.DeleteImageRequest{Namespace: d.ns, Name: name, Sync: c.Bool("sync"), Force: c.Bool("force")})
				if err != nil {
					return err
				}
				for _, n := range r.Untagged {
					fmt.Fprintln(c.App.Writer, n)
				}
				return nil
			})
		},
	}
}

func imagesTagCommand() *cli.Command {
	return &cli.Command{
		Name: "tag", Usage: "give an image more names", ArgsUsage: "SOURCE TARGET...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "take the name away from another image"}},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, -1, "SOURCE TARGET..."); err != nil {
				return err
			}
			d, err := connect(c)
			if err != nil {
				return err
			}
			defer d.Close()
			for _, target := range c.Args().Tail() {
				i, err := d.Images.Tag(c.Context, &api.TagRequest{Namespace: d.ns, Source: c.Args().First(), Target: target, Force: c.Bool("force")})
				if err != nil {
					return err
				}
				fmt.Fprintln(c.App.Writer, i.Name)
			}
			return nil
		},
	}
}

func imagesLabelCommand() *cli.Command {
	return &cli.Command{
		Name: "label", Usage: "set labels of an image; KEY= removes one", ArgsUsage: "IMAGE KEY=VALUE...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "replace-all", Aliases: []string{"r"}, Usage: "remove the labels not named"}},
		Action: labelAction("IMAGE", func(c *cli.Context, d *daemon, labels map[string]string) (map[string]string, error) {
			i, err := d.Images.SetLabels(c.Context, &api.SetImageLabelsRequest{
				Namespace: d.ns, Name: c.Args().First(), Labels: labels, Replace: c.Bool("replace-all"),
			})
			return i.GetLabels(), err
		}),
	}
}

func imagesUsageCommand() *cli.Command {
	return &cli.Command{
		Name: "usage", Usage: "tell the disk space that an image takes", ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{snapshotterFlag()},
		Action: func(c *cli.Context) error {
			return each(c, "IMAGE...", func(d *daemon, name string) error {
				u, err := d.Images.Usage(c.Context, &api.UsageRequest{Namespace: d.ns, Name: name, Snapshotter: c.String("snapshotter")})
				if err != nil {
					return err
				}
				return icli.PrintTable(c.App.Writer, []string{"IMAGE", "CONTENT", "SNAPSHOTS", "INODES"},
					[][]string{{name, icli.Size(u.ContentSize), icli.Size(u.SnapshotSize), fmt.Sprint(u.Inodes)}})
			})
		},
	}
}

func imagesPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove images that no container uses",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "those with a tag too"}},
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Images.Prune(c.Context, &api.PruneImagesRequest{Namespace: d.ns, All: c.Bool("all")})
			if err != nil {
				return err
			}
			for _, n := range r.Deleted {
				fmt.Fprintln(c.App.Writer, n)
			}
			fmt.Fprintf(c.App.Writer, "freed %s\n", icli.Size(r.Bytes))
			return nil
		}),
	}
}

func imagesCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "check that images are whole", ArgsUsage: "[IMAGE...]",
		Flags: append(icli.OutputFlags(), snapshotterFlag()),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Images.Check(c.Context, &api.CheckImagesRequest{Namespace: d.ns, Names: c.Args().Slice(), Snapshotter: c.String("snapshotter")})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"REF", "TYPE", "DIGEST", "STATUS", "SIZE", "UNPACKED"}, JSON: r.Images}
			for _, i := range r.Images {
				l.Rows = append(l.Rows, []string{i.Name, i.Target.MediaType, i.Target.Digest,
					fmt.Sprintf("%s (%d/%d)", i.Status, i.Present, i.Required),
					icli.Size(i.PresentSize) + "/" + icli.Size(i.Size), fmt.Sprint(i.Unpacked)})
			}
			return l.Print(c)
		}),
	}
}

func imagesConvertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Usage: "make an image of another's content in another form", ArgsUsage: "SOURCE TARGET",
		Flags: append(platformFlags(),
			&cli.BoolFlag{Name: "uncompress", Usage: "store the layers uncompressed"},
			&cli.BoolFlag{Name: "oci", Usage: "turn Docker media types into OCI's"},
			&cli.StringFlag{Name: "compression", Usage: "`FORMAT` of the layers: gzip, zstd or uncompressed"}),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, "SOURCE TARGET"); err != nil {
				return err
			}
			d, err := connect(c)
			if err != nil {
				return err
			}
			defer d.Close()
			i, err := d.Images.Convert(c.Context, &api.ConvertRequest{
				Namespace: d.ns, Source: c.Args().Get(0), Target: c.Args().Get(1), Uncompress: c.Bool("uncompress"), Oci: c.Bool("oci"),
				Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"), Compression: c.String("compression"),
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, i.Target.Digest)
			return nil
		},
	}
}
