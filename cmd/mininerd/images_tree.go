package main

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/api"
)

// printTree prints each image with its platforms below it.
func printTree(c *cli.Context, d *daemon, list []view.LocalImage) error {
	containers, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns})
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, one := range containers.Containers {
		used[one.Image] = true
	}
	var rows []view.TreeRow
	for _, i := range list {
		parts, err := d.platformsOf(c.Context, i)
		if err != nil {
			return err
		}
		rows = append(rows, view.TreeRows(i, parts, used[i.Name])...)
	}
	return format.List(c.App.Writer, "", view.TreeColumns, view.TreeHeader(), rows)
}

// platformsOf are the manifests of an index that are there.
func (d *daemon) platformsOf(ctx context.Context, i view.LocalImage) ([]view.PlatformPart, error) {
	if image.KindOf(i.Target.GetMediaType()) != image.KindIndex {
		return nil, nil
	}
	data, err := d.blob(ctx, i.Target.Digest)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := image.ParseIndex(i.Target.MediaType, data)
	if err != nil {
		return nil, err
	}
	var parts []view.PlatformPart
	for _, desc := range index.Manifests {
		if image.IsAttestation(desc) {
			continue
		}
		data, err := d.blob(ctx, desc.Digest.String())
		if errdefs.IsNotFound(err) {
			continue // of a platform that was not pulled
		}
		if err != nil {
			return nil, err
		}
		m, err := image.ParseManifest(desc.MediaType, data)
		if err != nil {
			return nil, err
		}
		p := view.PlatformPart{Digest: desc.Digest.String(), Platform: "unknown", Bytes: desc.Size + m.Config.Size}
		if desc.Platform != nil {
			p.Platform = platforms.Format(*desc.Platform)
		}
		for _, l := range m.Layers {
			p.Bytes += l.Size
		}
		if m.Config.Digest == digest.Digest(i.Id) && i.Unpacked {
			p.Unpacked = i.Bytes
		}
		parts = append(parts, p)
	}
	return parts, nil
}
