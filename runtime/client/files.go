package client

import (
	"context"
	"errors"
	"io"

	"github.com/minirt/mini/runtime/api"
)

// Download writes the archive of a container's file or directory to w, once begin, unless nil, has been told what it is.
func (c *Client) Download(ctx context.Context, r *api.PathRequest, begin func(*api.PathInfo) error, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Archives.Download(ctx, r)
	return each(stream, err, func(d *api.DownloadResponse) error {
		if d.Info != nil && begin != nil {
			if err := begin(d.Info); err != nil {
				return err
			}
		}
		_, err := w.Write(d.Data)
		return err
	})
}

// Upload unpacks an archive in a container. An archive that cannot be read to its end ends the call; what has been
// unpacked by then stays.
func (c *Client) Upload(ctx context.Context, o *api.UploadOptions, archive io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Archives.Upload(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&api.UploadRequest{Options: o})
	if err == nil {
		err = chunks(archive, func(data []byte) error { return stream.Send(&api.UploadRequest{Data: data}) })
	}
	// io.EOF says that the server has answered already: the answer tells why.
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.CloseAndRecv()
	return err
}

// ExportFiles writes the archive of a container's root filesystem to w.
func (c *Client) ExportFiles(ctx context.Context, r *api.ContainerRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Archives.Export(ctx, r)
	return each(stream, err, func(d *api.DataChunk) error {
		_, err := w.Write(d.Data)
		return err
	})
}

// ImportFiles makes an image of one layer of an archive of files; nil when the options name a URL.
func (c *Client) ImportFiles(ctx context.Context, o *api.ImportFilesOptions, archive io.Reader) (*api.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Archives.Import(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&api.ImportFilesRequest{Options: o})
	if err == nil && archive != nil {
		err = chunks(archive, func(data []byte) error { return stream.Send(&api.ImportFilesRequest{Data: data}) })
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}
