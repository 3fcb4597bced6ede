package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/api"
)

// localImage reads what an image's content tells: an image whose content is not all there tells less.
func (d *daemon) localImage(ctx context.Context, i *api.Image) (view.LocalImage, error) {
	out := view.LocalImage{Image: i, Bytes: i.Size}
	if i.Id == "" {
		return out, nil
	}
	data, err := d.blob(ctx, i.Id)
	if errdefs.IsNotFound(err) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &out.Config)
	}
	if err != nil {
		return out, fmt.Errorf("configuration of image %s: %w", i.Name, err)
	}
	if i.Unpacked {
		u, err := d.Images.Usage(ctx, &api.UsageRequest{Namespace: d.ns, Name: i.Name})
		if err == nil {
			out.Bytes = u.SnapshotSize
		} else if !errdefs.IsNotFound(err) {
			return out, err
		}
	}
	return out, nil
}

// layers reads the layers of the manifest for this host.
func (d *daemon) layers(ctx context.Context, i *api.Image) ([]view.Layer, error) {
	read := func(ctx context.Context, blob ocispec.Descriptor) ([]byte, error) {
		return d.blob(ctx, blob.Digest.String())
	}
	want, err := image.ParseWant(nil, false)
	if err != nil {
		return nil, err
	}
	target := ocispec.Descriptor{MediaType: i.Target.MediaType, Digest: digest.Digest(i.Target.Digest), Size: i.Target.Size}
	manifests, err := image.Manifests(ctx, read, target, want)
	if err != nil || len(manifests) == 0 {
		return nil, err
	}
	data, err := read(ctx, manifests[0])
	if err != nil {
		return nil, err
	}
	m, err := image.ParseManifest(manifests[0].MediaType, data)
	if err != nil {
		return nil, err
	}
	var all []view.Layer
	for _, l := range m.Layers {
		all = append(all, view.Layer{Digest: l.Digest.String(), Size: l.Size})
	}
	return all, nil
}

func (d *daemon) blob(ctx context.Context, name string) ([]byte, error) {
	var b bytes.Buffer
	err := d.ReadBlob(ctx, &api.ReadContentRequest{Namespace: d.ns, Digest: name}, &b)
	return b.Bytes(), err
}

// localImages are all images of the namespace.
func (d *daemon) localImages(ctx context.Context) ([]view.LocalImage, error) {
	list, err := d.Images.List(ctx, &api.ListImagesRequest{Namespace: d.ns})
	if err != nil {
		return nil, err
	}
	var all []view.LocalImage
	for _, i := range list.Images {
		one, err := d.localImage(ctx, i)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func imagesCommand(name string, aliases ...string) *cli.Command {
	return &cli.Command{
		Name: name, Aliases: aliases, Usage: "list images", ArgsUsage: "[REPOSITORY[:TAG]]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "docker's flag for images of a build's steps, of which there are none"},
			&cli.BoolFlag{Name: "digests", Usage: "print the digests"},
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
			now := time.Now()
			list, err := view.Images(all, filters, c.Args().First(), now)
			if err != nil {
				return err
			}
			var rows []view.Image
			for _, i := range list {
				rows = append(rows, view.ImageRow(i, c.Bool("no-trunc"), now))
			}
			if c.Bool("quiet") && c.String("format") == "" {
				return format.List(c.App.Writer, "{{.ID}}", "", view.ImageHeader(), rows)
			}
			columns := view.ImageColumns
			if c.Bool("digests") {
				columns = view.ImageDigestColumns
			}
			return format.List(c.App.Writer, c.String("format"), columns, view.ImageHeader(), rows)
		}),
	}
}

func removeImagesCommand(name string, aliases ...string) *cli.Command {
	return &cli.Command{
		Name: name, Aliases: aliases, Usage: "remove images", ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "by an id that has several names: remove them all; and though containers were made of it"}},
		Action: each("IMAGE...", true, func(c *cli.Context, d *daemon, name string) error {
			i, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: name})
			if errdefs.IsNotFound(err) {
				return fmt.Errorf("%s: %s: %w", view.NoSuchImage, name, errdefs.ErrNotFound)
			}
			if err != nil {
				return err
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

func (d *daemon) removeImage(c *cli.Context, i *api.Image, name string) error {
	gone, err := d.Images.Delete(c.Context, &api.DeleteImageRequest{Namespace: d.ns, Name: name, Force: c.Bool("force"), Sync: true})
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
			formatFlag(), noTruncFlag(), quietFlag("print the ids only"),
			&cli.BoolFlag{Name: "human", Aliases: []string{"H"}, Value: true, Usage: "sizes and times as people read them"},
		},
		Action: with(1, 1, "IMAGE", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			i, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: name})
			if errdefs.IsNotFound(err) {
				return fmt.Errorf("%s: %s: %w", view.NoSuchImage, name, errdefs.ErrNotFound)
			}
			if err != nil {
				return err
			}
			local, err := d.localImage(c.Context, i)
			if err != nil {
				return err
			}
			if local.Layers, err = d.layers(c.Context, i); err != nil {
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

func imagePruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove images that no container uses: those without a tag, or with -a all",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "those with a tag too"}, forceFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			what := "This will remove all dangling images."
			if c.Bool("all") {
				what = "This will remove all images without at least one container associated to them."
			}
			if ok, err := confirmed(c, what); !ok {
				return err
			}
			return pruneImages(c, d)
		}),
	}
}

func pruneImages(c *cli.Context, d *daemon) error {
	gone, err := d.Images.Prune(c.Context, &api.PruneImagesRequest{Namespace: d.ns, All: c.Bool("all")})
	if err != nil {
		return err
	}
	if len(gone.Deleted) > 0 {
		fmt.Fprintln(c.App.Writer, "Deleted Images:")
	}
	for _, n := range gone.Deleted {
		fmt.Fprintln(c.App.Writer, "untagged:", withTag(n))
	}
	fmt.Fprintf(c.App.Writer, "\nTotal reclaimed space: %s\n", units.HumanSize(float64(gone.Bytes)))
	return nil
}
