package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
)

// Import sends an archive (an OCI layout or docker-save tar, compressed or not) and returns the images made of it.
func (c *Client) Import(ctx context.Context, o *api.ImportOptions, archive io.Reader) ([]*api.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Images.Import(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&api.ImportRequest{Options: o})
	if err == nil {
		err = chunks(archive, func(data []byte) error { return stream.Send(&api.ImportRequest{Data: data}) })
	}
	// io.EOF says that the server has answered already: the answer tells why.
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return answer.Images, nil
}

// Export writes an archive that is an OCI layout and a docker-save tar at once.
func (c *Client) Export(ctx context.Context, r *api.ExportRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Images.Export(ctx, r)
	return each(stream, err, func(d *api.DataChunk) error {
		_, err := w.Write(d.Data)
		return err
	})
}

// ReadBlob writes a blob, or the part of it that the request names, to w.
func (c *Client) ReadBlob(ctx context.Context, r *api.ReadContentRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Content.Read(ctx, r)
	return each(stream, err, func(d *api.DataChunk) error {
		_, err := w.Write(d.Data)
		return err
	})
}

// WriteBlob stores the bytes of blob and returns their digest. The first message has the ref, and what is known of the
// blob (total, expected, labels). What an earlier, broken write of the same ref has left is not sent again: blob is then
// read from the offset on, by seeking where it can.
func (c *Client) WriteBlob(ctx context.Context, first *api.WriteContentRequest, blob io.Reader) (digest string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Content.Write(ctx)
	if err != nil {
		return "", err
	}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	opened, err := stream.Recv()
	if err != nil {
		return "", err
	}
	if opened.Committed {
		return opened.Digest, nil
	}
	if err := skip(blob, opened.Offset); err != nil {
		return "", fmt.Errorf("go to offset %d, where the earlier write of %s ended: %w", opened.Offset, first.Ref, err)
	}
	err = chunks(blob, func(data []byte) error { return stream.Send(&api.WriteContentRequest{Data: data}) })
	if err == nil {
		err = stream.Send(&api.WriteContentRequest{Commit: true})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	done, err := stream.Recv()
	if err != nil {
		return "", err
	}
	return done.Digest, stream.CloseSend()
}

func skip(r io.Reader, n int64) error {
	if n == 0 {
		return nil
	}
	if s, ok := r.(io.Seeker); ok {
		if _, err := s.Seek(n, io.SeekCurrent); err == nil {
			return nil
		}
	}
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

// chunks reads to the end and sends what it read, piece by piece. gRPC has taken the bytes over when send returns.
func chunks(r io.Reader, send func([]byte) error) error {
	buf := make([]byte, grpcx.ChunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what is to be sent: %w", err)
		}
	}
}
