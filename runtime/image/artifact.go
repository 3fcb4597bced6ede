package image

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
)

// ArtifactFile is one file of an artifact: a blob of the content store, which must not be written to.
type ArtifactFile struct {
	Name string // a relative path without ".."; its title, or the digest's hexadecimal digits
	Path string // of the blob on this host
	Size int64  // bytes
}

// Artifact lists the files of an OCI artifact (image-spec 1.1, "Guidelines for Artifact Usage"): its layers, called by
// their titles. is is false for what is no artifact, an ordinary image for instance.
func (s *Service) Artifact(ctx context.Context, ns, ref string) (files []ArtifactFile, is bool, err error) {
	img, err := s.Get(ctx, ns, ref)
	if err != nil {
		return nil, false, err
	}
	if oci.KindOf(img.Target.MediaType) != oci.KindManifest {
		return nil, false, nil
	}
	m, err := s.manifest(ctx, img.Target)
	if err != nil || !oci.IsArtifact(m) {
		return nil, false, err
	}
	for _, d := range m.Layers {
		if d.Digest == ocispec.DescriptorEmptyJSON.Digest {
			continue // stands for "nothing" where a manifest must have a layer
		}
		f := ArtifactFile{Name: d.Annotations[ocispec.AnnotationTitle], Path: s.Content.Path(d.Digest), Size: d.Size}
		if f.Name == "" {
			f.Name = d.Digest.Encoded()
		}
		if !filepath.IsLocal(f.Name) {
			return nil, true, fmt.Errorf("artifact %s: the title %q of a file leads out of its directory: %w", img.Name, f.Name, errdefs.ErrInvalidArgument)
		}
		if !s.Content.Has(d.Digest) {
			return nil, true, fmt.Errorf("artifact %s: %s is not in the content: pull it again: %w", img.Name, f.Name, errdefs.ErrNotFound)
		}
		files = append(files, f)
	}
	return files, true, nil
}
