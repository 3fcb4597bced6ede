package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
)

// A checkpoint of a container is an index. Its first manifest is an artifact: the config is what the engine knows of the
// container, the layers are what the container has changed of its root filesystem, as a layer of an image, and criu's
// files of its processes. A second manifest, when it is wanted, is that of the container's image, so that whoever gets
// the checkpoint has all of it: it can be pushed, exported and collected as any image.
const (
	checkpointType = "application/vnd.minid.checkpoint.v1+json"
	recordType     = "application/vnd.minid.checkpoint.container.v1+json"
	processesType  = "application/vnd.minid.checkpoint.criu.v1.tar+gzip"
	changesType    = ocispec.MediaTypeImageLayerGzip
)

// Checkpoint is what is to be saved of a container. What is nil is left out.
type Checkpoint struct {
	Record    []byte                                       // JSON
	Base      *ocispec.Descriptor                          // the manifest of its image
	Changes   func(ctx context.Context, w io.Writer) error // writes an uncompressed layer
	Processes func(ctx context.Context, w io.Writer) error // writes criu's files as a tar
}

// SaveCheckpoint writes a checkpoint and gives it a name, which may be another image's that then loses it.
func (s *Service) SaveCheckpoint(ctx context.Context, ns, ref string, c Checkpoint) (Image, error) {
	parsed, err := name.Parse(ref)
	if err != nil {
		return Image{}, err
	}
	h := s.hold(ns)
	defer h.release()
	index, err := s.saveCheckpoint(ctx, h, c)
	if err == nil {
		err = s.Content.Sync(ctx)
	}
	if err != nil {
		return Image{}, s.explain(fmt.Errorf("checkpoint %s: %w", parsed.Familiar(), err))
	}
	return s.write(ns, Image{Name: parsed.String(), Target: index})
}

func (s *Service) saveCheckpoint(ctx context.Context, h *held, c Checkpoint) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: checkpointType, Layers: []ocispec.Descriptor{},
	}
	var err error
	if m.Config, err = s.putDocument(ctx, h, recordType, c.Record); err != nil {
		return none, err
	}
	for _, part := range []struct {
		mediaType string
		write     func(context.Context, io.Writer) error
	}{{changesType, c.Changes}, {processesType, c.Processes}} {
		if part.write == nil {
			continue
		}
		d, _, err := s.putPacked(ctx, h, compression.Gzip, part.write)
		if err != nil {
			return none, err
		}
		d.MediaType = part.mediaType
		m.Layers = append(m.Layers, d)
	}
	first, err := s.putJSON(ctx, h, ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return none, err
	}
	first.ArtifactType = checkpointType
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: checkpointType, Manifests: []ocispec.Descriptor{first},
	}
	if c.Base != nil {
		if _, err := s.manifest(ctx, *c.Base); err != nil {
			return none, fmt.Errorf("its image: %w", err)
		}
		if err := s.pinAll(ctx, h, *c.Base); err != nil {
			return none, err
		}
		x.Manifests = append(x.Manifests, *c.Base)
	}
	return s.putJSON(ctx, h, ocispec.MediaTypeImageIndex, x)
}

func (s *Service) putJSON(ctx context.Context, h *held, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.putDocument(ctx, h, mediaType, data)
}

func (s *Service) putDocument(ctx context.Context, h *held, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := h.content(ctx, d.Digest); err != nil {
		return d, err
	}
	return d, s.store(ctx, d, bytes.NewReader(data))
}

// SavedCheckpoint is a checkpoint as it is stored.
type SavedCheckpoint struct {
	Name   string
	Record []byte
	Base   *ocispec.Descriptor // the manifest of the container's image, if it is there

	s      *Service
	layers []ocispec.Descriptor
}

// LoadCheckpoint reads a checkpoint by its name. ErrFailedPrecondition when the image is something else.
func (s *Service) LoadCheckpoint(ctx context.Context, ns, ref string) (SavedCheckpoint, error) {
	img, err := s.Get(ctx, ns, ref)
	if err != nil {
		return SavedCheckpoint{}, err
	}
	c, err := s.loadCheckpoint(ctx, img)
	if err != nil {
		return c, fmt.Errorf("image %s: %w", img.Name, err)
	}
	return c, nil
}

func (s *Service) loadCheckpoint(ctx context.Context, img Image) (SavedCheckpoint, error) {
	c := SavedCheckpoint{Name: img.Name, s: s}
	none := fmt.Errorf("not a checkpoint of a container: %w", errdefs.ErrFailedPrecondition)
	if oci.KindOf(img.Target.MediaType) != oci.KindIndex {
		return c, none
	}
	data, err := s.read(ctx, img.Target)
	if err != nil {
		return c, err
	}
	x, err := oci.ParseIndex(img.Target.MediaType, data)
	if err != nil {
		return c, err
	}
	found := false
	for _, d := range x.Manifests {
		m, err := s.manifest(ctx, d)
		if err != nil {
			return c, err
		}
		if oci.ArtifactType(m) != checkpointType {
			c.Base = &d
			continue
		}
		found, c.layers = true, m.Layers
		if c.Record, err = s.read(ctx, m.Config); err != nil {
			return c, err
		}
	}
	if !found {
		return c, none
	}
	return c, nil
}

func (s *Service) isCheckpoint(ctx context.Context, img Image) bool {
	_, err := s.loadCheckpoint(ctx, img)
	return err == nil
}

// Changes reads what the container has changed, as an uncompressed layer. ErrNotFound when that was not saved.
func (c SavedCheckpoint) Changes(ctx context.Context) (io.ReadCloser, error) {
	return c.open(ctx, changesType, "changes of its root filesystem")
}

// Processes reads criu's files, as a tar. ErrNotFound when they were not saved.
func (c SavedCheckpoint) Processes(ctx context.Context) (io.ReadCloser, error) {
	return c.open(ctx, processesType, "processes")
}

func (c SavedCheckpoint) open(ctx context.Context, mediaType, what string) (io.ReadCloser, error) {
	for _, d := range c.layers {
		if d.MediaType != mediaType {
			continue
		}
		r, err := c.s.Content.Open(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		plain, _, err := compression.Decompress(io.NewSectionReader(r, 0, r.Size()))
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		return &both{plain, r}, nil
	}
	return nil, fmt.Errorf("checkpoint %s has no %s: %w", c.Name, what, errdefs.ErrNotFound)
}

// both closes a reader and what it reads.
type both struct {
	io.ReadCloser
	below io.Closer
}

func (b *both) Close() error { return errors.Join(b.ReadCloser.Close(), b.below.Close()) }

// NameBase gives the image that a checkpoint has with it a name, by its digest, so that a container can be made of it.
func (s *Service) NameBase(ns, ref string, base ocispec.Descriptor) (Image, error) {
	parsed, err := name.Parse(ref)
	if err != nil {
		return Image{}, err
	}
	return s.write(ns, Image{Name: parsed.TrimVersion().WithDigest(base.Digest).String(), Target: base})
}
