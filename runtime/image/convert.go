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
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/trust"
)

// ConvertOptions say what is made of an image.
type ConvertOptions struct {
	Source       string
	Target       string
	OCI          bool   // OCI media types for Docker's
	Uncompress   bool   // the same as Compression "uncompressed"
	Compression  string // gzip, zstd or uncompressed; "": as they are
	Platforms    []string
	AllPlatforms bool
	Recipients   []trust.Recipient // encrypts the layers for them, and makes all media types OCI's
	Decrypt      bool              // makes encrypted layers plain, with the machine's keys and these:
	PrivateKeys  [][]byte
}

// Convert makes a new image of another one: other media types, other compression, fewer platforms. Diff IDs, and with
// them unpacked layers, stay the same.
func (s *Service) Convert(ctx context.Context, ns string, o ConvertOptions) (Image, error) {
	ref, err := name.Parse(o.Target)
	if err != nil {
		return Image{}, err
	}
	c := &conversion{
		s: s, oci: o.OCI || len(o.Recipients) > 0, held: s.hold(ns),
		recipients: o.Recipients, decrypt: o.Decrypt, privateKeys: o.PrivateKeys,
	}
	defer c.held.release()
	if c.want, err = oci.ParseWant(o.Platforms, o.AllPlatforms); err != nil {
		return Image{}, err
	}
	if c.layer, err = compressionOf(o); err != nil {
		return Image{}, err
	}
	img, err := s.Get(ctx, ns, o.Source)
	if err != nil {
		return Image{}, err
	}
	if err := s.checkCrypt(ctx, o, img.Target); err != nil {
		return Image{}, err
	}
	if err := s.pinAll(ctx, c.held, img.Target); err != nil {
		return Image{}, err
	}
	target, err := c.target(ctx, img.Target)
	if err != nil {
		return Image{}, s.explain(fmt.Errorf("convert %s: %w", img.Name, err))
	}
	if err := c.held.content(ctx, c.made...); err != nil {
		return Image{}, err
	}
	if err := s.Content.Sync(ctx); err != nil {
		return Image{}, err
	}
	return s.write(ns, Image{Name: ref.String(), Target: target, Labels: img.Labels})
}

func compressionOf(o ConvertOptions) (func(ocispec.Descriptor) (compression.Format, bool), error) {
	want := o.Compression
	if o.Uncompress {
		if want != "" && want != "uncompressed" {
			return nil, fmt.Errorf("uncompress and compression %s contradict each other: %w", want, errdefs.ErrInvalidArgument)
		}
		want = "uncompressed"
	}
	switch want {
	case "":
		return func(ocispec.Descriptor) (compression.Format, bool) { return "", false }, nil
	case "uncompressed":
		return toCompression(compression.Uncompressed, true), nil
	case "gzip":
		return toCompression(compression.Gzip, true), nil
	case "zstd":
		return toCompression(compression.Zstd, true), nil
	}
	return nil, fmt.Errorf("compression %q: known are gzip, zstd and uncompressed: %w", want, errdefs.ErrInvalidArgument)
}

// toCompression converts layers of another compression; only uncompressed ones unless all is set.
func toCompression(c compression.Format, all bool) func(ocispec.Descriptor) (compression.Format, bool) {
	return func(d ocispec.Descriptor) (compression.Format, bool) {
		have := compression.Format(oci.LayerCompression(d.MediaType))
		return c, have != c && (all || have == compression.Uncompressed)
	}
}

// conversion makes new documents and layers of old ones.
type conversion struct {
	s     *Service
	held  *held
	want  oci.Want
	oci   bool
	layer func(ocispec.Descriptor) (to compression.Format, change bool)
	// lenient leaves manifests whose blobs are not here as they are; otherwise that is an error.
	lenient bool
	made    []digest.Digest

	recipients  []trust.Recipient // none: nothing is encrypted
	decrypt     bool
	privateKeys [][]byte
}

// target converts an image's target. An index of which one manifest remains becomes that manifest.
func (c *conversion) target(ctx context.Context, target ocispec.Descriptor) (ocispec.Descriptor, error) {
	if oci.KindOf(target.MediaType) == oci.KindManifest {
		return c.manifest(ctx, target)
	}
	manifests, err := oci.Manifests(ctx, c.s.read, target, c.want)
	if err != nil {
		return target, err
	}
	data, err := c.s.read(ctx, target)
	if err != nil {
		return target, err
	}
	x, err := oci.ParseIndex(target.MediaType, data)
	if err != nil {
		return target, err
	}
	x.Manifests = nil
	for _, d := range manifests {
		m, err := c.manifest(ctx, d)
		if errdefs.IsNotFound(err) && c.lenient {
			m, err = d, nil
		}
		if err != nil {
			return target, err
		}
		x.Manifests = append(x.Manifests, m)
	}
	if len(x.Manifests) == 1 && !c.want.All {
		return x.Manifests[0], nil
	}
	if c.oci {
		x = oci.IndexToOCI(x)
	}
	return c.document(ctx, target, x.MediaType, x)
}

func (c *conversion) manifest(ctx context.Context, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	m, err := c.s.manifest(ctx, d)
	if err != nil {
		return d, err
	}
	if c.oci {
		m = oci.ManifestToOCI(m)
	}
	for i, l := range m.Layers {
		to, change := c.layer(l)
		if !change || !oci.IsLayer(l.MediaType) || oci.IsEncrypted(l.MediaType) {
			continue
		}
		if m.Layers[i], err = c.convertLayer(ctx, l, to); err != nil {
			return d, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	switch {
	case len(c.recipients) > 0:
		err = c.encryptLayers(ctx, m.Layers)
	case c.decrypt:
		err = c.decryptLayers(ctx, m.Layers)
	}
	if err != nil {
		return d, err
	}
	return c.document(ctx, d, m.MediaType, m)
}

// document stores a converted document; its descriptor keeps platform and annotations of the old one.
func (c *conversion) document(ctx context.Context, old ocispec.Descriptor, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return old, err
	}
	old.MediaType, old.Digest, old.Size, old.Data = mediaType, digest.FromBytes(data), int64(len(data)), nil
	if _, err := c.s.put(ctx, c.held, old.Digest, old.Size, bytes.NewReader(data)); err != nil {
		return old, err
	}
	c.made = append(c.made, old.Digest)
	return old, nil
}

// convertLayer recompresses a layer, streaming it from and to the content.
func (c *conversion) convertLayer(ctx context.Context, d ocispec.Descriptor, to compression.Format) (ocispec.Descriptor, error) {
	r, err := c.s.Content.Open(ctx, d.Digest)
	if err != nil {
		return d, err
	}
	defer func() { _ = r.Close() }()
	plain, _, err := compression.Decompress(r)
	if err != nil {
		return d, err
	}
	defer func() { _ = plain.Close() }()
	out, in := io.Pipe()
	go func() {
		z, err := compression.Compress(in, to)
		if err == nil {
			_, err = io.Copy(z, plain)
			err = errors.Join(err, z.Close())
		}
		in.CloseWithError(err)
	}()
	made, err := c.putLayer(ctx, d, oci.LayerType(d.MediaType, string(to)), out)
	_ = out.CloseWithError(errors.New("the layer is no longer wanted")) // ends the goroutine if put gave up
	return made, err
}
