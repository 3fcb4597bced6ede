package image

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// Usage is what an image takes on the disk. Parts shared with other images count in each.
type Usage struct {
	ContentSize  int64 // bytes of blobs
	SnapshotSize int64 // bytes of unpacked layers, for this host's platform
	Inodes       int64
}

// Usage counts what an image takes on the disk, its unpacked layers for one snapshotter included.
func (s *Service) Usage(ctx context.Context, ns, ref, snapshotter string) (Usage, error) {
	sn, err := s.snapshotter(snapshotter)
	if err != nil {
		return Usage{}, err
	}
	img, err := s.Get(ctx, ns, ref)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	err = oci.Walk(ctx, s.readPresent, img.Target, func(d ocispec.Descriptor) error {
		if info, err := s.Content.Info(ctx, d.Digest); err == nil {
			u.ContentSize += info.Size
		}
		return nil
	})
	if err != nil {
		return u, err
	}
	r, err := s.resolve(ctx, ns, img, "")
	if err != nil {
		return u, nil // nothing that could be unpacked here
	}
	for _, id := range oci.ChainIDs(r.Config.RootFS.DiffIDs) {
		key := snapshot.Key{Namespace: ns, Name: id.String()}
		if !s.isUnpacked(ctx, sn, ns, key.Name) {
			continue
		}
		one, err := sn.Usage(ctx, key)
		if err != nil {
			return u, err
		}
		u.SnapshotSize += one.Size
		u.Inodes += one.Inodes
	}
	return u, nil
}
