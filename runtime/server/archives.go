package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/image"
)

type archivesServer struct {
	api.UnimplementedArchivesServer
	Deps
}

func (s *archivesServer) Stat(ctx context.Context, r *api.PathRequest) (*api.PathInfo, error) {
	i, err := s.Engine.StatPath(ctx, namespace(r), r.Id, r.Path)
	if err != nil {
		return nil, err
	}
	return pathInfo(i), nil
}

func pathInfo(i engine.PathInfo) *api.PathInfo {
	return &api.PathInfo{Name: i.Name, Size: i.Size, Mode: i.Mode, ModifiedAt: nanos(i.ModTime), LinkTarget: i.LinkTarget}
}

func (s *archivesServer) Download(r *api.PathRequest, stream grpc.ServerStreamingServer[api.DownloadResponse]) error {
	ctx, cancel := s.whileServing(stream.Context())
	defer cancel()
	w := &chunkWriter{send: func(d *api.DataChunk) error { return stream.Send(&api.DownloadResponse{Data: d.Data}) }}
	begin := func(i engine.PathInfo) error { return stream.Send(&api.DownloadResponse{Info: pathInfo(i)}) }
	err := s.Engine.CopyFrom(ctx, namespace(r), r.Id, r.Path, r.As, begin, w)
	if err == nil {
		err = w.flush()
	}
	return orStopping(ctx, err)
}

func (s *archivesServer) Upload(stream grpc.ClientStreamingServer[api.UploadRequest, api.UploadResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	o := first.Options
	if o == nil {
		return fmt.Errorf("upload: the first message must have the options: %w", errdefs.ErrInvalidArgument)
	}
	ctx, cancel := s.whileServing(stream.Context())
	defer cancel()
	in := &received[api.UploadRequest]{recv: stream.Recv, data: (*api.UploadRequest).GetData, rest: first.Data}
	plain, _, err := compression.Decompress(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	err = s.Engine.CopyTo(ctx, namespace(o), o.Id, o.Path, plain, engine.CopyToOptions{OwnedByUser: o.OwnedByUser})
	if err != nil {
		return orStopping(ctx, err)
	}
	return stream.SendAndClose(&api.UploadResponse{})
}

func (s *archivesServer) Changes(ctx context.Context, r *api.ContainerRequest) (*api.ChangesResponse, error) {
	all, err := s.Engine.Changes(ctx, namespace(r), r.Id)
	if err != nil {
		return nil, err
	}
	out := &api.ChangesResponse{Changes: make([]*api.Change, 0, len(all))}
	for _, c := range all {
		out.Changes = append(out.Changes, &api.Change{Path: c.Path, Kind: string(c.Kind)})
	}
	return out, nil
}

func (s *archivesServer) Export(r *api.ContainerRequest, stream grpc.ServerStreamingServer[api.DataChunk]) error {
	ctx, cancel := s.whileServing(stream.Context())
	defer cancel()
	w := &chunkWriter{send: stream.Send}
	err := s.Engine.Export(ctx, namespace(r), r.Id, w)
	if err == nil {
		err = w.flush()
	}
	return orStopping(ctx, err)
}

func (s *archivesServer) Commit(ctx context.Context, r *api.CommitRequest) (*api.Image, error) {
	i, err := s.Engine.Commit(ctx, namespace(r), r.Id, engine.CommitOptions{
		Name: r.Name, Author: r.Author, Comment: r.Comment, Changes: r.Changes, NoPause: r.NoPause, Compression: r.Compression, OCI: r.Oci,
	})
	if err != nil {
		return nil, err
	}
	return s.view(ctx, namespace(r), i), nil
}

func (s *archivesServer) Import(stream grpc.ClientStreamingServer[api.ImportFilesRequest, api.Image]) error {
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
	ctx, cancel := s.whileServing(stream.Context())
	defer cancel()
	options := image.LayerOptions{Name: o.Name, History: ocispec.History{Comment: o.Comment}}
	configure := func(c *oci.Config) error { return c.Change(o.Changes...) }
	var i image.Image
	if o.Url != "" {
		i, err = s.Images.ImportURL(ctx, ns, o.Url, options, o.Platform, configure)
	} else {
		in := &received[api.ImportFilesRequest]{recv: stream.Recv, data: (*api.ImportFilesRequest).GetData, rest: first.Data}
		i, err = s.Images.ImportLayer(ctx, ns, in, options, o.Platform, configure)
	}
	if err != nil {
		return orStopping(ctx, err)
	}
	return stream.SendAndClose(s.view(ctx, ns, i))
}

// received reads the data of a stream's messages.
type received[M any] struct {
	recv func() (*M, error)
	data func(*M) []byte
	rest []byte
	ends error
}

func (r *received[M]) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.ends != nil {
			return 0, r.ends
		}
		m, err := r.recv()
		if err != nil {
			r.ends = err // io.EOF at the end
			if !errors.Is(err, io.EOF) {
				r.ends = fmt.Errorf("the client has gone: %w", err)
			}
			continue
		}
		r.rest = r.data(m)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
