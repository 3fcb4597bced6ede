package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// criNamespace is where minid keeps what the CRI made.
const criNamespace = "k8s.io"

// withNative runs a verb that the CRI has no call for, and minid's native API does.
func withNative(act func(*cli.Context, *client.Client) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		endpoint := s.RuntimeEndpoint
		if endpoint == "" {
			endpoint = "unix://" + icli.DefaultAddress()
		}
		at, err := parseEndpoint(endpoint)
		if err != nil {
			return err
		}
		o := client.Options{Address: at.String(), ConnectTimeout: s.Timeout}
		if s.Debug {
			o.Trace = func(call string) { fmt.Fprintln(c.App.ErrWriter, "debug:", call) }
		}
		// First by itself, for the words that fit this program's flags.
		if err := (&runtime{settings: s}).once(c.Context, at); err != nil {
			return fmt.Errorf("%s needs minid: %w", c.Command.Name, err)
		}
		d, err := client.Dial(c.Context, o)
		if err != nil {
			return fmt.Errorf("%s needs minid: %w", c.Command.Name, err)
		}
		defer d.Close()
		if _, err := d.System.Version(c.Context, &api.VersionRequest{}); unimplemented(err) {
			return fmt.Errorf("%s needs minid: the runtime at %s is another one, and the CRI has no call for it: use that runtime's own tool: %w",
				c.Command.Name, at, errdefs.ErrNotImplemented)
		} else if err != nil {
			return err
		}
		return act(c, d)
	}
}

func loadCommand() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "make images of an archive (OCI layout or docker save); with minid", ArgsUsage: "[FILE]",
		Flags: []cli.Flag{&cli.StringFlag{Name: "input", Aliases: []string{"i"}, TakesFile: true, Usage: "read `FILE`; - or nothing: the standard input"}},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 0, 1, "[FILE]"); err != nil {
				return err
			}
			name := c.String("input")
			if name == "" {
				name = c.Args().First()
			}
			return withNative(func(c *cli.Context, d *client.Client) error { return load(c, d, name) })(c)
		},
	}
}

func load(c *cli.Context, d *client.Client, name string) error {
	var in io.Reader = os.Stdin
	if name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		defer f.Close()
		in = f
	}
	images, err := d.Import(c.Context, &api.ImportOptions{Namespace: criNamespace}, in)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	for _, i := range images {
		fmt.Fprintf(c.App.Writer, "Loaded image: %s\n", i.Name)
	}
	return nil
}

func saveCommand() *cli.Command {
	return &cli.Command{
		Name: "save", Usage: "write images to an archive, which is an OCI layout and docker save's at once; with minid", ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, TakesFile: true, Usage: "write `FILE`; -, or nothing where it is no terminal: the standard output"}},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, -1, "IMAGE..."); err != nil {
				return err
			}
			name := c.String("output")
			if name == "" && terminal(c.App.Writer) {
				return fmt.Errorf("save: an archive is nothing for a terminal: give --output=FILE: %w", errdefs.ErrInvalidArgument)
			}
			return withNative(func(c *cli.Context, d *client.Client) error { return save(c, d, name) })(c)
		},
	}
}

// save writes the archive beside its place, so that a half one is never taken for a whole.
func save(c *cli.Context, d *client.Client, name string) error {
	request := &api.ExportRequest{Namespace: criNamespace, Names: c.Args().Slice()}
	if name == "" || name == "-" {
		return d.Export(c.Context, request, c.App.Writer)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	err = errors.Join(d.Export(c.Context, request, f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save: %w", err), os.Remove(f.Name()))
	}
	return nil
}

func tagCommand() *cli.Command {
	return &cli.Command{
		Name: "tag", Usage: "give an image one more name; with minid", ArgsUsage: "IMAGE NAME",
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, "IMAGE NAME"); err != nil {
				return err
			}
			return withNative(func(c *cli.Context, d *client.Client) error {
				_, err := d.Images.Tag(c.Context, &api.TagRequest{Namespace: criNamespace, Source: c.Args().First(), Target: c.Args().Get(1), Force: true})
				if err != nil {
					return fmt.Errorf("tag %s: %w", c.Args().First(), err)
				}
				return nil
			})(c)
		},
	}
}

// findContainer finds a container by its identifier, or the beginning of one.
func findContainer(ctx context.Context, d *client.Client, id string) (*api.Container, error) {
	return d.Containers.Get(ctx, &api.ContainerRequest{Namespace: criNamespace, Id: id})
}
