package main

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func diskCommand() *cli.Command {
	return &cli.Command{
		Name: "df", Usage: "tell what takes the disk",
		Flags: []cli.Flag{formatFlag(), &cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "each image, container and volume"}},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			usage, err := d.diskUsage(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("verbose") {
				return printDisk(c, usage)
			}
			return format.List(c.App.Writer, c.String("format"), view.DiskColumns, view.DiskHeader(), usage.Rows())
		}),
	}
}

func (d *daemon) diskUsage(ctx context.Context) (view.DiskUsage, error) {
	var u view.DiskUsage
	list, err := d.Containers.List(ctx, &api.ListContainersRequest{Namespace: d.ns, Size: true})
	if err != nil {
		return u, err
	}
	u.Containers = list.Containers
	of := map[string]int{} // containers by the name of their image
	for _, one := range list.Containers {
		of[one.Image]++
	}
	volumes, err := d.Volumes.List(ctx, &api.ListVolumesRequest{Namespace: d.ns, Size: true})
	if err != nil {
		return u, err
	}
	for _, v := range volumes.Volumes {
		u.Volumes = append(u.Volumes, view.DiskVolume{Name: v.Name, Links: len(v.Containers), Size: v.GetUsage().GetSize()})
	}
	images, err := d.localImages(ctx)
	if err != nil {
		return u, err
	}
	known := map[string]int{} // places by id
	for _, i := range images {
		id := i.Id
		if id == "" {
			id = i.Name
		}
		at, ok := known[id]
		if !ok {
			if i.Layers, err = d.presentLayers(ctx, i); err != nil {
				return u, err
			}
			at = len(u.Images)
			known[id] = at
			u.Images = append(u.Images, view.DiskImage{LocalImage: i})
		}
		u.Images[at].Containers += of[i.Name]
	}
	return u, nil
}

// presentLayers are an image's layers; one whose content is not all there has one, of its size.
func (d *daemon) presentLayers(ctx context.Context, i view.LocalImage) ([]view.Layer, error) {
	layers, err := d.layers(ctx, i, "")
	if errdefs.IsNotFound(err) {
		return []view.Layer{{Digest: i.Target.GetDigest(), Size: i.Size}}, nil
	}
	return layers, err
}

// printDisk prints everything that takes the disk: as tables, or one document by a template.
func printDisk(c *cli.Context, u view.DiskUsage) error {
	now := time.Now()
	images, volumes := u.ImageRows(false, now), u.VolumeRows()
	containers := view.ContainerRows(u.Containers, false, now)
	for i, one := range u.Containers {
		containers[i].Size = view.WrittenSize(one)
	}
	if text := c.String("format"); text != "" && text != "table" {
		return format.One(c.App.Writer, text, struct {
			Images     []view.Image
			Containers []view.Container
			Volumes    []view.VolumeUse
			BuildCache []struct{}
		}{images, containers, volumes, []struct{}{}})
	}
	w := c.App.Writer
	fmt.Fprint(w, "Images space usage:\n\n")
	if err := format.List(w, "", view.DiskImageColumns, view.ImageHeader(), images); err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainers space usage:\n\n")
	if err := format.List(w, "", view.DiskContainerColumns, view.ContainerHeader(), containers); err != nil {
		return err
	}
	fmt.Fprint(w, "\nLocal Volumes space usage:\n\n")
	if err := format.List(w, "", view.DiskVolumeColumns, view.VolumeUseHeader(), volumes); err != nil {
		return err
	}
	fmt.Fprint(w, "\nBuild cache usage: 0B\n")
	return nil
}
