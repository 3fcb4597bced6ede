package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func imagesPullCommand() *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "bring an image from its registry and unpack it", ArgsUsage: "IMAGE",
		Flags: icli.Join(registryFlags(), platformFlags(), []cli.Flag{
			labelFlag(), snapshotterFlag(),
			&cli.BoolFlag{Name: "no-unpack", Usage: "only bring the content"},
			&cli.BoolFlag{Name: "print-chainid", Usage: "print the chain id of the unpacked image"},
			&cli.IntFlag{Name: "max-concurrent-downloads", Usage: "largest number of layers in flight; 0: as configured"},
			&cli.BoolFlag{Name: "metadata-only", Usage: "manifests and configurations only"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but the digest"},
		}),
		Action: runPull,
	}
}

func runPull(c *cli.Context) error {
	if err := icli.Args(c, 1, 1, "IMAGE"); err != nil {
		return err
	}
	req, err := pullRequest(c)
	if err != nil {
		return err
	}
	d, err := connect(c)
	if err != nil {
		return err
	}
	defer d.Close()
	req.Namespace = d.ns
	show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
	image, err := d.Pull(c.Context, req, show.Update)
	show.Close()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, image.Target.Digest)
	if c.Bool("print-chainid") {
		fmt.Fprintln(c.App.Writer, "image chain id:", image.ChainId)
	}
	return nil
}

func pullRequest(c *cli.Context) (*api.PullRequest, error) {
	o, err := registryOptions(c)
	if err != nil {
		return nil, err
	}
	labels, err := icli.ParseLabels(c.StringSlice("label"))
	if err != nil {
		return nil, err
	}
	return &api.PullRequest{
		Name: c.Args().First(), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
		Registry: o, Labels: labels, NoUnpack: c.Bool("no-unpack"), Snapshotter: c.String("snapshotter"),
		MaxConcurrent: int32(c.Int("max-concurrent-downloads")), MetadataOnly: c.Bool("metadata-only"),
	}, nil
}

func imagesPushCommand() *cli.Command {
	return &cli.Command{
		Name: "push", Usage: "send an image to a registry", ArgsUsage: "REMOTE [LOCAL]",
		Flags: icli.Join(registryFlags(), platformFlags(), []cli.Flag{
			&cli.StringFlag{Name: "manifest", Usage: "push the manifest with this `DIGEST` instead of the image's"},
			&cli.IntFlag{Name: "max-concurrent-uploaded-layers", Usage: "largest number of layers in flight; 0: as configured"},
			&cli.BoolFlag{Name: "allow-non-distributable-blobs", Usage: "push layers that are marked as not distributable"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print no progress"},
		}),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 2, "REMOTE [LOCAL]"); err != nil {
				return err
			}
			o, err := registryOptions(c)
			if err != nil {
				return err
			}
			d, err := connect(c)
			if err != nil {
				return err
			}
			defer d.Close()
			show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
			defer show.Close()
			_, err = d.Push(c.Context, &api.PushRequest{
				Namespace: d.ns, Name: c.Args().Get(0), Source: c.Args().Get(1), Platforms: c.StringSlice("platform"),
				AllPlatforms: c.Bool("all-platforms"), Registry: o, MaxConcurrent: int32(c.Int("max-concurrent-uploaded-layers")),
				AllowNonDistributable: c.Bool("allow-non-distributable-blobs"), ManifestDigest: c.String("manifest"),
			}, show.Update)
			return err
		},
	}
}

func imagesImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "read images from an OCI or docker-save archive; - is standard input", ArgsUsage: "FILE",
		Flags: icli.Join(platformFlags(), []cli.Flag{
			labelFlag(), snapshotterFlag(),
			&cli.StringFlag{Name: "base-name", Usage: "`NAME` for images that the archive names only by a tag"},
			&cli.StringFlag{Name: "index-name", Usage: "make an image of the whole index with this `NAME`"},
			&cli.BoolFlag{Name: "digests", Usage: "also make images named by digest"},
			&cli.BoolFlag{Name: "skip-digest-for-named", Usage: "no image named by digest where there is a name"},
			&cli.BoolFlag{Name: "no-unpack", Usage: "do not unpack"},
			&cli.BoolFlag{Name: "compress-blobs", Usage: "compress uncompressed layers"},
			&cli.BoolFlag{Name: "discard-unpacked-layers", Usage: "delete the layers' blobs once they are unpacked"},
		}),
		Action: runImport,
	}
}

func runImport(c *cli.Context) error {
	if err := icli.Args(c, 1, 1, "FILE"); err != nil {
		return err
	}
	labels, err := icli.ParseLabels(c.StringSlice("label"))
	if err != nil {
		return err
	}
	in := io.Reader(os.Stdin)
	if name := c.Args().First(); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	d, err := connect(c)
	if err != nil {
		return err
	}
	defer d.Close()
	images, err := d.Import(c.Context, &api.ImportOptions{
		Namespace: d.ns, BaseName: c.String("base-name"), IndexName: c.String("index-name"), Digests: c.Bool("digests"),
		SkipDigestForNamed: c.Bool("skip-digest-for-named"), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
		NoUnpack: c.Bool("no-unpack"), Snapshotter: c.String("snapshotter"), Labels: labels,
		CompressBlobs: c.Bool("compress-blobs"), DiscardUnpackedLayers: c.Bool("discard-unpacked-layers"),
	}, in)
	if err != nil {
		return err
	}
	for _, i := range images {
		fmt.Fprintf(c.App.Writer, "%s\t%s\n", i.Name, i.Target.Digest)
	}
	return nil
}

func imagesExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write images to an archive that OCI tools and docker read; - is standard output", ArgsUsage: "FILE IMAGE...",
		Flags: icli.Join(platformFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "skip-manifest-json", Usage: "OCI layout only, without docker's manifest.json"},
			&cli.BoolFlag{Name: "skip-non-distributable", Usage: "leave layers out that are marked as not distributable"},
		}),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, -1, "FILE IMAGE..."); err != nil {
				return err
			}
			d, err := connect(c)
			if err != nil {
				return err
			}
			defer d.Close()
			r := &api.ExportRequest{
				Namespace: d.ns, Names: c.Args().Tail(), Platforms: c.StringSlice("platform"), AllPlatforms: c.Bool("all-platforms"),
				SkipDockerManifest: c.Bool("skip-manifest-json"), SkipNonDistributable: c.Bool("skip-non-distributable"),
			}
			return icli.ToFile(c.Args().First(), func(w io.Writer) error { return d.Export(c.Context, r, w) })
		},
	}
}
