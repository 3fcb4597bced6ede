package server

import (
	"cmp"
	"context"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
)

type imagesServer struct {
	api.UnsafeImagesServer
	Deps
}

func (s *imagesServer) List(ctx context.Context, r *api.ListImagesRequest) (*api.ListImagesResponse, error) {
	filter, err := events.ParseFilterOf(r.Filters, "name", "digest", "media_type", "labels.")
	if err != nil {
		return nil, err
	}
	ns := namespace(r)
	list, err := s.Images.List(ctx, ns)
	if err != nil {
		return nil, err
	}
	out := &api.ListImagesResponse{}
	for _, i := range list {
		if filter.Match(imageKey(i)) {
			out.Images = append(out.Images, s.view(ctx, ns, i))
		}
	}
	return out, nil
}

func imageKey(i image.Image) func(string) (string, bool) {
	return func(key string) (string, bool) {
		switch key {
		case "name":
			return i.Name, true
		case "digest":
			return i.Target.Digest.String(), true
		case "media_type":
			return i.Target.MediaType, true
		}
		return label(i.Labels, key)
	}
}

func (s *imagesServer) Get(ctx context.Context, r *api.GetImageRequest) (*api.Image, error) {
	i, err := s.Images.Get(ctx, namespace(r), r.Name)
	return s.viewed(ctx, namespace(r), i, err)
}

func (s *imagesServer) Tag(ctx context.Context, r *api.TagRequest) (*api.Image, error) {
	i, err := s.Images.Tag(ctx, namespace(r), r.Source, r.Target, r.Force)
	return s.viewed(ctx, namespace(r), i, err)
}

func (s *imagesServer) SetLabels(ctx context.Context, r *api.SetImageLabelsRequest) (*api.Image, error) {
	i, err := s.Images.SetLabels(ctx, namespace(r), r.Name, r.Labels, r.Replace)
	return s.viewed(ctx, namespace(r), i, err)
}

func (s *imagesServer) Delete(ctx context.Context, r *api.DeleteImageRequest) (*api.DeleteImageResponse, error) {
	out, err := s.remove(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.Sync {
		if _, err := s.Engine.CollectGarbage(ctx, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// remove removes names, or platforms.
func (s *imagesServer) remove(ctx context.Context, r *api.DeleteImageRequest) (*api.DeleteImageResponse, error) {
	out := &api.DeleteImageResponse{}
	if len(r.Platforms) == 0 {
		untagged, err := s.Images.Delete(ctx, namespace(r), r.Name, r.Force)
		out.Untagged = untagged
		return out, err
	}
	containers, err := s.Engine.List(ctx, "")
	if err != nil {
		return nil, err
	}
	used := func(manifest digest.Digest) string {
		for _, c := range containers {
			if c.ImageDigest == manifest.String() {
				return cmp.Or(c.Name, c.ID)
			}
		}
		return ""
	}
	for _, platform := range r.Platforms {
		gone, err := s.Images.DeletePlatform(ctx, namespace(r), r.Name, platform, used)
		if err != nil {
			return nil, err
		}
		out.Deleted = append(out.Deleted, gone.String())
	}
	return out, nil
}

// Prune spares the images that containers were made of.
func (s *imagesServer) Prune(ctx context.Context, r *api.PruneImagesRequest) (*api.PruneImagesResponse, error) {
	containers, err := s.Engine.List(ctx, namespace(r))
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, c := range containers {
		used[c.Image] = true
	}
	spared := func(i image.Image) bool {
		return used[i.Name] || r.Only != nil && !slices.Contains(r.Only.Names, i.Name)
	}
	deleted, err := s.Images.Prune(ctx, namespace(r), r.All, spared)
	if err != nil {
		return nil, err
	}
	collected, err := s.Engine.CollectGarbage(ctx, false)
	if err != nil {
		return nil, err
	}
	return &api.PruneImagesResponse{Deleted: deleted, Bytes: collected.Bytes}, nil
}

func (s *imagesServer) Check(ctx context.Context, r *api.CheckImagesRequest) (*api.CheckImagesResponse, error) {
	list, err := s.Images.Check(ctx, namespace(r), r.Names, r.Snapshotter)
	if err != nil {
		return nil, err
	}
	out := &api.CheckImagesResponse{}
	for _, st := range list {
		out.Images = append(out.Images, &api.ImageStatus{
			Name: st.Name, Target: descriptorOf(st.Target), Status: st.Status, Present: int64(st.Present), Required: int64(st.Required),
			PresentSize: st.PresentSize, Size: st.Size, Unpacked: st.Unpacked,
		})
	}
	return out, nil
}

func (s *imagesServer) Usage(ctx context.Context, r *api.UsageRequest) (*api.UsageResponse, error) {
	u, err := s.Images.Usage(ctx, namespace(r), r.Name, r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &api.UsageResponse{ContentSize: u.ContentSize, SnapshotSize: u.SnapshotSize, Inodes: u.Inodes}, nil
}

func (s Deps) viewed(ctx context.Context, ns string, i image.Image, err error) (*api.Image, error) {
	if err != nil {
		return nil, err
	}
	return s.view(ctx, ns, i), nil
}

// view is an image as the API has it, with what its content tells.
func (s Deps) view(ctx context.Context, ns string, i image.Image) *api.Image {
	d := s.Images.Describe(ctx, ns, i)
	return &api.Image{
		Name: i.Name, Target: descriptorOf(i.Target), Id: d.ID.String(), Size: d.Size, Platforms: d.Platforms, Labels: i.Labels,
		CreatedAt: nanos(i.CreatedAt), UpdatedAt: nanos(i.UpdatedAt), Unpacked: d.Unpacked, ChainId: d.ChainID,
	}
}

func descriptorOf(d ocispec.Descriptor) *api.Descriptor {
	out := &api.Descriptor{
		MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Annotations: d.Annotations, ArtifactType: d.ArtifactType,
	}
	if d.Platform != nil {
		out.Platform = platforms.Format(*d.Platform)
	}
	return out
}
