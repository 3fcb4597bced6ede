package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/content"
)

// described is a manifest with what it says.
type described struct {
	ocispec.Descriptor
	manifest ocispec.Manifest
	config   *ocispec.Image // nil for an artifact or an attestation
}

// documents fetches the index, the wanted manifests and their configs into the content, under the lease.
func (t *transfer) documents(ctx context.Context, target ocispec.Descriptor) ([]described, error) {
	if oci.IsSchema1(target.MediaType) {
		_, err := oci.ParseManifest(target.MediaType, nil)
		return nil, err
	}
	descriptors, err := oci.Manifests(ctx, t.document, target, t.want)
	if err != nil {
		return nil, err
	}
	manifests := make([]described, len(descriptors))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.s.config.MaxDownloads)
	for i, d := range descriptors {
		g.Go(func() (err error) {
			manifests[i], err = t.describe(gctx, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return manifests, t.held.content(ctx, digestsOf(target, manifests)...)
}

func (t *transfer) describe(ctx context.Context, d ocispec.Descriptor) (described, error) {
	m := described{Descriptor: d}
	data, err := t.document(ctx, d)
	if err != nil {
		return m, err
	}
	if m.manifest, err = oci.ParseManifest(d.MediaType, data); err != nil {
		return m, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	data, err = t.document(ctx, m.manifest.Config)
	if err != nil || oci.IsArtifact(m.manifest) || oci.IsAttestation(d) {
		return m, err
	}
	c, err := oci.ParseConfig(data)
	if err != nil {
		return m, fmt.Errorf("config %s: %w", m.manifest.Config.Digest, err)
	}
	m.config = &c
	return m, nil
}

// document returns an index, a manifest or a config from the content, or from the registry by way of the content.
func (t *transfer) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	t.held.pin(contentPin(d.Digest.String()))
	if t.s.Content.Has(d.Digest) {
		data, err := t.s.read(ctx, d)
		if err == nil && d.Digest.Algorithm().FromBytes(data) == d.Digest {
			t.progress(progressOf(d, StageExists, d.Size))
			return data, nil
		}
		if err := t.s.dropDamaged(ctx, d, err); err != nil {
			return nil, err
		}
	}
	kind := oci.KindOf(d.MediaType)
	if kind == oci.KindConfig || kind == oci.KindBlob {
		if d.Size > oci.MaxConfigSize {
			return nil, fmt.Errorf("config %s is %d bytes long, more than %d: %w", d.Digest, d.Size, oci.MaxConfigSize, errdefs.ErrInvalidArgument)
		}
		f, leave := t.joinBlob(ctx, d)
		defer leave()
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
		return content.ReadAll(ctx, t.s.Content, d.Digest, oci.MaxConfigSize)
	}
	t.progress(progressOf(d, StageFetching, 0))
	data, err := t.registry.Manifest(ctx, t.ref, d)
	if err != nil {
		return nil, err
	}
	if err := t.s.store(ctx, d, bytes.NewReader(data)); err != nil {
		return nil, err
	}
	t.progress(progressOf(d, StageDone, d.Size))
	return data, nil
}

// dropDamaged deletes a blob that is not what its digest says, so that it can be fetched again.
func (s *Service) dropDamaged(ctx context.Context, d ocispec.Descriptor, why error) error {
	s.Log.WarnContext(ctx, "blob in the content is damaged, fetching it again", "blob", d.Digest, "error", why)
	return ignoreNotFound(s.Content.Delete(ctx, d.Digest))
}

// store writes a small blob that is at hand into the content. Nil when it is there already.
func (s *Service) store(ctx context.Context, d ocispec.Descriptor, r io.Reader) (err error) {
	if s.Content.Has(d.Digest) {
		return nil
	}
	ref := "document-" + d.Digest.String()
	unlock, err := s.writing.Lock(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := s.Content.Writer(ctx, content.Ingest{Ref: ref, Expected: d.Digest, Total: d.Size})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, w.Close())
		if err != nil {
			cleanup, cancel := afterwards(ctx)
			defer cancel()
			_ = s.Content.Abort(cleanup, ref)
		}
	}()
	if w.Offset() > 0 {
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// digestsOf lists all that a transfer will have brought.
func digestsOf(target ocispec.Descriptor, manifests []described) []digest.Digest {
	list, seen := []digest.Digest{}, map[digest.Digest]bool{}
	add := func(d ocispec.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			list = append(list, d.Digest)
		}
	}
	add(target)
	for _, m := range manifests {
		add(m.Descriptor)
		add(m.manifest.Config)
		for _, l := range m.manifest.Layers {
			add(l)
		}
	}
	return list
}
