package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/compression"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

// uncompressedLabel tells the diff ID of a compressed layer, as other tools label it.
const uncompressedLabel = "containerd.io/uncompressed"

// keepLabel keeps content from the garbage collector.
const keepLabel = "minid.gc.root"

// diffLease is how long a layer is kept that its client does not ask to keep: time to make an image of it.
const diffLease = 24 * time.Hour

// Diff makes a layer of what upper has changed: against lower, or against its own parent when no lower is given. The
// layer is stored under a lease, and for good when the client says so.
func (s *snapshotsServer) Diff(ctx context.Context, r *api.DiffRequest) (*api.Descriptor, error) {
	sn, err := s.snapshotter(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	mediaType, compression, err := layerType(r.MediaType)
	if err != nil {
		return nil, err
	}
	ref := r.Ref
	if ref == "" {
		ref = "diff-" + id.New()
	}
	lease, err := s.Leases.Create(namespace(r), "", map[string]string{"diff": r.Upper}, diffLease)
	if err != nil {
		return nil, err
	}
	made, err := s.storeDiff(ctx, sn, r, ref, compression)
	if err == nil {
		_, err = s.Leases.Add(namespace(r), lease.ID, store.Resource{Type: "content", ID: made.Digest.String()})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("difference of snapshot %s: %w", r.Upper, err), s.Leases.Delete(namespace(r), lease.ID))
	}
	made.MediaType = mediaType
	return descriptorOf(made), nil
}

// storeDiff writes, labels and syncs the blob.
func (s *snapshotsServer) storeDiff(ctx context.Context, sn snapshot.Snapshotter, r *api.DiffRequest, ref string, c compression.Format) (ocispec.Descriptor, error) {
	w, err := s.Content.Writer(ctx, content.Ingest{Ref: ref})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	made, err := s.writeDiff(ctx, sn, r, w, c)
	if err := errors.Join(err, w.Close()); err != nil {
		return ocispec.Descriptor{}, errors.Join(err, s.Content.Abort(context.WithoutCancel(ctx), ref))
	}
	labels := map[string]string{uncompressedLabel: made.Annotations[uncompressedLabel]}
	maps.Copy(labels, r.Labels)
	if r.Keep {
		labels[keepLabel] = "diff"
	}
	if _, err := s.Content.SetLabels(ctx, made.Digest, labels, false); err != nil {
		return ocispec.Descriptor{}, err
	}
	return made, s.Content.Sync(ctx)
}

// layerType is the compression that a media type of a layer asks for; the empty one is a gzip layer.
func layerType(mediaType string) (string, compression.Format, error) {
	switch mediaType {
	case "", ocispec.MediaTypeImageLayerGzip:
		return ocispec.MediaTypeImageLayerGzip, compression.Gzip, nil
	case ocispec.MediaTypeImageLayer:
		return mediaType, compression.Uncompressed, nil
	case ocispec.MediaTypeImageLayerZstd:
		return mediaType, compression.Zstd, nil
	case "application/vnd.docker.image.rootfs.diff.tar.gzip":
		return mediaType, compression.Gzip, nil
	case "application/vnd.docker.image.rootfs.diff.tar":
		return mediaType, compression.Uncompressed, nil
	}
	return "", "", fmt.Errorf("media type %q is not one of layers that can be made: %w", mediaType, errdefs.ErrInvalidArgument)
}

// writeDiff streams the layer into the store, packed, and digests it on both sides of the packing.
func (s *snapshotsServer) writeDiff(ctx context.Context, sn snapshot.Snapshotter, r *api.DiffRequest, w *content.Writer, c compression.Format) (ocispec.Descriptor, error) {
	packed := digest.Canonical.Digester()
	plain := digest.Canonical.Digester()
	count := &counter{}
	pack, err := compression.Compress(io.MultiWriter(w, packed.Hash(), count), c)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	err = s.diff(ctx, sn, r, io.MultiWriter(pack, plain.Hash()))
	if err := errors.Join(err, pack.Close()); err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{
		Digest: packed.Digest(), Size: count.n, Annotations: map[string]string{uncompressedLabel: plain.Digest().String()},
	}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	return d, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (s *snapshotsServer) diff(ctx context.Context, sn snapshot.Snapshotter, r *api.DiffRequest, w io.Writer) error {
	ns := namespace(r)
	upper := snapshot.Key{Namespace: ns, Name: r.Upper}
	info, err := sn.Info(ctx, upper)
	if err != nil {
		return err
	}
	if d, ok := sn.(snapshot.Differ); ok && (r.Lower == "" || r.Lower == info.Parent) {
		return d.Diff(ctx, upper, w)
	}
	lower := r.Lower
	if lower == "" {
		lower = info.Parent
	}
	return s.look(ctx, sn, snapshot.Key{Namespace: ns, Name: lower}, func(lowerDir string) error {
		return s.look(ctx, sn, upper, func(upperDir string) error {
			return layer.Diff(ctx, w, lowerDir, upperDir, layer.DiffOptions{})
		})
	})
}

// look mounts a snapshot to read it, a committed one through a view; the empty name is the empty tree.
func (s *snapshotsServer) look(ctx context.Context, sn snapshot.Snapshotter, key snapshot.Key, do func(dir string) error) (err error) {
	if key.Name == "" {
		return do("")
	}
	info, err := sn.Info(ctx, key)
	if err != nil {
		return err
	}
	var mounts []mount.Mount
	if info.Kind == snapshot.Committed {
		view := snapshot.Key{Namespace: key.Namespace, Name: "look-" + id.New()}
		if mounts, err = sn.View(ctx, view, key.Name, snapshot.Options{}); err == nil {
			defer func() { err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), view)) }()
		}
	} else {
		mounts, err = sn.Mounts(ctx, key)
	}
	if err != nil {
		return err
	}
	return mount.Temp(ctx, mount.ReadOnly(mounts), do)
}
