package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/archive"
	oci "github.com/minirt/mini/oci/image"
)

// ExportOptions say what goes into an archive.
type ExportOptions struct {
	Names                []string
	Platforms            []string // none: this host's
	AllPlatforms         bool
	SkipDockerManifest   bool
	SkipNonDistributable bool
}

// Export writes images as one archive that is an OCI layout and readable by `docker load`.
func (s *Service) Export(ctx context.Context, ns string, w io.Writer, o ExportOptions) error {
	if len(o.Names) == 0 {
		return fmt.Errorf("export: no image is named: %w", errdefs.ErrInvalidArgument)
	}
	wanted, err := oci.ParseWant(o.Platforms, o.AllPlatforms)
	if err != nil {
		return err
	}
	h := s.hold(ns)
	defer h.release()
	var entries []archive.Entry
	for _, n := range o.Names {
		found, byID, err := s.find(ctx, ns, n)
		if err != nil {
			return err
		}
		e := archive.Entry{Name: found[0].Name, Target: found[0].Target}
		if byID {
			e.Name = "" // an id was asked for, not a name
		}
		entries = append(entries, e)
		if err := s.pinAll(ctx, h, e.Target); err != nil {
			return err
		}
	}
	return archive.Write(ctx, w, entries, blobSource{s.Content}, archive.WriteOptions{
		Want: wanted, SkipDockerManifest: o.SkipDockerManifest, SkipNonDistributable: o.SkipNonDistributable})
}

// pinAll keeps all there is of an image from the collector while it is read.
func (s *Service) pinAll(ctx context.Context, h *held, target ocispec.Descriptor) error {
	return oci.Walk(ctx, s.readPresent, target, func(d ocispec.Descriptor) error {
		h.pin(contentPin(d.Digest.String()))
		return nil
	})
}

// blobSource is the content as an archive's source.
type blobSource struct{ content Content }

func (b blobSource) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return b.content.Open(ctx, d.Digest)
}
