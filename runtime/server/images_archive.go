package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/trust"
)

func (s *imagesServer) Import(stream grpc.ClientStreamingServer[api.ImportRequest, api.ImportResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	o := first.Options
	if o == nil {
		return fmt.Errorf("import: the first message must have the options: %w", errdefs.ErrInvalidArgument)
	}
	ns := namespace(o)
	if err := s.Namespaces.Ensure(ns); err != nil {
		return err
	}
	images, err := s.Images.Import(stream.Context(), ns, &received[api.ImportRequest]{recv: stream.Recv, data: (*api.ImportRequest).GetData, rest: first.Data}, image.ImportOptions{
		BaseName: o.BaseName, IndexName: o.IndexName, Digests: o.Digests, SkipDigestForNamed: o.SkipDigestForNamed,
		Platforms: o.Platforms, AllPlatforms: o.AllPlatforms, NoUnpack: o.NoUnpack, Snapshotter: o.Snapshotter, Labels: o.Labels,
		CompressBlobs: o.CompressBlobs, DiscardUnpackedLayers: o.DiscardUnpackedLayers,
	})
	if err != nil {
		return err
	}
	out := &api.ImportResponse{}
	for _, i := range images {
		out.Images = append(out.Images, s.view(stream.Context(), ns, i))
	}
	return stream.SendAndClose(out)
}

func (s *imagesServer) Export(r *api.ExportRequest, stream grpc.ServerStreamingServer[api.DataChunk]) error {
	w := &chunkWriter{send: stream.Send}
	err := s.Images.Export(stream.Context(), namespace(r), w, image.ExportOptions{
		Names: r.Names, Platforms: r.Platforms, AllPlatforms: r.AllPlatforms,
		SkipDockerManifest: r.SkipDockerManifest, SkipNonDistributable: r.SkipNonDistributable,
	})
	return errors.Join(err, w.flush())
}

// chunkWriter sends what is written to it in pieces of a good size.
type chunkWriter struct {
	send   func(*api.DataChunk) error
	buf    []byte
	offset int64
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	if w.buf == nil {
		w.buf = make([]byte, 0, grpcx.ChunkSize)
	}
	n := 0
	for len(p) > 0 {
		k := min(len(p), cap(w.buf)-len(w.buf))
		w.buf, p, n = append(w.buf, p[:k]...), p[k:], n+k
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *chunkWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.send(&api.DataChunk{Data: w.buf, Offset: w.offset})
	w.offset += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

func (s *imagesServer) Convert(ctx context.Context, r *api.ConvertRequest) (*api.Image, error) {
	recipients := make([]trust.Recipient, len(r.EncryptFor))
	for i, one := range r.EncryptFor {
		recipients[i] = trust.Recipient{Kind: one.Kind, Data: one.Data}
	}
	i, err := s.Images.Convert(ctx, namespace(r), image.ConvertOptions{
		Recipients: recipients, Decrypt: r.Decrypt, PrivateKeys: r.PrivateKeys,
		Source: r.Source, Target: r.Target, OCI: r.Oci, Uncompress: r.Uncompress, Compression: r.Compression,
		Platforms: r.Platforms, AllPlatforms: r.AllPlatforms,
	})
	return s.viewed(ctx, namespace(r), i, err)
}
