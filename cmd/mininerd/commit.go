package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/internal/files"
	"github.com/minirt/mini/runtime/api"
)

// changeFlag is one of the verbs that make images without a build.
func changeFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "apply an `INSTRUCTION` of a Dockerfile to the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR"}
}

func messageFlag() cli.Flag {
	return &cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`COMMENT` in the image's history"}
}

func commitCommand() *cli.Command {
	const usage = "CONTAINER [REPOSITORY[:TAG]]"
	return &cli.Command{
		Name: "commit", Usage: "make an image of what a container has changed", ArgsUsage: usage,
		Description: "What is mounted into the container, as volumes are, is not in the image.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "`AUTHOR` of the image"},
			messageFlag(), changeFlag(),
			&cli.BoolFlag{Name: "pause", Aliases: []string{"p"}, Value: true, Usage: "let the container stand still meanwhile"},
			&cli.StringFlag{Name: "compression", Value: "gzip", Usage: "of the new layer: gzip, zstd or uncompressed"},
			&cli.StringFlag{Name: "format", Value: "docker", Usage: "of the image: docker or oci"},
		},
		Action: with(1, 2, usage, func(c *cli.Context, d *daemon) error {
			format := c.String("format")
			if format != "docker" && format != "oci" {
				return fmt.Errorf("format %q: use docker or oci: %w", format, errdefs.ErrInvalidArgument)
			}
			name := c.Args().First()
			i, err := d.Archives.Commit(c.Context, &api.CommitRequest{
				Namespace: d.ns, Id: name, Name: c.Args().Get(1), Author: c.String("author"), Comment: c.String("message"),
				Changes: c.StringSlice("change"), NoPause: !c.Bool("pause"), Compression: c.String("compression"), Oci: format == "oci",
			})
			if err != nil {
				return missing(err, name)
			}
			fmt.Fprintln(c.App.Writer, cmp.Or(i.Id, i.Target.GetDigest()))
			return nil
		}),
	}
}

func importCommand() *cli.Command {
	const usage = "FILE|URL|- [REPOSITORY[:TAG]]"
	return &cli.Command{
		Name: "import", Usage: "make an image of one layer of an archive of files, as export writes it", ArgsUsage: usage,
		Flags: []cli.Flag{
			messageFlag(), changeFlag(),
			&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]` of the image"},
		},
		Action: with(1, 2, usage, func(c *cli.Context, d *daemon) error {
			from := c.Args().First()
			o := &api.ImportFilesOptions{
				Namespace: d.ns, Name: c.Args().Get(1), Changes: c.StringSlice("change"), Platform: c.String("platform"),
				Comment: cmp.Or(c.String("message"), "Imported from "+from),
			}
			in, err := importSource(from, o)
			if err != nil {
				return err
			}
			if in != nil {
				defer in.Close()
			}
			i, err := d.ImportFiles(c.Context, o, reader(in))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, cmp.Or(i.Id, i.Target.GetDigest()))
			return nil
		}),
	}
}

// importSource opens what is imported; nil when the daemon fetches it.
func importSource(from string, o *api.ImportFilesOptions) (*os.File, error) {
	switch {
	case from == files.Stream:
		if isTerminal(os.Stdin) {
			return nil, errors.New("the archive is to come from the standard input, which is a terminal: redirect it, or name a file")
		}
		return os.Stdin, nil
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		o.Url = from
		return nil, nil
	}
	return os.Open(from)
}

// reader is nil for no file, which a file of nil is not.
func reader(f *os.File) io.Reader {
	if f == nil {
		return nil
	}
	return f
}
