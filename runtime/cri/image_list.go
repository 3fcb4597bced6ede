package cri

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/image"
)

// ListImages lists the images, each once with all its names.
func (s *imageServer) ListImages(ctx context.Context, r *v1.ListImagesRequest) (*v1.ListImagesResponse, error) {
	list, err := s.list(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListImagesResponse{Images: list}, nil
}

// StreamImages is ListImages in pieces.
func (s *imageServer) StreamImages(r *v1.StreamImagesRequest, stream grpc.ServerStreamingServer[v1.StreamImagesResponse]) error {
	list, err := s.list(stream.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inPieces(list, func(some []*v1.Image) error {
		return stream.Send(&v1.StreamImagesResponse{Images: some})
	})
}

// list gives the images, or the one that the filter names.
func (s *imageServer) list(ctx context.Context, f *v1.ImageFilter) ([]*v1.Image, error) {
	if wanted := f.GetImage().GetImage(); wanted != "" {
		one, err := s.find(ctx, wanted)
		if err != nil || one == nil {
			return nil, err
		}
		return []*v1.Image{one.view}, nil
	}
	all, err := s.Images.List(ctx, Namespace)
	if err != nil {
		return nil, err
	}
	groups := map[string][]image.Image{}
	var order []string
	for _, i := range all {
		id := s.Images.ID(ctx, i.Target).String()
		if id == "" {
			continue // its content is not for this host, or has been lost: nothing that could be run
		}
		if groups[id] == nil {
			order = append(order, id)
		}
		groups[id] = append(groups[id], i)
	}
	out := make([]*v1.Image, 0, len(order))
	for _, id := range order {
		one, err := s.describe(ctx, id, groups[id])
		if err != nil {
			return nil, err
		}
		if one != nil {
			out = append(out, one.view)
		}
	}
	return out, nil
}

// found is an image with its answer.
type found struct {
	view     *v1.Image
	resolved image.Resolved
}

// find looks an image up by any of its names or its id; nil when there is none.
func (s *imageServer) find(ctx context.Context, ref string) (*found, error) {
	one, err := s.Images.Get(ctx, Namespace, ref)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := s.Images.ID(ctx, one.Target)
	if id == "" {
		return nil, nil
	}
	names, err := s.names(ctx, id)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return s.describe(ctx, id.String(), names)
}

// names are all records of the image with an id.
func (s *imageServer) names(ctx context.Context, id digest.Digest) ([]image.Image, error) {
	all, err := s.Images.List(ctx, Namespace)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(i image.Image) bool { return s.Images.ID(ctx, i.Target) != id }), nil
}

// describe makes the answer for an image of the names that it has; nil when it was deleted meanwhile.
func (s *imageServer) describe(ctx context.Context, id string, names []image.Image) (*found, error) {
	resolved, err := s.Images.Resolve(ctx, Namespace, names[0].Name, "")
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil, nil // gone, or no image but an artifact
	}
	if err != nil {
		return nil, err
	}
	usage, err := s.Images.Usage(ctx, Namespace, names[0].Name, "")
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	view := &v1.Image{Id: id, Size: uint64(usage.ContentSize), Spec: &v1.ImageSpec{Image: id, Annotations: resolved.Manifest.Annotations}}
	for _, n := range names {
		tag, pinned := repoNames(n)
		if tag != "" {
			view.RepoTags = append(view.RepoTags, tag)
		}
		if pinned != "" && !slices.Contains(view.RepoDigests, pinned) {
			view.RepoDigests = append(view.RepoDigests, pinned)
		}
		view.Pinned = view.Pinned || n.Store != "" || n.Labels[pinnedLabel] == "pinned" || s.Pinned != nil && s.Pinned(n.Name)
	}
	view.Uid, view.Username = imageUser(resolved.Config.Config.User)
	return &found{view: view, resolved: resolved}, nil
}

// pinnedLabel marks an image that the kubelet must not collect, as containerd's clients set it.
const pinnedLabel = "io.cri-containerd.pinned"

// repoNames are the tag and the repository with the digest that a record stands for; empty where it has none.
func repoNames(i image.Image) (tag, pinned string) {
	ref, err := name.Parse(i.Name)
	if err != nil || strings.HasPrefix(i.Name, "sha256:") {
		return "", ""
	}
	if ref.Tag() != "" {
		tag = ref.Repository() + ":" + ref.Tag()
	}
	return tag, ref.Repository() + "@" + i.Target.Digest.String()
}

// imageUser splits the user of an image's config: a number, or a name; none is root.
func imageUser(user string) (*v1.Int64Value, string) {
	who, _, _ := strings.Cut(user, ":")
	if who == "" {
		return &v1.Int64Value{}, ""
	}
	if uid, err := strconv.ParseInt(who, 10, 64); err == nil && isID(uid) {
		return &v1.Int64Value{Value: uid}, ""
	}
	return nil, who
}

// ImageStatus tells of one image; the answer is empty when there is none.
func (s *imageServer) ImageStatus(ctx context.Context, r *v1.ImageStatusRequest) (*v1.ImageStatusResponse, error) {
	ref := r.GetImage().GetImage()
	if err := checkImage(ref); err != nil {
		return nil, err
	}
	one, err := s.find(ctx, ref)
	if err != nil || one == nil {
		return &v1.ImageStatusResponse{}, err
	}
	out := &v1.ImageStatusResponse{Image: one.view}
	if r.GetVerbose() {
		out.Info, err = info(map[string]any{
			"chainID": one.resolved.ChainID, "imageSpec": one.resolved.Config, "manifest": one.resolved.Manifest, "unpacked": one.resolved.Unpacked,
		})
	}
	return out, err
}

// checkImage refuses what is neither a name nor an id.
func checkImage(ref string) error {
	if ref == "" {
		return invalid("the image's name is empty: name one")
	}
	if len(ref) > 4096 {
		return invalid("the image's name has %d bytes: none has more than 4096", len(ref))
	}
	if _, ok := name.IDPrefix(ref); ok {
		return nil
	}
	_, err := name.Parse(ref)
	return err
}
