package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
		more := struct{ Config *view.ImageMore }{&out.More}
		err = errors.Join(json.Unmarshal(data, &out.Config), json.Unmarshal(data, &more))
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

// findImage gets an image with what its content tells, for a platform; an empty one is the daemon's.
func (d *daemon) findImage(ctx context.Context, name, platform string) (view.LocalImage, error) {
	i, err := d.Images.Get(ctx, &api.GetImageRequest{Namespace: d.ns, Name: name})
	if errdefs.IsNotFound(err) {
		return view.LocalImage{}, fmt.Errorf("%s: %s: %w", view.NoSuchImage, name, errdefs.ErrNotFound)
	}
	if err != nil {
		return view.LocalImage{}, err
	}
	if platform == "" {
		return d.localImage(ctx, i)
	}
	desc, m, err := d.manifest(ctx, i, platform)
	if err != nil {
		return view.LocalImage{}, err
	}
	other := &api.Image{
		Name: i.Name, Target: i.Target, Id: m.Config.Digest.String(), Size: desc.Size + m.Config.Size, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, Labels: i.Labels,
		Unpacked: i.Unpacked && m.Config.Digest.String() == i.Id,
	}
	for _, l := range m.Layers {
		other.Size += l.Size
	}
	return d.localImage(ctx, other)
}

// manifest reads an image's manifest for a platform; an empty one is this machine's.
func (d *daemon) manifest(ctx context.Context, i *api.Image, platform string) (ocispec.Descriptor, ocispec.Manifest, error) {
	read := func(ctx context.Context, blob ocispec.Descriptor) ([]byte, error) {
		return d.blob(ctx, blob.Digest.String())
	}
	var names []string
	if platform != "" {
		names = []string{platform}
	}
	want, err := image.ParseWant(names, false)
	if err != nil {
		return ocispec.Descriptor{}, ocispec.Manifest{}, err
	}
	target := ocispec.Descriptor{MediaType: i.Target.MediaType, Digest: digest.Digest(i.Target.Digest), Size: i.Target.Size}
	manifests, err := image.Manifests(ctx, read, target, want)
	if err == nil && len(manifests) == 0 {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return ocispec.Descriptor{}, ocispec.Manifest{}, lacksPlatform(err, i, platform)
	}
	data, err := read(ctx, manifests[0])
	if err != nil {
		return manifests[0], ocispec.Manifest{}, lacksPlatform(err, i, platform)
	}
	m, err := image.ParseManifest(manifests[0].MediaType, data)
	return manifests[0], m, err
}

// lacksPlatform says it as docker does where a platform was asked for.
func lacksPlatform(err error, i *api.Image, platform string) error {
	if platform == "" || !errdefs.IsNotFound(err) {
		return err
	}
	return fmt.Errorf("image with reference %s was found but does not provide the specified platform (%s): %w", view.Familiar(i.Name), platform, err)
}

// layers are an image's, from the lowest, with the sizes that they take unpacked; of one that is not unpacked here, with
// those of its blobs.
func (d *daemon) layers(ctx context.Context, i view.LocalImage, platform string) ([]view.Layer, error) {
	var all []view.Layer
	for _, id := range image.ChainIDs(i.Config.RootFS.DiffIDs) {
		u, err := d.Snapshots.Usage(ctx, &api.SnapshotRequest{Namespace: d.ns, Name: id.String()})
		if errdefs.IsNotFound(err) {
			return d.blobLayers(ctx, i.Image, platform)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, view.Layer{Digest: id.String(), Size: u.Size})
	}
	return all, nil
}

func (d *daemon) blobLayers(ctx context.Context, i *api.Image, platform string) ([]view.Layer, error) {
	_, m, err := d.manifest(ctx, i, platform)
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
