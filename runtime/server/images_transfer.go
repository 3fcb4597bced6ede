package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/image"
)

type progressStream = grpc.ServerStreamingServer[api.Progress]

func (s *imagesServer) Pull(r *api.PullRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		if err := s.Namespaces.Ensure(namespace(r)); err != nil {
			return nil, err
		}
		i, err := s.Images.Pull(ctx, namespace(r), pullOf(r), progress)
		return s.viewed(ctx, namespace(r), i, err)
	})
}

func pullOf(r *api.PullRequest) image.PullOptions {
	return image.PullOptions{
		Name: r.Name, Platforms: r.Platforms, AllPlatforms: r.AllPlatforms, Registry: registryOf(r.Registry), Labels: r.Labels,
		NoUnpack: r.NoUnpack, Snapshotter: r.Snapshotter, MaxConcurrent: int(r.MaxConcurrent), MetadataOnly: r.MetadataOnly,
	}
}

func registryOf(r *api.RegistryOptions) image.RegistryOptions {
	if r == nil {
		return image.RegistryOptions{}
	}
	o := registry.HostOverride{
		SkipVerify: r.SkipVerify, PlainHTTP: r.PlainHttp, Username: r.Username, Password: r.Password,
		IdentityToken: r.IdentityToken, CA: r.Ca, Cert: r.Cert, Key: r.Key,
	}
	out := image.RegistryOptions{HostsDir: r.HostsDir, Trace: r.Trace}
	if o != (registry.HostOverride{}) {
		out.Override = &o
	}
	return out
}

func (s *imagesServer) Push(r *api.PushRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		target, err := s.Images.Push(ctx, namespace(r), image.PushOptions{
			Name: r.Name, Source: r.Source, Platforms: r.Platforms, AllPlatforms: r.AllPlatforms, Registry: registryOf(r.Registry),
			MaxConcurrent: int(r.MaxConcurrent), AllowNonDistributable: r.AllowNonDistributable, ManifestDigest: r.ManifestDigest,
		}, progress)
		if err != nil {
			return nil, err
		}
		return &api.Image{Name: r.Name, Target: descriptorOf(target)}, nil
	})
}

func (s *imagesServer) Unpack(r *api.UnpackRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		chain, err := s.Images.Unpack(ctx, namespace(r), r.Name, r.Snapshotter, r.Platform, progress)
		if err != nil {
			return nil, err
		}
		i, err := s.Images.Get(ctx, namespace(r), r.Name)
		out, err := s.viewed(ctx, namespace(r), i, err)
		if err == nil {
			out.ChainId = chain // of the platform asked for
		}
		return out, err
	})
}

func (s *contentServer) Fetch(r *api.PullRequest, stream progressStream) error {
	return s.transfer(stream, func(ctx context.Context, progress func(image.Progress)) (*api.Image, error) {
		target, err := s.Images.Fetch(ctx, namespace(r), pullOf(r), progress)
		if err != nil {
			return nil, err
		}
		return &api.Image{Name: r.Name, Target: descriptorOf(target)}, nil
	})
}

// transfer runs something long and streams its progress; the last message has the image that came of it. A client that
// does not read slows the transfer down; one that goes away ends it.
func (s Deps) transfer(stream progressStream, run func(context.Context, func(image.Progress)) (*api.Image, error)) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	made, err := run(ctx, func(p image.Progress) {
		if p.Image != nil {
			return // the last message tells it, in full
		}
		if err := stream.Send(progressOf(p)); err != nil {
			cancel(fmt.Errorf("tell the client: %w", err))
		}
	})
	if err != nil {
		return err
	}
	last := &api.Progress{Kind: image.KindImage, Stage: image.StageDone, Image: made}
	if made != nil {
		last.Item = made.Name
	}
	return stream.Send(last)
}

func progressOf(p image.Progress) *api.Progress {
	return &api.Progress{Item: p.Item, Kind: p.Kind, Stage: p.Stage, Offset: p.Offset, Total: p.Total, Message: p.Message}
}
