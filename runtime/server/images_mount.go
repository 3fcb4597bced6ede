package server

import (
	"context"
	"time"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/image"
)

func (s *imagesServer) Mount(ctx context.Context, r *api.MountImageRequest) (*api.MountsResponse, error) {
	key, mounts, err := s.Images.Mount(ctx, namespace(r), image.MountOptions{
		Name: r.Name, Writable: r.Writable, Key: r.Key, Platform: r.Platform, Snapshotter: r.Snapshotter,
		ExpireAfter: time.Duration(r.ExpireAfter), Labels: r.Labels,
	})
	if err != nil {
		return nil, err
	}
	return mountsOf(mounts, key), nil
}

func (s *imagesServer) Unmount(ctx context.Context, r *api.UnmountImageRequest) (*api.UnmountImageResponse, error) {
	return &api.UnmountImageResponse{}, s.Images.Unmount(ctx, namespace(r), r.Key, r.Snapshotter)
}
