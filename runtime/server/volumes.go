package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
)

// Volumes is what the server wants of the engine's volumes.
type Volumes interface {
	CreateVolume(ctx context.Context, ns string, o engine.NewVolume) (engine.VolumeInfo, error)
	ListVolumes(ctx context.Context, ns string, sizes bool) ([]engine.VolumeInfo, error)
	InspectVolume(ctx context.Context, ns, name string, size bool) (engine.VolumeInfo, error)
	RemoveVolume(ctx context.Context, ns, name string) error
	PruneVolumes(ctx context.Context, ns string, match func(engine.VolumeInfo) bool) ([]engine.VolumeInfo, error)
	VolumePath(ns, name string) string
}

type volumesServer struct {
	api.UnsafeVolumesServer
	Deps
}

func (s *volumesServer) Create(ctx context.Context, r *api.CreateVolumeRequest) (*api.Volume, error) {
	v, err := s.Engine.CreateVolume(ctx, namespace(r), engine.NewVolume{
		Name: r.Name, Volume: spec.Volume{Driver: r.Driver, Labels: r.Labels, Options: r.Options},
	})
	if err != nil {
		return nil, err
	}
	return volumeOf(v), nil
}

func (s *volumesServer) List(ctx context.Context, r *api.ListVolumesRequest) (*api.ListVolumesResponse, error) {
	match, err := volumeFilter(r.Filters)
	if err != nil {
		return nil, err
	}
	list, err := s.Engine.ListVolumes(ctx, namespace(r), r.Size)
	if err != nil {
		return nil, err
	}
	out := &api.ListVolumesResponse{}
	for _, v := range list {
		if match(v) {
			out.Volumes = append(out.Volumes, volumeOf(v))
		}
	}
	return out, nil
}

func (s *volumesServer) Inspect(ctx context.Context, r *api.VolumeRequest) (*api.Volume, error) {
	v, err := s.Engine.InspectVolume(ctx, namespace(r), r.Name, r.Size)
	if err != nil {
		return nil, err
	}
	return volumeOf(v), nil
}

func (s *volumesServer) Remove(ctx context.Context, r *api.VolumeRequest) (*api.RemoveVolumeResponse, error) {
	if err := s.Engine.RemoveVolume(ctx, namespace(r), r.Name); err != nil {
		return nil, err
	}
	return &api.RemoveVolumeResponse{}, nil
}

func (s *volumesServer) Prune(ctx context.Context, r *api.PruneVolumesRequest) (*api.PruneVolumesResponse, error) {
	match, err := volumeFilter(r.Filters)
	if err != nil {
		return nil, err
	}
	removed, err := s.Engine.PruneVolumes(ctx, namespace(r), func(v engine.VolumeInfo) bool {
		return (r.All || v.Anonymous()) && (len(r.Names) == 0 || slices.Contains(r.Names, v.Name)) && match(v)
	})
	if err != nil {
		return nil, err
	}
	out := &api.PruneVolumesResponse{}
	for _, v := range removed {
		out.Removed = append(out.Removed, volumeOf(v))
	}
	return out, nil
}

// volumeFilter reads filters of volumes.
func volumeFilter(expressions []string) (func(engine.VolumeInfo) bool, error) {
	filter, err := events.ParseFilterOf(expressions, "name", "driver", "anonymous", "dangling", "labels.")
	if err != nil {
		return nil, err
	}
	return func(v engine.VolumeInfo) bool {
		return filter.Match(func(key string) (string, bool) {
			switch key {
			case "name":
				return v.Name, true
			case "driver":
				return v.Driver, true
			case "anonymous":
				return fmt.Sprint(v.Anonymous()), true
			case "dangling":
				return fmt.Sprint(len(v.Users) == 0), true
			}
			return label(v.Labels, key)
		})
	}, nil
}

func volumeOf(v engine.VolumeInfo) *api.Volume {
	out := &api.Volume{
		Namespace: v.Namespace, Name: v.Name, Driver: v.Driver, Labels: v.Labels, Options: v.Options, Mountpoint: v.Path,
		Anonymous: v.Anonymous(), CreatedAt: nanos(v.CreatedAt),
	}
	for _, u := range v.Users {
		out.Containers = append(out.Containers, &api.VolumeUser{Id: u.ID, Name: u.Name})
	}
	if v.Usage != nil {
		out.Usage = &api.VolumeUsage{Size: v.Usage.Size, Inodes: v.Usage.Inodes}
	}
	return out
}
