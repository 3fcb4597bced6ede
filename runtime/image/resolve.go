package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/snapshot"
)

// Resolved is an image with all that is needed to run it on one platform.
type Resolved struct {
	Image        Image
	Manifest     ocispec.Descriptor
	Config       ocispec.Image
	ConfigDigest digest.Digest // the image's id
	ChainID      string        // "" for an image without layers
	HealthCheck  *oci.HealthCheck
	Encrypted    []ocispec.Descriptor // the layers that need keys
	Unpacked     bool                 // for the default snapshotter, in the namespace asked for
}

// Get finds an image: by name (completed as Docker does), by target digest, or by an unambiguous prefix of its id. A
// prefix that several images have is ErrInvalidArgument and names them; nothing found is ErrNotFound.
func (s *Service) Get(ctx context.Context, ns, ref string) (Image, error) {
	found, _, err := s.find(ctx, ns, ref)
	if err != nil {
		return Image{}, err
	}
	return found[0], nil
}

// find returns the one image with a name, or all names of the image with an id.
func (s *Service) find(ctx context.Context, ns, ref string) (found []Image, byID bool, err error) {
	if img, ok, err := s.byName(ns, ref); err != nil || ok {
		return []Image{img}, false, err
	}
	if found, err = s.byID(ctx, ns, ref); err != nil {
		return nil, true, err
	}
	if len(found) == 0 {
		return nil, false, fmt.Errorf("image %q is not in namespace %q: pull it first: %w", ref, ns, errdefs.ErrNotFound)
	}
	return found, true, nil
}

func (s *Service) byName(ns, ref string) (Image, bool, error) {
	candidates := []string{ref}
	if short, err := s.shortNames(ref); err == nil { // one that is ambiguous is found by what it is called here
		candidates = append(candidates, short...)
	}
	if r, err := name.Parse(ref); err == nil && r.String() != ref {
		candidates = append(candidates, r.String())
	}
	for _, n := range candidates {
		if n == "" {
			continue
		}
		img, err := s.Images.Get(ns, n)
		if err == nil {
			return img, true, nil
		}
		if !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
			return Image{}, false, err
		}
	}
	// repository@digest of an image pulled by tag.
	if r, err := name.Parse(ref); err == nil && r.Digest() != "" {
		images, err := s.Images.List(ns)
		if err != nil {
			return Image{}, false, err
		}
		for _, e := range images {
			if n, err := name.Parse(e.Key); err == nil && e.Value.Target.Digest == r.Digest() && n.Repository() == r.Repository() {
				return e.Value, true, nil
			}
		}
	}
	return Image{}, false, nil
}

// shortNames lists what a name without a registry may stand for.
func (s *Service) shortNames(ref string) ([]string, error) {
	if s.ShortNames == nil {
		return nil, nil
	}
	return s.ShortNames(ref)
}

// byID finds the images whose id (the config's digest for this host) or target digest begins with ref.
func (s *Service) byID(ctx context.Context, ns, ref string) ([]Image, error) {
	prefix, ok := name.IDPrefix(ref)
	if !ok {
		return nil, nil
	}
	entries, err := s.Images.List(ns)
	if err != nil {
		return nil, err
	}
	matches := map[string][]Image{}
	for _, e := range entries {
		id := s.ID(ctx, e.Value.Target)
		switch {
		case strings.HasPrefix(id.String(), prefix):
			matches[id.String()] = append(matches[id.String()], e.Value)
		case strings.HasPrefix(e.Value.Target.Digest.String(), prefix):
			key := orString(id.String(), e.Value.Target.Digest.String())
			matches[key] = append(matches[key], e.Value)
		}
	}
	if len(matches) > 1 {
		var ids []string
		for id, images := range matches {
			ids = append(ids, name.Short(digest.Digest(id))+" ("+strings.Join(namesOf(images), ", ")+")")
		}
		slices.Sort(ids)
		return nil, fmt.Errorf("image id %q is ambiguous: it may be %s: write more of it: %w", ref, strings.Join(ids, " or "), errdefs.ErrInvalidArgument)
	}
	for _, images := range matches {
		return images, nil
	}
	return nil, nil
}

// ID is an image's id: the digest of its config for this host's platform, or of the first platform whose config is
// present; "" when there is none.
func (s *Service) ID(ctx context.Context, target ocispec.Descriptor) digest.Digest {
	for _, w := range []oci.Want{{}, {All: true}} {
		manifests, err := oci.Manifests(ctx, s.read, target, w)
		if err != nil {
			continue
		}
		for _, d := range manifests {
			if m, err := s.manifest(ctx, d); err == nil && s.Content.Has(m.Config.Digest) {
				return m.Config.Digest
			}
		}
	}
	return ""
}

// Resolve finds an image and reads what it is on a platform; "" is this host's. An image that the daemon carries is
// imported when it is not there.
func (s *Service) Resolve(ctx context.Context, ns, ref, platform string) (Resolved, error) {
	img, err := s.Get(ctx, ns, ref)
	if errdefs.IsNotFound(err) {
		carried, failed := s.embedded(ctx, ns, ref)
		if failed != nil {
			return Resolved{}, failed
		}
		if carried {
			img, err = s.Get(ctx, ns, ref)
		}
	}
	if err != nil {
		return Resolved{}, err
	}
	return s.resolve(ctx, ns, img, platform)
}

func (s *Service) resolve(ctx context.Context, ns string, img Image, platform string) (Resolved, error) {
	w, err := want(platform)
	if err != nil {
		return Resolved{}, err
	}
	manifests, err := oci.Manifests(ctx, s.read, img.Target, w)
	if err != nil && s.isCheckpoint(ctx, img) {
		err = fmt.Errorf("it is a checkpoint of a container, without that one's image: restore it: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return Resolved{}, fmt.Errorf("image %s: %w", img.Name, err)
	}
	r := Resolved{Image: img, Manifest: manifests[0]}
	m, err := s.manifest(ctx, r.Manifest)
	if err != nil {
		return Resolved{}, fmt.Errorf("image %s: %w", img.Name, err)
	}
	r.Encrypted = encrypted(m.Layers)
	if oci.IsArtifact(m) {
		return Resolved{}, fmt.Errorf("image %s is an artifact of type %s, not something to run: %w", img.Name, oci.ArtifactType(m), errdefs.ErrFailedPrecondition)
	}
	data, err := s.read(ctx, m.Config)
	if err == nil {
		r.Config, err = parseConfig(m.Config, data)
	}
	if err == nil {
		r.HealthCheck, err = oci.ParseHealthCheck(data)
	}
	if err != nil {
		return Resolved{}, fmt.Errorf("image %s: %w", img.Name, err)
	}
	if platform != "" && !suits(r.Config.Platform, w) {
		return Resolved{}, fmt.Errorf("image %s is for %s, not for %s: %w", img.Name, platforms.Format(r.Config.Platform), w, errdefs.ErrNotFound)
	}
	r.ConfigDigest = m.Config.Digest
	r.ChainID = oci.ChainID(r.Config.RootFS.DiffIDs).String()
	r.Unpacked = s.isUnpacked(ctx, s.Snapshotters[s.Default], ns, r.ChainID)
	return r, nil
}

// suits tells whether what a config says of itself is one of the platforms asked for; one that says nothing is taken at
// its word.
func suits(p ocispec.Platform, w oci.Want) bool {
	if p.Architecture == "" {
		return true
	}
	return slices.ContainsFunc(w.List(), func(asked ocispec.Platform) bool {
		_, ok := oci.Choose([]ocispec.Descriptor{{Platform: &p}}, asked)
		return ok
	})
}

// isUnpacked tells whether the committed layers of a chain are there.
func (s *Service) isUnpacked(ctx context.Context, sn snapshot.Snapshotter, ns, chainID string) bool {
	if chainID == "" {
		return true
	}
	info, err := sn.Info(ctx, snapshot.Key{Namespace: ns, Name: chainID})
	return err == nil && info.Kind == snapshot.Committed
}

// read returns a document from the content.
func (s *Service) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	limit := int64(oci.MaxManifestSize)
	if oci.KindOf(d.MediaType) == oci.KindConfig {
		limit = oci.MaxConfigSize
	}
	data, err := content.ReadAll(ctx, s.Content, d.Digest, limit)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("%s %s is not in the content: pull the image again: %w", oci.KindOf(d.MediaType), d.Digest, errdefs.ErrNotFound)
	}
	return data, err
}

func (s *Service) manifest(ctx context.Context, d ocispec.Descriptor) (ocispec.Manifest, error) {
	data, err := s.read(ctx, d)
	if err != nil {
		return ocispec.Manifest{}, err
	}
	m, err := oci.ParseManifest(d.MediaType, data)
	if err != nil {
		return m, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return m, nil
}

func (s *Service) imageConfig(ctx context.Context, d ocispec.Descriptor) (ocispec.Image, error) {
	data, err := s.read(ctx, d)
	if err != nil {
		return ocispec.Image{}, err
	}
	return parseConfig(d, data)
}

func parseConfig(d ocispec.Descriptor, data []byte) (ocispec.Image, error) {
	c, err := oci.ParseConfig(data)
	if err != nil {
		return c, fmt.Errorf("config %s: %w", d.Digest, err)
	}
	return c, nil
}

func want(platform string) (oci.Want, error) {
	if platform == "" {
		return oci.Want{}, nil
	}
	return oci.ParseWant([]string{platform}, false)
}

func orString(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
