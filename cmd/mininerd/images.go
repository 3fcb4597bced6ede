package main

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func imagesCommand(name string, aliases ...string) *cli.Command {
	return &cli.Command{
		Name: name, Aliases: aliases, Usage: "list images", ArgsUsage: "[REPOSITORY[:TAG]]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "docker's flag for images of a build's steps, of which there are none"},
			&cli.BoolFlag{Name: "digests", Usage: "print the digests"}, &cli.BoolFlag{Name: "names", Usage: "print the whole names"},
			&cli.BoolFlag{Name: "tree", Usage: "print the platforms of each"},
			filterFlag(view.ImageFilterKeys()), formatFlag(), noTruncFlag(), quietFlag("print the ids only"),
		},
		Action: with(0, 1, "[REPOSITORY[:TAG]]", func(c *cli.Context, d *daemon) error {
			filters, err := view.ParseFilters(c.StringSlice("filter"), view.ImageFilterKeys()...)
			if err != nil {
				return err
			}
			all, err := d.localImages(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("tree") && (c.Bool("quiet") || c.Bool("no-trunc") || c.Bool("digests") || c.String("format") != "") {
				return fmt.Errorf("conflicting options: --tree with --quiet, --no-trunc, --digests or --format: %w", errdefs.ErrInvalidArgument)
			}
			now := time.Now()
			list, err := view.Images(all, filters, c.Args().First(), now)
			if err != nil {
				return err
			}
			if c.Bool("tree") {
				return printTree(c, d, list)
			}
			var rows []view.Image
			for _, i := range list {
				rows = append(rows, view.ImageRow(i, c.Bool("no-trunc"), now))
			}
			columns := view.ImageColumns
			if c.Bool("digests") {
				columns = view.ImageDigestColumns
			}
			if c.Bool("names") {
				columns = `{{.Name}}\t` + columns
			}
			text := rowFormat(c, "image_id", func(f dockerFile) string { return f.ImagesFormat })
			return format.List(c.App.Writer, text, columns, view.ImageHeader(), rows)
		}),
	}
}

func removeImagesCommand(name string, aliases ...string) *cli.Command {
	return &cli.Command{
		Name: name, Aliases: aliases, Usage: "remove images", ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "by an id that has several names: remove them all; and though containers were made of it"},
			&cli.BoolFlag{Name: "async", Usage: "do not wait until the space is free"},
			options.SilentSwitch("no-prune"), // there are no untagged parents
			&cli.StringSliceFlag{Name: "platform", Usage: "remove what it has for `OS/ARCH[/VARIANT]` alone"},
		},
		Action: each("IMAGE...", true, func(c *cli.Context, d *daemon, name string) error {
			i, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: name})
			if errdefs.IsNotFound(err) {
				return fmt.Errorf("%s: %s: %w", view.NoSuchImage, name, errdefs.ErrNotFound)
			}
			if err != nil {
				return err
			}
			if platforms := c.StringSlice("platform"); len(platforms) > 0 {
				return d.removePlatforms(c, name, platforms)
			}
			if !c.Bool("force") {
				if err := d.unused(c.Context, i, name); err != nil {
					return err
				}
			}
			return d.removeImage(c, i, name)
		}),
	}
}

// unused refuses an image that containers were made of and that has no other name, as docker does.
func (d *daemon) unused(ctx context.Context, i *api.Image, word string) error {
	list, err := d.Containers.List(ctx, &api.ListContainersRequest{Namespace: d.ns})
	if err != nil {
		return err
	}
	for _, one := range list.Containers {
		if one.Image != i.Name {
			continue
		}
		return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s: %w",
			word, view.ShortID(one.Id, false), view.ShortID(i.Id, false), errdefs.ErrConflict)
	}
	return nil
}

func (d *daemon) removePlatforms(c *cli.Context, name string, platforms []string) error {
	gone, err := d.Images.Delete(c.Context, &api.DeleteImageRequest{Namespace: d.ns, Name: name, Platforms: platforms, Sync: !c.Bool("async")})
	if err != nil {
		return err
	}
	for _, manifest := range gone.Deleted {
		fmt.Fprintln(c.App.Writer, "Deleted:", manifest)
	}
	return nil
}

func (d *daemon) removeImage(c *cli.Context, i *api.Image, name string) error {
	gone, err := d.Images.Delete(c.Context, &api.DeleteImageRequest{Namespace: d.ns, Name: name, Force: c.Bool("force"), Sync: !c.Bool("async")})
	if err != nil {
		return err
	}
	for _, n := range gone.Untagged {
		fmt.Fprintln(c.App.Writer, "Untagged:", withTag(n))
	}
	_, err = d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: i.Id})
	if errdefs.IsNotFound(err) && i.Id != "" {
		fmt.Fprintln(c.App.Writer, "Deleted:", i.Id)
		return nil
	}
	return nil
}

func tagCommand() *cli.Command {
	const usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
	return &cli.Command{
		Name: "tag", Usage: "give an image one more name", ArgsUsage: usage,
		Action: with(2, 2, usage, func(c *cli.Context, d *daemon) error {
			source := c.Args().First()
			_, err := d.Images.Tag(c.Context, &api.TagRequest{Namespace: d.ns, Source: source, Target: c.Args().Get(1), Force: true})
			if errdefs.IsNotFound(err) {
				return fmt.Errorf("%s: %s: %w", view.NoSuchImage, source, errdefs.ErrNotFound)
			}
			return err
		}),
	}
}

func historyCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "list the steps that made an image", ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			formatFlag(), noTruncFlag(), quietFlag("print the ids only"), onePlatformFlag(),
			&cli.BoolFlag{Name: "human", Aliases: []string{"H"}, Value: true, Usage: "sizes and times as people read them"},
		},
		Action: with(1, 1, "IMAGE", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			local, err := d.findImage(c.Context, name, c.String("platform"))
			if err != nil {
				return err
			}
			if local.Layers, err = d.layers(c.Context, local, c.String("platform")); err != nil {
				return err
			}
			rows := view.HistoryRows(local, c.Bool("no-trunc"), c.Bool("human"), time.Now())
			text := c.String("format")
			if c.Bool("quiet") && text == "" {
				text = "{{.ID}}"
			}
			return format.List(c.App.Writer, text, view.HistoryColumns, view.HistoryHeader(), rows)
		}),
	}
}
