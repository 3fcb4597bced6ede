package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/files"
	"github.com/minirt/mini/oci/layer"
)

func copyCommand() *cli.Command {
	const usage = "CONTAINER:PATH PATH | PATH CONTAINER:PATH"
	return &cli.Command{
		Name: "cp", Usage: "copy files between a container, running or not, and this machine", ArgsUsage: usage,
		Description: "What ends with /. is the contents of a directory. Nothing in the container is run for it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "keep the numbers of users and groups"},
			quietFlag("print nothing"),
		},
		Action: with(2, 2, usage, func(c *cli.Context, d *daemon) error {
			from, to := files.ParsePlace(c.Args().First()), files.ParsePlace(c.Args().Get(1))
			switch {
			case from.Container == "" && to.Container == "":
				return fmt.Errorf("must specify at least one container source: %w", errdefs.ErrInvalidArgument)
			case from.Container != "" && to.Container != "":
				return fmt.Errorf("copying between containers is not supported: %w", errdefs.ErrInvalidArgument)
			}
			name := from.Container + to.Container
			target, err := d.container(c, name, false)
			if err != nil {
				return err
			}
			k := files.Copier{Owners: c.Bool("archive"), Skipped: func(name string) {
				warn(c, []string{"cp: " + name + " is neither file, directory nor link: left out"})
			}}
			err = files.In(c.Context, d.Client, target, func(root string) error {
				roots := [2]string{}
				if from.Container != "" {
					roots[0] = root
				} else {
					roots[1] = root
				}
				return k.CopyPath(roots[0], from.Path, roots[1], to.Path)
			})
			if errors.Is(err, os.ErrNotExist) && from.Container != "" {
				return fmt.Errorf("could not find the file %s in container %s: %w", from.Path, name, errdefs.ErrNotFound)
			}
			return err
		}),
	}
}

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write a container's root filesystem as a tar archive", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of the standard output"}},
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			target, err := d.container(c, c.Args().First(), false)
			if err != nil {
				return err
			}
			to := c.String("output")
			if to == "" {
				if isTerminal(os.Stdout) {
					return errors.New("cowardly refusing to save to a terminal: use the -o flag or redirect")
				}
				to = "-"
			}
			return icli.ToFile(to, func(w io.Writer) error {
				return files.Root(c.Context, d.Client, target, func(root string) error {
					return layer.Diff(c.Context, w, "", root, layer.DiffOptions{})
				})
			})
		}),
	}
}

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "list what a container has added (A), changed (C) and deleted (D) in its root filesystem", ArgsUsage: "CONTAINER",
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			target, err := d.container(c, c.Args().First(), false)
			if err != nil {
				return err
			}
			var lines []string
			err = files.Changed(c.Context, d.Client, target, func(lower, upper string) error {
				lines, err = changes(c.Context, lower, upper)
				return err
			})
			for _, l := range visible(lines, mountTargets(target.Spec)) {
				fmt.Fprintln(c.App.Writer, l)
			}
			return err
		}),
	}
}

// mountTargets are what is mounted over and was made for that: nobody's change.
func mountTargets(document []byte) map[string]bool {
	var s struct {
		Mounts []struct{ Destination string }
	}
	out := map[string]bool{}
	if json.Unmarshal(document, &s) == nil {
		for _, m := range s.Mounts {
			out[m.Destination] = true
		}
	}
	return out
}

// visible leaves the hidden names out, and directories in which nothing else has changed.
func visible(lines []string, hidden map[string]bool) []string {
	shown, dirty := map[string]bool{}, map[string]bool{}
	for _, l := range lines {
		if dir := path.Dir(l[2:]); hidden[l[2:]] {
			dirty[dir] = true
		} else {
			shown[dir] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
		return hidden[l[2:]] || l[0] == 'C' && dirty[l[2:]] && !shown[l[2:]]
	})
}

// changes reads the layer that turns one tree into the other, by name.
func changes(ctx context.Context, lower, upper string) ([]string, error) {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(layer.Diff(ctx, w, lower, upper, layer.DiffOptions{})) }() // the reader gets the error
	defer r.Close()
	var lines []string
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		if name == "/" {
			continue
		}
		lines = append(lines, change(lower, name))
	}
}

// change says what an entry of a layer means. Whiteouts are files named .wh.NAME (image-spec, layer.md).
func change(lower, name string) string {
	const whiteout = ".wh."
	dir, base := path.Split(name)
	if deleted, ok := strings.CutPrefix(base, whiteout); ok {
		return "D " + path.Join(dir, deleted)
	}
	if _, err := os.Lstat(filepath.Join(lower, name)); err == nil {
		return "C " + name
	}
	return "A " + name
}
