package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/api"
)

// withTag is a name with the tag that is meant.
func withTag(image string) string {
	ref, err := name.Parse(image)
	if err != nil || ref.Digest() != "" {
		return image
	}
	return ref.TrimVersion().Familiar() + ":" + ref.Tag()
}

func platformFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]`, by default this machine's"},
		&cli.BoolFlag{Name: "all-platforms", Usage: "every platform of the image"},
	}
}

func pullCommand() *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "bring an image from its registry", ArgsUsage: "NAME[:TAG|@DIGEST]",
		Flags: append(append(platformFlags(), options.TrustFlags()...), quietFlag("print the image's name only"),
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "every tag of the repository"},
			&cli.StringFlag{Name: "unpack", Value: "true", Usage: "`WHETHER` to unpack it: true, or false to keep what was sent alone"},
			options.RefusedFlag("soci-index-digest", "there is no snapshotter that would use it")),
		Action: with(1, 1, "NAME[:TAG|@DIGEST]", func(c *cli.Context, d *daemon) error {
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			if !c.Bool("all-tags") {
				return d.pull(c, ref)
			}
			if repository, err := name.ParseRepository(c.Args().First()); err != nil || repository.Path() != ref.Path() {
				return fmt.Errorf("tag can't be used with --all-tags/-a: %w", errdefs.ErrInvalidArgument)
			}
			client := registryClient(c)
			defer client.Close()
			tags, err := client.Tags(c.Context, ref)
			if err != nil {
				return err
			}
			slices.Sort(tags)
			for _, tag := range tags {
				tagged, err := ref.WithTag(tag)
				if err != nil {
					return err
				}
				if err := d.pull(c, tagged); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// pull brings one image, and says so as docker does.
func (d *daemon) pull(c *cli.Context, ref name.Ref) error {
	unpack, err := strconv.ParseBool(c.String("unpack"))
	if err != nil {
		return fmt.Errorf("--unpack %s: use true or false: %w", c.String("unpack"), errdefs.ErrInvalidArgument)
	}
	before, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: ref.String()})
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	login, err := registryOptions(c, ref.String())
	if err != nil {
		return err
	}
	w := c.App.Writer
	if !c.Bool("quiet") {
		fmt.Fprintf(w, "%s: Pulling from %s\n", ref.Identifier(), ref.Path())
	}
	show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
	image, err := d.Pull(c.Context, &api.PullRequest{
		Namespace: d.ns, Name: ref.String(), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
		Registry: login, Snapshotter: c.String("snapshotter"), NoUnpack: !unpack,
	}, show.Update)
	show.Close()
	if err != nil {
		return err
	}
	if !c.Bool("quiet") {
		what := "Downloaded newer image"
		if before.GetTarget().GetDigest() == image.GetTarget().GetDigest() {
			what = "Image is up to date"
		}
		fmt.Fprintf(w, "Digest: %s\nStatus: %s for %s\n", image.GetTarget().GetDigest(), what, withTag(ref.String()))
	}
	fmt.Fprintln(w, ref.String())
	return nil
}

func pushCommand() *cli.Command {
	const later = "there is no such thing yet: convert or sign the image by another tool"
	return &cli.Command{
		Name: "push", Usage: "send an image to its registry", ArgsUsage: "NAME[:TAG]",
		Flags: append(platformFlags(), quietFlag("print the image's name only"),
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "every tag of the repository that is here"},
			&cli.BoolFlag{Name: "allow-nondistributable-artifacts", Usage: "push layers that are marked as not distributable"},
			options.SilentSwitch("disable-content-trust"), options.RefusedSwitch("estargz", later), options.RefusedFlag("sign", later),
			options.RefusedFlag("cosign-key", later), options.RefusedFlag("notation-key-name", later), options.RefusedFlag("soci-span-size", later),
			options.RefusedFlag("soci-min-layer-size", later), options.RefusedFlag("ipfs-address", later), options.RefusedSwitch("ipfs-ensure-image", later)),
		Action: with(1, 1, "NAME[:TAG]", func(c *cli.Context, d *daemon) error {
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			if !c.Bool("all-tags") {
				return d.push(c, ref)
			}
			if repository, err := name.ParseRepository(c.Args().First()); err != nil || repository.Path() != ref.Path() {
				return fmt.Errorf("tag can't be used with --all-tags/-a: %w", errdefs.ErrInvalidArgument)
			}
			list, err := d.Images.List(c.Context, &api.ListImagesRequest{Namespace: d.ns})
			if err != nil {
				return err
			}
			pushed := 0
			for _, i := range list.Images {
				one, err := name.Parse(i.Name)
				if err != nil || one.Digest() != "" || one.Repository() != ref.Repository() {
					continue
				}
				if err := d.push(c, one); err != nil {
					return err
				}
				pushed++
			}
			if pushed == 0 {
				return fmt.Errorf("an image does not exist locally with the tag: %s: %w", ref.TrimVersion().Familiar(), errdefs.ErrNotFound)
			}
			return nil
		}),
	}
}

// push sends one image, and says so as docker does.
func (d *daemon) push(c *cli.Context, ref name.Ref) error {
	i, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: ref.String()})
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("an image does not exist locally with the tag: %s: %w", ref.TrimVersion().Familiar(), errdefs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	login, err := registryOptions(c, ref.String())
	if err != nil {
		return err
	}
	if !c.Bool("quiet") {
		fmt.Fprintf(c.App.Writer, "The push refers to repository [%s]\n", ref.Repository())
	}
	show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
	_, err = d.Push(c.Context, &api.PushRequest{
		Namespace: d.ns, Name: ref.String(), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
		Registry: login, AllowNonDistributable: c.Bool("allow-nondistributable-artifacts"),
	}, show.Update)
	show.Close()
	if err != nil {
		return err
	}
	if c.Bool("quiet") {
		fmt.Fprintln(c.App.Writer, ref.String())
		return nil
	}
	fmt.Fprintf(c.App.Writer, "%s: digest: %s size: %d\n", ref.Identifier(), i.Target.GetDigest(), i.Target.GetSize())
	return nil
}

func saveCommand() *cli.Command {
	return &cli.Command{
		Name: "save", Usage: "write images to an archive that docker and OCI tools read", ArgsUsage: "IMAGE...",
		Flags: append(platformFlags(), &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of the standard output"}),
		Action: with(1, -1, "IMAGE...", func(c *cli.Context, d *daemon) error {
			target := c.String("output")
			if target == "" {
				if isTerminal(os.Stdout) {
					return errors.New("cowardly refusing to save to a terminal: use the -o flag or redirect")
				}
				target = "-"
			}
			r := &api.ExportRequest{
				Namespace: d.ns, Names: c.Args().Slice(), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
			}
			return icli.ToFile(target, func(w io.Writer) error { return d.Export(c.Context, r, w) })
		}),
	}
}

func loadCommand() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "read images from an archive of docker or OCI tools",
		Flags: append(platformFlags(), quietFlag("print nothing but the names"),
			&cli.StringFlag{Name: "input", Aliases: []string{"i"}, Usage: "read `FILE` instead of the standard input", TakesFile: true}),
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			in := os.Stdin
			if file := c.String("input"); file != "" && file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			} else if isTerminal(os.Stdin) {
				return errors.New("requested load from stdin, but stdin is empty")
			}
			images, err := d.Import(c.Context, &api.ImportOptions{
				Namespace: d.ns, Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"), Snapshotter: c.String("snapshotter"),
			}, in)
			for _, i := range images {
				fmt.Fprintln(c.App.Writer, "Loaded image:", withTag(i.Name))
			}
			return err
		}),
	}
}
