package server

import (
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/events"
)

type writeStream = grpc.BidiStreamingServer[api.WriteContentRequest, api.WriteContentResponse]

// Write ingests a blob: the first message opens the ingest and is answered with the offset from which data is wanted,
// the one with commit with the digest. A stream that ends without it leaves the ingest for a later Write to resume.
func (s *contentServer) Write(stream writeStream) (err error) {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ingest, err := ingestOf(first)
	if err != nil {
		return err
	}
	if ingest.Expected != "" && s.Content.Has(ingest.Expected) {
		return stream.Send(&api.WriteContentResponse{Digest: ingest.Expected.String(), Committed: true, Offset: ingest.Total})
	}
	w, err := s.Content.Writer(stream.Context(), ingest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := stream.Send(&api.WriteContentResponse{Offset: w.Offset()}); err != nil {
		return err
	}
	for m := first; ; {
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		if m.Commit {
			return s.commit(stream, w, ingest, first)
		}
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil // to be resumed
		} else if err != nil {
			return err
		}
	}
}

func ingestOf(first *api.WriteContentRequest) (content.Ingest, error) {
	i := content.Ingest{Ref: first.Ref, Total: first.Total}
	if first.Ref == "" {
		return i, fmt.Errorf("write of content: the first message must name a ref: %w", errdefs.ErrInvalidArgument)
	}
	if first.Expected != "" {
		d, err := parseDigest(first.Expected)
		if err != nil {
			return i, err
		}
		i.Expected = d
	}
	return i, nil
}

func (s *contentServer) commit(stream writeStream, w *content.Writer, i content.Ingest, first *api.WriteContentRequest) error {
	ctx := stream.Context()
	size, expected := w.Offset(), i.Expected
	if expected == "" {
		expected = w.Digest()
	}
	// More bytes than were announced are wrong, and gone with the ingest; of fewer the rest may come.
	if err := w.Commit(ctx, i.Total, expected); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if err := s.label(stream, expected, first); err != nil {
		return err
	}
	if err := s.Content.Sync(ctx); err != nil {
		return err
	}
	s.Events.Publish(events.Event{Namespace: namespace(first), Type: "content", Action: "create", ID: expected.String()})
	return stream.Send(&api.WriteContentResponse{Offset: size, Digest: expected.String(), Committed: true})
}

func (s *contentServer) label(stream writeStream, d digest.Digest, first *api.WriteContentRequest) error {
	if len(first.Labels) == 0 {
		return nil
	}
	_, err := s.Content.SetLabels(stream.Context(), d, first.Labels, false)
	return err
}
