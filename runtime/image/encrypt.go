package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	oci "github.com/minirt/mini/oci/image"
)

// encryptLayers encrypts a manifest's layers, each with a key of its own that the recipients can open. Those that are
// encrypted stay as they are.
func (c *conversion) encryptLayers(ctx context.Context, layers []ocispec.Descriptor) error {
	var made []int
	var keys []encryption.Key
	for i, l := range layers {
		if !oci.IsLayer(l.MediaType) || oci.IsEncrypted(l.MediaType) {
			continue
		}
		var e *encryption.Encrypting
		var err error
		layers[i], err = c.recode(ctx, l, encryption.MediaType(l.MediaType), func(r io.Reader) (io.Reader, error) {
			e, err = encryption.Encrypt(r)
			return e, err
		})
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		k, err := e.Key(l.Digest)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		made, keys = append(made, i), append(keys, k)
	}
	if len(made) == 0 {
		return nil
	}
	if c.s.Judge == nil {
		return fmt.Errorf("this daemon has no program for keys: %w", errdefs.ErrNotImplemented)
	}
	wrapped, err := c.s.Judge.Wrap(ctx, c.recipients, keys)
	if err != nil {
		return err
	}
	for n, i := range made {
		annotations := maps.Clone(layers[i].Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		maps.Copy(annotations, wrapped[n])
		layers[i].Annotations = annotations
	}
	return nil
}

// decryptLayers makes the layers what they were before they were encrypted.
func (c *conversion) decryptLayers(ctx context.Context, layers []ocispec.Descriptor) error {
	keys, err := c.s.keys(ctx, encrypted(layers), c.privateKeys...)
	if err != nil {
		return err
	}
	for i, l := range layers {
		k, is := keys[l.Digest]
		if !is {
			continue
		}
		layers[i], err = c.recode(ctx, l, encryption.PlainMediaType(l.MediaType), func(r io.Reader) (io.Reader, error) {
			return encryption.Decrypt(r, k)
		})
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if want := k.Plain(); want != "" && layers[i].Digest != want {
			return fmt.Errorf("layer %s: decrypted it is %s, and %s was encrypted: %w", l.Digest, layers[i].Digest, want, errdefs.ErrDataLoss)
		}
		annotations := maps.Clone(l.Annotations)
		maps.DeleteFunc(annotations, func(name, _ string) bool { return strings.HasPrefix(name, encryption.AnnotationPrefix) })
		if layers[i].Annotations = annotations; len(annotations) == 0 {
			layers[i].Annotations = nil
		}
	}
	return nil
}

// recode makes a new blob of a layer's bytes.
func (c *conversion) recode(ctx context.Context, d ocispec.Descriptor, mediaType string, code func(io.Reader) (io.Reader, error)) (ocispec.Descriptor, error) {
	r, err := c.s.Content.Open(ctx, d.Digest)
	if err != nil {
		return d, err
	}
	defer func() { _ = r.Close() }()
	coded, err := code(r)
	if err != nil {
		return d, err
	}
	return c.putLayer(ctx, d, mediaType, coded)
}

// putLayer stores a layer that was made of another one.
func (c *conversion) putLayer(ctx context.Context, d ocispec.Descriptor, mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	got, err := c.s.put(ctx, c.held, "", -1, r)
	if err != nil {
		return d, err
	}
	info, err := c.s.Content.Info(ctx, got)
	if err != nil {
		return d, err
	}
	c.made = append(c.made, got)
	d.MediaType, d.Digest, d.Size, d.URLs = mediaType, got, info.Size, nil
	return d, nil
}

// checkCrypt refuses wishes that contradict each other, and a decryption of what is not encrypted.
func (s *Service) checkCrypt(ctx context.Context, o ConvertOptions, target ocispec.Descriptor) error {
	if len(o.Recipients) > 0 && o.Decrypt {
		return fmt.Errorf("an image is encrypted or decrypted, not both: %w", errdefs.ErrInvalidArgument)
	}
	if !o.Decrypt {
		return nil
	}
	found := false
	err := oci.Walk(ctx, s.readForMark, target, func(d ocispec.Descriptor) error {
		found = found || oci.IsEncrypted(d.MediaType)
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("image %s has no encrypted layer: %w", o.Source, errdefs.ErrFailedPrecondition)
	}
	return err
}
