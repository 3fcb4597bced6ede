package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/archive"
	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/content"
)

// ImportOptions say what becomes of an archive.
type ImportOptions struct {
	BaseName              string // of images that have only a tag; others must belong to it. "": import-DATE, and all are taken
	IndexName             string // also names the archive's whole index
	Digests               bool   // also name images by digest
	SkipDigestForNamed    bool
	Platforms             []string // to unpack; none: this host's
	AllPlatforms          bool
	NoUnpack              bool
	Snapshotter           string
	Labels                map[string]string
	CompressBlobs         bool // gzip the uncompressed layers
	DiscardUnpackedLayers bool // delete the layers' blobs once they are unpacked
}

// Import reads an OCI layout or docker-save archive, compressed or not, and makes its images. Blobs go straight to the
// content as they come. An image of the archive that has no name is named by its digest.
func (s *Service) Import(ctx context.Context, ns string, r io.Reader, o ImportOptions) ([]Image, error) {
	m := &importing{s: s, ns: ns, o: o, held: s.hold(ns)}
	images, err := m.run(ctx, r)
	m.held.release()
	if err == nil && o.DiscardUnpackedLayers {
		err = s.discardLayers(ctx, m.unpacked)
	}
	return images, s.explain(err)
}

// importing is one import.
type importing struct {
	s    *Service
	ns   string
	o    ImportOptions
	held *held
	put  []digest.Digest

	unpacked []described
}

func (m *importing) run(ctx context.Context, r io.Reader) ([]Image, error) {
	if m.o.BaseName != "" {
		if _, err := name.ParseRepository(m.o.BaseName); err != nil {
			return nil, err
		}
	}
	c, err := archive.Read(ctx, r, m.blob)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	images, err := m.name(ctx, c)
	if err != nil {
		return nil, err
	}
	if m.o.CompressBlobs {
		if images, err = m.compress(ctx, images); err != nil {
			return nil, err
		}
	}
	if err := m.held.content(ctx, m.put...); err != nil {
		return nil, err
	}
	if err := failpoint.Hit("import-before-sync"); err != nil {
		return nil, err
	}
	if m.unpacked, err = m.unpack(ctx, images); err != nil {
		return nil, err
	}
	if err := m.s.Content.Sync(ctx); err != nil {
		return nil, err
	}
	if err := failpoint.Hit("import-before-record"); err != nil {
		return nil, err
	}
	var made []Image
	for _, img := range images {
		w, err := m.s.write(m.ns, img)
		if err != nil {
			return made, err
		}
		m.s.publish(m.ns, "import", w.Name, map[string]string{"digest": w.Target.Digest.String()})
		made = append(made, w)
	}
	return made, nil
}

// blob stores one blob of the archive. It is pinned before it becomes content.
func (m *importing) blob(ctx context.Context, expected digest.Digest, size int64, r io.Reader) (digest.Digest, error) {
	d, err := m.s.put(ctx, m.held, expected, size, r)
	if err == nil {
		m.put = append(m.put, d)
	}
	return d, err
}

// put stores a blob whose digest may not be known yet; size -1 is unknown too.
func (s *Service) put(ctx context.Context, h *held, expected digest.Digest, size int64, r io.Reader) (d digest.Digest, err error) {
	if expected != "" {
		h.pin(contentPin(expected.String()))
		if s.Content.Has(expected) {
			_, err := io.Copy(io.Discard, r)
			return expected, err
		}
	}
	ref := "put-" + id.New()[:16]
	w, err := s.Content.Writer(ctx, content.Ingest{Ref: ref, Expected: expected, Total: max(size, 0), Once: true})
	if errdefs.IsAlreadyExists(err) { // somebody else was faster
		_, err := io.Copy(io.Discard, r)
		return expected, err
	}
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, w.Close())
		if err != nil {
			cleanup, cancel := afterwards(ctx)
			defer cancel()
			err = errors.Join(err, ignoreNotFound(s.Content.Abort(cleanup, ref)))
		}
	}()
	buf := receiveBuffers.Get().(*[]byte)
	defer receiveBuffers.Put(buf)
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{r}, *buf); err != nil {
		return "", err
	}
	d = w.Digest()
	if expected != "" {
		d = expected // it may be of another algorithm
	} else {
		h.pin(contentPin(d.String()))
	}
	if size < 0 {
		size = w.Offset()
	}
	if err := w.Commit(ctx, size, d); err != nil && !errdefs.IsAlreadyExists(err) {
		return "", err
	}
	return d, nil
}

// name makes the records of the images, not written yet.
func (m *importing) name(ctx context.Context, c archive.Contents) ([]Image, error) {
	naming := archive.Naming{Base: m.o.BaseName, Filter: m.o.BaseName != "", Digests: m.o.Digests, SkipDigestForNamed: m.o.SkipDigestForNamed}
	if naming.Base == "" {
		naming.Base = "import-" + time.Now().UTC().Format("2006-01-02")
	}
	var images []Image
	for _, d := range c.Index.Manifests {
		if !m.s.Content.Has(d.Digest) {
			return nil, fmt.Errorf("import: manifest %s is in the archive's index and not in the archive: %w", d.Digest, errdefs.ErrInvalidArgument)
		}
		names := naming.Names(d)
		if len(names) == 0 && m.o.BaseName == "" && m.o.IndexName == "" {
			named := archive.Naming{Base: naming.Base, Digests: true}
			names = named.Names(ocispec.Descriptor{Digest: d.Digest})
		}
		for _, n := range names {
			images = append(images, Image{Name: n, Target: plain(d), Labels: m.o.Labels})
		}
	}
	if m.o.IndexName != "" {
		ref, err := name.Parse(m.o.IndexName)
		if err != nil {
			return nil, err
		}
		target, err := m.index(ctx, c)
		if err != nil {
			return nil, err
		}
		images = append(images, Image{Name: ref.String(), Target: target, Labels: m.o.Labels})
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("import: no image of the archive belongs to %s: leave out the base name, or use digests: %w", m.o.BaseName, errdefs.ErrNotFound)
	}
	return images, nil
}

// index stores the archive's index as content.
func (m *importing) index(ctx context.Context, c archive.Contents) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(c.IndexData), Size: int64(len(c.IndexData))}
	_, err := m.blob(ctx, d.Digest, d.Size, bytes.NewReader(c.IndexData))
	return d, err
}

// plain is a descriptor as a record has it: without the archive's annotations for naming.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	annotations := map[string]string{}
	for k, v := range d.Annotations {
		if k != archive.AnnotationName && k != ocispec.AnnotationRefName {
			annotations[k] = v
		}
	}
	d.Annotations = annotations
	if len(annotations) == 0 {
		d.Annotations = nil
	}
	return d
}

// compress replaces each image by one with gzip layers.
func (m *importing) compress(ctx context.Context, images []Image) ([]Image, error) {
	for i, img := range images {
		c := &conversion{s: m.s, held: m.held, layer: toCompression(compression.Gzip, false), want: oci.Want{All: true}, lenient: true}
		target, err := c.target(ctx, img.Target)
		if err != nil {
			return nil, fmt.Errorf("compress the layers of %s: %w", img.Name, err)
		}
		m.put = append(m.put, c.made...)
		images[i].Target = target
	}
	return images, nil
}

// unpack unpacks the wanted platforms of the images, and returns the manifests that it has unpacked.
func (m *importing) unpack(ctx context.Context, images []Image) ([]described, error) {
	if m.o.NoUnpack {
		return nil, nil
	}
	sn, err := m.s.snapshotter(m.o.Snapshotter)
	if err != nil {
		return nil, err
	}
	w, err := oci.ParseWant(m.o.Platforms, false)
	if err != nil {
		return nil, err
	}
	var all []described
	seen := map[digest.Digest]bool{}
	for _, img := range images {
		manifests, err := oci.Manifests(ctx, m.s.readPresent, img.Target, w)
		if errdefs.IsNotFound(err) {
			continue // another platform's image
		}
		if err != nil {
			return nil, fmt.Errorf("import %s: %w", img.Name, err)
		}
		for _, d := range manifests {
			if seen[d.Digest] || !m.s.Content.Has(d.Digest) {
				continue
			}
			seen[d.Digest] = true
			x, err := m.s.describe(ctx, d)
			if err != nil {
				return nil, fmt.Errorf("import %s: %w", img.Name, err)
			}
			all = append(all, x)
		}
	}
	return all, m.s.unpack(ctx, m.ns, sn, all, m.held, func(Progress) {})
}

// describe reads a manifest and its config from the content.
func (s *Service) describe(ctx context.Context, d ocispec.Descriptor) (described, error) {
	m, err := s.manifest(ctx, d)
	if err != nil || oci.IsArtifact(m) || oci.IsAttestation(d) {
		return described{d, m, nil}, err
	}
	c, err := s.imageConfig(ctx, m.Config)
	return described{d, m, &c}, err
}

// discardLayers deletes the blobs of unpacked layers that no other image needs and nothing works on.
func (s *Service) discardLayers(ctx context.Context, unpacked []described) error {
	mine := map[digest.Digest]bool{}
	for _, m := range unpacked {
		mine[m.Digest] = true
	}
	s.records.Lock()
	entries, err := s.Images.List("")
	s.records.Unlock()
	if err != nil {
		return err
	}
	needed := map[digest.Digest]bool{}
	for _, e := range entries {
		err := oci.Walk(ctx, s.readPresent, e.Value.Target, func(d ocispec.Descriptor) error {
			if mine[d.Digest] {
				return oci.SkipChildren
			}
			needed[d.Digest] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, m := range unpacked {
		for _, l := range m.manifest.Layers {
			if needed[l.Digest] {
				continue
			}
			_, err := s.pins.sweep(contentPin(l.Digest.String()), func() error { return ignoreNotFound(s.Content.Delete(ctx, l.Digest)) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}
