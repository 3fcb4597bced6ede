package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func contentCommand() *cli.Command {
	return &cli.Command{
		Name: "content", Usage: "work with blobs",
		Subcommands: []*cli.Command{
			contentListCommand(), contentGetCommand(), contentIngestCommand(), contentActiveCommand(), contentAbortCommand(),
			contentDeleteCommand(), contentEditCommand(), contentLabelCommand(), contentPruneCommand(),
			contentFetchCommand(), contentFetchBlobCommand("fetch-blob"), contentFetchBlobCommand("fetch-object"), contentPushCommand(),
		},
	}
}

func contentListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list blobs", ArgsUsage: "[FILTER...]", Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			stream, err := d.Content.List(c.Context, &api.ListContentRequest{Namespace: d.ns, Filters: c.Args().Slice()})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"DIGEST", "SIZE", "AGE", "LABELS"}}
			infos := []*api.ContentInfo{}
			for {
				i, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					l.JSON = infos
					return l.Print(c)
				}
				if err != nil {
					return err
				}
				infos = append(infos, i)
				l.Rows = append(l.Rows, []string{i.Digest, icli.Size(i.Size), icli.Ago(i.CreatedAt), icli.Labels(i.Labels)})
			}
		}),
	}
}

func contentGetCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "print a blob's bytes", ArgsUsage: "DIGEST",
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "DIGEST"); err != nil {
				return err
			}
			return d.ReadBlob(c.Context, &api.ReadContentRequest{Namespace: d.ns, Digest: c.Args().First()}, c.App.Writer)
		}),
	}
}

func contentIngestCommand() *cli.Command {
	return &cli.Command{
		Name: "ingest", Usage: "store standard input as a blob and print its digest", ArgsUsage: "REF",
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "expected-size", Usage: "refuse another number of `BYTES`"},
			&cli.StringFlag{Name: "expected-digest", Usage: "refuse another `DIGEST`"},
			labelFlag(),
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "REF"); err != nil {
				return err
			}
			labels, err := icli.ParseLabels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			dgst, err := d.WriteBlob(c.Context, &api.WriteContentRequest{
				Namespace: d.ns, Ref: c.Args().First(), Total: c.Int64("expected-size"), Expected: c.String("expected-digest"), Labels: labels,
			}, os.Stdin)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, dgst)
			return nil
		}),
	}
}

func contentActiveCommand() *cli.Command {
	return &cli.Command{
		Name: "active", Usage: "list the blobs that are being received", Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Content.Active(c.Context, &api.ActiveRequest{})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"REF", "SIZE", "TOTAL", "STARTED", "UPDATED"}, JSON: r.Ingests}
			for _, i := range r.Ingests {
				l.Rows = append(l.Rows, []string{i.Ref, icli.Size(i.Offset), icli.Size(i.Total), icli.Ago(i.StartedAt), icli.Ago(i.UpdatedAt)})
			}
			return l.Print(c)
		}),
	}
}

func contentAbortCommand() *cli.Command {
	return &cli.Command{
		Name: "abort", Usage: "give up receiving blobs, by the refs that active prints", ArgsUsage: "REF...",
		Action: func(c *cli.Context) error {
			return each(c, "REF...", func(d *daemon, ref string) error {
				_, err := d.Content.Abort(c.Context, &api.AbortRequest{Ref: ref})
				return err
			})
		},
	}
}

func contentDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "delete blobs, used or not", ArgsUsage: "DIGEST...",
		Action: func(c *cli.Context) error {
			return each(c, "DIGEST...", func(d *daemon, dgst string) error {
				_, err := d.Content.Delete(c.Context, &api.DeleteContentRequest{Namespace: d.ns, Digest: dgst})
				if err == nil {
					fmt.Fprintln(c.App.Writer, dgst)
				}
				return err
			})
		},
	}
}

func contentLabelCommand() *cli.Command {
	return &cli.Command{
		Name: "label", Usage: "set labels of a blob; KEY= removes one", ArgsUsage: "DIGEST KEY=VALUE...",
		Action: labelAction("DIGEST", func(c *cli.Context, d *daemon, labels map[string]string) (map[string]string, error) {
			i, err := d.Content.SetLabels(c.Context, &api.SetContentLabelsRequest{Namespace: d.ns, Digest: c.Args().First(), Labels: labels})
			return i.GetLabels(), err
		}),
	}
}

func contentEditCommand() *cli.Command {
	return &cli.Command{
		Name: "edit", Usage: "edit a blob; the result is a new one, whose digest is printed", ArgsUsage: "DIGEST",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "editor", EnvVars: []string{"EDITOR"}, Usage: "`COMMAND` that edits a file", Value: "vi"},
			&cli.StringFlag{Name: "validate", Usage: "refuse a result that this `COMMAND` fails on"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "DIGEST"); err != nil {
				return err
			}
			edited, err := edit(c, d)
			if err != nil {
				return err
			}
			dgst := digest.FromBytes(edited)
			_, err = d.WriteBlob(c.Context, &api.WriteContentRequest{
				Namespace: d.ns, Ref: "edit-" + dgst.String(), Total: int64(len(edited)), Expected: dgst.String(),
			}, bytes.NewReader(edited))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, dgst)
			return nil
		}),
	}
}

// edit runs the editor on a copy of the blob and returns what it made.
func edit(c *cli.Context, d *daemon) ([]byte, error) {
	f, err := os.CreateTemp("", "minictr-edit-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	err = d.ReadBlob(c.Context, &api.ReadContentRequest{Namespace: d.ns, Digest: c.Args().First()}, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	for _, command := range []string{c.String("editor"), c.String("validate")} {
		if command == "" {
			continue
		}
		run := exec.CommandContext(c.Context, "sh", "-c", command+` "$1"`, "sh", f.Name())
		run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := run.Run(); err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
	}
	return os.ReadFile(f.Name())
}

func contentPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "delete what nothing refers to",
		Subcommands: []*cli.Command{{
			Name: "references", Usage: "delete blobs and snapshots that no image, container or lease refers to",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry", Usage: "only say what would be deleted"}},
			Action: with(runPrune),
		}},
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry", Usage: "only say what would be deleted"}},
		Action: with(runPrune),
	}
}

func runPrune(c *cli.Context, d *daemon) error {
	r, err := d.System.CollectGarbage(c.Context, &api.CollectGarbageRequest{DryRun: c.Bool("dry")})
	if err != nil {
		return err
	}
	for _, b := range r.Blobs {
		fmt.Fprintln(c.App.Writer, "blob", b)
	}
	for _, s := range r.Snapshots {
		fmt.Fprintln(c.App.Writer, "snapshot", s)
	}
	fmt.Fprintln(c.App.Writer, "total", icli.Size(r.Bytes))
	return nil
}

func contentFetchCommand() *cli.Command {
	return &cli.Command{
		Name: "fetch", Usage: "bring the content of a reference without making an image of it", ArgsUsage: "IMAGE",
		Flags: icli.Join(registryFlags(), platformFlags(), []cli.Flag{
			labelFlag(),
			&cli.BoolFlag{Name: "metadata-only", Usage: "manifests and configurations only"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but the digest"},
		}),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, "IMAGE"); err != nil {
				return err
			}
			req, err := pullRequest(c)
			if err != nil {
				return err
			}
			return with(func(c *cli.Context, d *daemon) error {
				req.Namespace = d.ns
				show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
				image, err := d.Fetch(c.Context, req, show.Update)
				show.Close()
				if err == nil && image.GetTarget() != nil {
					fmt.Fprintln(c.App.Writer, image.Target.Digest)
				}
				return err
			})(c)
		},
	}
}

func contentFetchBlobCommand(name string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: "bring one blob or manifest of a repository and print it", ArgsUsage: "REPOSITORY DIGEST",
		Flags: append(registryFlags(), &cli.StringFlag{Name: "media-type", Usage: "`TYPE` of the object"}),
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, "REPOSITORY DIGEST"); err != nil {
				return err
			}
			o, err := registryOptions(c)
			if err != nil {
				return err
			}
			dgst := c.Args().Get(1)
			err = d.FetchBlob(c.Context, &api.FetchBlobRequest{
				Namespace: d.ns, Name: c.Args().First(), Digest: dgst, MediaType: c.String("media-type"), Registry: o,
			}, nil)
			if err != nil {
				return err
			}
			return d.ReadBlob(c.Context, &api.ReadContentRequest{Namespace: d.ns, Digest: dgst}, c.App.Writer)
		}),
	}
}

func contentPushCommand() *cli.Command {
	return &cli.Command{
		Name: "push-object", Usage: "push one object to a repository", ArgsUsage: "REPOSITORY DIGEST TYPE",
		Flags: registryFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 3, 3, "REPOSITORY DIGEST TYPE"); err != nil {
				return err
			}
			o, err := registryOptions(c)
			if err != nil {
				return err
			}
			return d.PushObject(c.Context, &api.PushObjectRequest{
				Namespace: d.ns, Name: c.Args().Get(0), Digest: c.Args().Get(1), MediaType: c.Args().Get(2), Registry: o,
			}, nil)
		}),
	}
}
