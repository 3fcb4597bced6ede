package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/minirt/mini/runtime/api"
)

// Pull brings an image and unpacks it; progress, when set, is told of each item as it changes.
func (c *Client) Pull(ctx context.Context, r *api.PullRequest, progress func(*api.Progress)) (*api.Image, error) {
	stream, err := c.Images.Pull(ctx, r)
	return follow(stream, err, progress)
}

// Push sends an image to its registry.
func (c *Client) Push(ctx context.Context, r *api.PushRequest, progress func(*api.Progress)) (*api.Image, error) {
	stream, err := c.Images.Push(ctx, r)
	return follow(stream, err, progress)
}

// Unpack makes the snapshots of an image's layers.
func (c *Client) Unpack(ctx context.Context, r *api.UnpackRequest, progress func(*api.Progress)) (*api.Image, error) {
	stream, err := c.Images.Unpack(ctx, r)
	return follow(stream, err, progress)
}

// Fetch brings the content of a reference, without making an image of it. The image in the answer has only a target.
func (c *Client) Fetch(ctx context.Context, r *api.PullRequest, progress func(*api.Progress)) (*api.Image, error) {
	stream, err := c.Content.Fetch(ctx, r)
	return follow(stream, err, progress)
}

// FetchBlob brings one blob or manifest of a repository.
func (c *Client) FetchBlob(ctx context.Context, r *api.FetchBlobRequest, progress func(*api.Progress)) error {
	stream, err := c.Content.FetchBlob(ctx, r)
	_, err = follow(stream, err, progress)
	return err
}

// PushObject pushes one object of the store to a repository.
func (c *Client) PushObject(ctx context.Context, r *api.PushObjectRequest, progress func(*api.Progress)) error {
	stream, err := c.Content.PushObject(ctx, r)
	_, err = follow(stream, err, progress)
	return err
}

// follow reads a transfer to its end and returns the image of its last message, nil when there was none.
func follow(stream grpc.ServerStreamingClient[api.Progress], err error, progress func(*api.Progress)) (*api.Image, error) {
	var image *api.Image
	err = each(stream, err, func(p *api.Progress) error {
		if p.Image != nil {
			image = p.Image
		}
		if progress != nil {
			progress(p)
		}
		return nil
	})
	return image, err
}

// Events calls handle with each event until ctx ends, the daemon does, or handle returns an error.
func (c *Client) Events(ctx context.Context, r *api.SubscribeRequest, handle func(*api.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.System.Subscribe(ctx, r)
	return each(stream, err, handle)
}

// Logs calls handle with each entry of a container's log.
func (c *Client) Logs(ctx context.Context, r *api.LogsRequest, handle func(*api.LogEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Containers.Logs(ctx, r)
	return each(stream, err, handle)
}

// each hands every message of a stream to handle; the end of the stream is no error.
func each[T any](stream grpc.ServerStreamingClient[T], err error, handle func(*T) error) error {
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := handle(m); err != nil {
			return err
		}
	}
}
