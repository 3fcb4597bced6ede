package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	oci "github.com/minirt/mini/oci/image"
)

// layerKeys are the keys of encrypted layers. The content has these layers as they came; plain they are only in snapshots,
// and the keys are asked for anew whenever an image is used.
type layerKeys map[digest.Digest]encryption.Key

// encrypted picks the layers that need keys.
func encrypted(layers []ocispec.Descriptor) []ocispec.Descriptor {
	var found []ocispec.Descriptor
	for _, l := range layers {
		if oci.IsEncrypted(l.MediaType) {
			found = append(found, l)
		}
	}
	return found
}

// keys has the keys of encrypted layers opened, by the machine's private keys and others; without one of them it is
// ErrPermissionDenied.
func (s *Service) keys(ctx context.Context, layers []ocispec.Descriptor, others ...[]byte) (layerKeys, error) {
	if len(layers) == 0 {
		return nil, nil
	}
	if s.Judge == nil {
		return nil, fmt.Errorf("layer %s is encrypted (%s): this daemon has no program for keys: %w", layers[0].Digest, layers[0].MediaType, errdefs.ErrNotImplemented)
	}
	list, err := s.Judge.Keys(ctx, layers, others...)
	if err != nil {
		return nil, err
	}
	keys := layerKeys{}
	for i, l := range layers {
		keys[l.Digest] = list[i]
	}
	return keys, nil
}

// open reads a layer's bytes as they were before it was encrypted, if it is.
func (k layerKeys) open(r io.Reader, l ocispec.Descriptor) (io.Reader, error) {
	if !oci.IsEncrypted(l.MediaType) {
		return r, nil
	}
	plain, err := encryption.Decrypt(r, k[l.Digest])
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	return plain, nil
}

// end reads what is left of an encrypted layer behind its last file: only its end tells that it was the right one.
func (k layerKeys) end(plain io.Reader, l ocispec.Descriptor) error {
	if !oci.IsEncrypted(l.MediaType) {
		return nil
	}
	_, err := io.Copy(io.Discard, plain)
	return err
}
