package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/events"
)

type contentServer struct {
	api.UnsafeContentServer
	Deps
}

func (s *contentServer) List(r *api.ListContentRequest, stream grpc.ServerStreamingServer[api.ContentInfo]) error {
	filter, err := events.ParseFilterOf(r.Filters, "digest", "labels.")
	if err != nil {
		return err
	}
	return s.Content.List(stream.Context(), func(i content.Info) error {
		match := filter.Match(func(key string) (string, bool) {
			if key == "digest" {
				return i.Digest.String(), true
			}
			return label(i.Labels, key)
		})
		if !match {
			return nil
		}
		return stream.Send(contentInfo(i))
	})
}

func (s *contentServer) Info(ctx context.Context, r *api.ContentInfoRequest) (*api.ContentInfo, error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	i, err := s.Content.Info(ctx, d)
	if err != nil {
		return nil, err
	}
	return contentInfo(i), nil
}

func (s *contentServer) Read(r *api.ReadContentRequest, stream grpc.ServerStreamingServer[api.DataChunk]) (err error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return err
	}
	blob, err := s.Content.Open(stream.Context(), d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if r.Offset < 0 || r.Offset > blob.Size() || r.Size < 0 {
		return fmt.Errorf("blob %s: it has %d bytes, none at offset %d: %w", d, blob.Size(), r.Offset, errdefs.ErrOutOfRange)
	}
	length := blob.Size() - r.Offset
	if r.Size > 0 {
		length = min(length, r.Size)
	}
	return sendChunks(io.NewSectionReader(blob, r.Offset, length), r.Offset, stream.Send)
}

// sendChunks sends all that can be read, piece by piece.
func sendChunks(r io.Reader, offset int64, send func(*api.DataChunk) error) error {
	buf := make([]byte, grpcx.ChunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := send(&api.DataChunk{Data: buf[:n], Offset: offset}); err != nil {
				return err
			}
			offset += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (s *contentServer) Active(ctx context.Context, _ *api.ActiveRequest) (*api.ActiveResponse, error) {
	list, err := s.Content.Ingests(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.ActiveResponse{}
	for _, i := range list {
		out.Ingests = append(out.Ingests, &api.Ingest{
			Ref: i.Ref, Offset: i.Offset, Total: i.Total, Expected: i.Expected.String(), StartedAt: nanos(i.StartedAt), UpdatedAt: nanos(i.UpdatedAt),
		})
	}
	return out, nil
}

func (s *contentServer) Abort(ctx context.Context, r *api.AbortRequest) (*api.AbortResponse, error) {
	return &api.AbortResponse{}, s.Content.Abort(ctx, r.Ref)
}

func (s *contentServer) Delete(ctx context.Context, r *api.DeleteContentRequest) (*api.DeleteContentResponse, error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	if err := s.Content.Delete(ctx, d); err != nil {
		return nil, err
	}
	s.Events.Publish(events.Event{Namespace: namespace(r), Type: "content", Action: "delete", ID: d.String()})
	return &api.DeleteContentResponse{}, nil
}

func (s *contentServer) SetLabels(ctx context.Context, r *api.SetContentLabelsRequest) (*api.ContentInfo, error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	i, err := s.Content.SetLabels(ctx, d, r.Labels, r.Replace)
	if err != nil {
		return nil, err
	}
	return contentInfo(i), nil
}

func parseDigest(text string) (digest.Digest, error) {
	d, err := digest.Parse(text)
	if err != nil {
		return "", fmt.Errorf("digest %q: %w: write e.g. sha256: and 64 hexadecimal digits: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return d, nil
}

func contentInfo(i content.Info) *api.ContentInfo {
	return &api.ContentInfo{
		Digest: i.Digest.String(), Size: i.Size, CreatedAt: nanos(i.CreatedAt), UpdatedAt: nanos(i.UpdatedAt), Labels: i.Labels,
	}
}
