package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/image"
)

// FetchBlob brings one object of a repository, whatever it is, without what it refers to.
func (s *contentServer) FetchBlob(r *api.FetchBlobRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		ref, d, err := objectOf(r.Name, r.Digest, r.MediaType)
		if err != nil {
			return nil, err
		}
		if s.Content.Has(d.Digest) {
			progress(image.Progress{Item: d.Digest.String(), Kind: string(oci.KindOf(d.MediaType)), Stage: image.StageExists})
			return nil, nil
		}
		if err := s.fetch(ctx, s.Images.NewRegistry(registryOf(r.Registry)), ref, d, progress); err != nil {
			return nil, fmt.Errorf("fetch %s of %s: %w", d.Digest, ref.Repository(), err)
		}
		return nil, nil
	})
}

func objectOf(reference, digest, mediaType string) (name.Ref, ocispec.Descriptor, error) {
	ref, err := name.Parse(reference)
	if err != nil {
		return ref, ocispec.Descriptor{}, err
	}
	d, err := parseDigest(digest)
	return ref, ocispec.Descriptor{Digest: d, MediaType: mediaType}, err
}

// fetch copies an object into the content, from where an earlier try has ended; the content verifies it.
func (s *contentServer) fetch(ctx context.Context, from image.Registry, ref name.Ref, d ocispec.Descriptor, progress func(image.Progress)) (err error) {
	w, err := s.Content.Writer(ctx, content.Ingest{Ref: "fetch-" + d.Digest.String(), Expected: d.Digest})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	in, err := from.Fetch(ctx, ref, d, w.Offset())
	if err != nil {
		return err
	}
	defer in.Close()
	report := image.Progress{Item: d.Digest.String(), Kind: string(oci.KindOf(d.MediaType)), Stage: image.StageFetching}
	if _, err := io.Copy(w, &reporting{in, w, report, progress}); err != nil {
		return err
	}
	if err := w.Commit(ctx, w.Offset(), d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return s.Content.Sync(ctx)
}

// reporting tells the progress now and then as it is read from.
type reporting struct {
	io.Reader
	w        *content.Writer
	state    image.Progress
	progress func(image.Progress)
}

const reportEvery = 1 << 20 // bytes

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if at := r.w.Offset() + int64(n); at-r.state.Offset >= reportEvery || err != nil {
		r.state.Offset = at
		r.progress(r.state)
	}
	return n, err
}

// PushObject sends one object of the content to a repository, without what it refers to.
func (s *contentServer) PushObject(r *api.PushObjectRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		ref, d, err := objectOf(r.Name, r.Digest, r.MediaType)
		if err != nil {
			return nil, err
		}
		info, err := s.Content.Info(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		d.Size = info.Size
		return nil, s.push(ctx, s.Images.NewRegistry(registryOf(r.Registry)), ref, d, progress)
	})
}

func (s *contentServer) push(ctx context.Context, to image.Registry, ref name.Ref, d ocispec.Descriptor, progress func(image.Progress)) error {
	kind := oci.KindOf(d.MediaType)
	at := func(stage string, offset int64) {
		progress(image.Progress{Item: d.Digest.String(), Kind: string(kind), Stage: stage, Offset: offset, Total: d.Size})
	}
	if kind == oci.KindIndex || kind == oci.KindManifest {
		data, err := content.ReadAll(ctx, s.Content, d.Digest, oci.MaxManifestSize)
		if err != nil {
			return err
		}
		at(image.StagePushing, 0)
		return to.PushManifest(ctx, ref, d, data)
	}
	open := func(offset int64) (io.ReadCloser, error) {
		blob, err := s.Content.Open(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		return section{io.NewSectionReader(blob, offset, d.Size-offset), blob}, nil
	}
	pushed, err := to.PushBlob(ctx, ref, d, open, registry.PushOptions{Progress: func(sent int64) { at(image.StagePushing, sent) }})
	if err == nil && pushed.Exists {
		at(image.StageExists, d.Size)
	}
	return err
}

// section is a part of a blob that closes it.
type section struct {
	io.Reader
	io.Closer
}
