package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func modeFlag() cli.Flag {
	return &cli.StringFlag{Name: "mode", Value: "docker", Usage: "`MODE`: docker, or native for what the daemon says"}
}

func sizeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "with what the container has written"}
}

// inspectors find an object of each type.
func inspectors() []struct {
	kind string
	find func(*cli.Context, *daemon, string) (any, error)
} {
	return []struct {
		kind string
		find func(*cli.Context, *daemon, string) (any, error)
	}{{"container", inspectContainer}, {"image", inspectImage}, {"network", inspectNetwork}, {"volume", inspectVolume}}
}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "print containers, images, networks or volumes as JSON", ArgsUsage: "NAME...",
		Flags: []cli.Flag{templateFlag(), modeFlag(), sizeFlag(), &cli.StringFlag{Name: "type", Usage: "`TYPE`: container, image, network or volume"}},
		Action: with(1, -1, "NAME...", func(c *cli.Context, d *daemon) error {
			kind, known := c.String("type"), false
			for _, i := range inspectors() {
				known = known || kind == i.kind || kind == ""
			}
			if !known {
				return fmt.Errorf("%q is not a valid value for --type: use container, image, network or volume: %w", kind, errdefs.ErrInvalidArgument)
			}
			return inspectAll(c, d, func(c *cli.Context, d *daemon, name string) (any, error) {
				for _, i := range inspectors() {
					if kind != "" && kind != i.kind {
						continue
					}
					if found, err := i.find(c, d, name); !errdefs.IsNotFound(err) && !errdefs.IsNotImplemented(err) || kind != "" {
						return found, err
					}
				}
				return nil, fmt.Errorf("%s: %s: %w", noSuchObject, name, errdefs.ErrNotFound)
			})
		}),
	}
}

// docker's beginnings of messages, which scripts look for.
const (
	noSuchObject  = "No such object"
	noSuchNetwork = "No such network"
)

// inspectAll prints what there is of the arguments, and an error for what is not.
func inspectAll(c *cli.Context, d *daemon, find func(*cli.Context, *daemon, string) (any, error)) error {
	if mode := c.String("mode"); mode != "docker" && mode != "dockercompat" && mode != "native" {
		return fmt.Errorf("--mode %s: use docker or native: %w", mode, errdefs.ErrInvalidArgument)
	}
	var found []any
	var failed error
	for _, name := range c.Args().Slice() {
		one, err := find(c, d, name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		found = append(found, one)
	}
	return errors.Join(format.Documents(c.App.Writer, c.String("format"), found), failed)
}

func inspectVerb(object string, find func(*cli.Context, *daemon, string) (any, error), flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "print " + object + "s as JSON", ArgsUsage: "NAME...", Flags: append([]cli.Flag{templateFlag(), modeFlag()}, flags...),
		Action: with(1, -1, "NAME...", func(c *cli.Context, d *daemon) error { return inspectAll(c, d, find) }),
	}
}

func containerInspectCommand() *cli.Command {
	return inspectVerb("container", inspectContainer, sizeFlag())
}
func imageInspectCommand() *cli.Command {
	return inspectVerb("image", inspectImage, onePlatformFlag())
}

func onePlatformFlag() cli.Flag {
	return &cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]` of the image to tell of"}
}

// native is a container as the daemon has it, with its documents as documents.
type native struct {
	*api.Container
	Spec        json.RawMessage `json:"spec,omitempty"`
	Request     json.RawMessage `json:"request,omitempty"`
	ImageConfig json.RawMessage `json:"image_config,omitempty"`
}

func inspectContainer(c *cli.Context, d *daemon, name string) (any, error) {
	got, err := d.container(c, name, c.Bool("size"))
	if err != nil {
		return nil, err
	}
	if c.String("mode") == "native" {
		return native{got, got.Spec, got.Request, got.ImageConfig}, nil
	}
	doc, err := view.DocumentOfContainer(got)
	if err != nil || got.Snapshot == "" {
		return doc, err
	}
	m, err := d.Snapshots.Mounts(c.Context, &api.SnapshotRequest{Namespace: got.Namespace, Snapshotter: got.Snapshotter, Name: got.Snapshot})
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	doc.WithSnapshot(m.GetMounts(), got.Bundle)
	if doc.SizeRw != nil {
		image, err := d.imageSize(c.Context, got)
		if err != nil {
			return nil, err
		}
		whole := image + *doc.SizeRw
		doc.SizeRootFs = &whole
	}
	return doc, nil
}

// imageSize is how large a container's image is, unpacked; 0 when it has lost all its names.
func (d *daemon) imageSize(ctx context.Context, of *api.Container) (int64, error) {
	u, err := d.Images.Usage(ctx, &api.UsageRequest{Namespace: of.Namespace, Name: of.Image, Snapshotter: of.Snapshotter})
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	return u.GetSnapshotSize(), err
}

func inspectImage(c *cli.Context, d *daemon, name string) (any, error) {
	local, err := d.findImage(c.Context, name, c.String("platform"))
	if err != nil {
		return nil, err
	}
	i := local.Image
	if c.String("mode") == "native" {
		return i, nil
	}
	all, err := d.Images.List(c.Context, &api.ListImagesRequest{Namespace: d.ns})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, other := range all.Images {
		if other.Id == i.Id {
			names = append(names, other.Name)
		}
	}
	return view.DocumentOfImage(local, names), nil
}
