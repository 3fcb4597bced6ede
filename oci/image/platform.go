package image

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// Want says which platforms of an image are wanted. The zero value wants this host's.
type Want struct {
	All       bool
	Platforms []ocispec.Platform
}

// ParseWant reads platforms as users write them: linux/amd64, arm64, linux/arm/v7.
func ParseWant(names []string, all bool) (Want, error) {
	w := Want{All: all}
	for _, n := range names {
		p, err := platforms.Parse(n)
		if err != nil {
			return w, fmt.Errorf("platform %q: %v; write os/architecture[/variant], as in linux/arm64: %w", n, err, errdefs.ErrInvalidArgument)
		}
		w.Platforms = append(w.Platforms, platforms.Normalize(p))
	}
	return w, nil
}

// Host is the platform of this machine, with its variant.
func Host() ocispec.Platform { return platforms.Normalize(platforms.DefaultSpec()) }

// List is the wanted platforms, this host's when none is named. It is empty for All.
func (w Want) List() []ocispec.Platform {
	if w.All {
		return nil
	}
	if len(w.Platforms) == 0 {
		return []ocispec.Platform{Host()}
	}
	return w.Platforms
}

func (w Want) String() string {
	if w.All {
		return "all platforms"
	}
	names := make([]string, 0, len(w.Platforms))
	for _, p := range w.List() {
		names = append(names, platforms.Format(p))
	}
	return strings.Join(names, ", ")
}

// Reader returns the bytes of a manifest, index or config.
type Reader func(ctx context.Context, d ocispec.Descriptor) ([]byte, error)

// Manifests returns the manifests of an image for the wanted platforms, best match first for each. A target that is a
// manifest itself is taken as it is: whoever names one means it. For All it returns every manifest of the index,
// attestations included. ErrNotFound names the platforms there are.
func Manifests(ctx context.Context, read Reader, target ocispec.Descriptor, w Want) ([]ocispec.Descriptor, error) {
	if KindOf(target.MediaType) == KindManifest {
		return []ocispec.Descriptor{target}, nil
	}
	all, err := flatten(ctx, read, target, 0)
	if err != nil {
		return nil, err
	}
	if w.All {
		return all, nil
	}
	candidates, err := withPlatforms(ctx, read, all)
	if err != nil {
		return nil, err
	}
	var chosen []ocispec.Descriptor
	for _, p := range w.List() {
		best, ok := Choose(candidates, p)
		if !ok {
			return nil, fmt.Errorf("image %s has no manifest for %s; it has: %s: %w",
				target.Digest, platforms.Format(p), PlatformNames(candidates), errdefs.ErrNotFound)
		}
		if !contains(chosen, best) {
			chosen = append(chosen, best)
		}
	}
	return chosen, nil
}

// Choose picks the manifest that fits a platform best: an exact variant first, then the nearest one that runs there
// (arm/v6 on v7, amd64/v1 on v3, at last 386 on amd64). Attestations are never chosen.
func Choose(manifests []ocispec.Descriptor, p ocispec.Platform) (ocispec.Descriptor, bool) {
	match := platforms.Only(p)
	var fit []ocispec.Descriptor
	for _, d := range manifests {
		if d.Platform != nil && !IsAttestation(d) && match.Match(*d.Platform) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 {
		return ocispec.Descriptor{}, false
	}
	sort.SliceStable(fit, func(i, j int) bool { return match.Less(*fit[i].Platform, *fit[j].Platform) })
	return fit[0], true
}

// IsAttestation tells whether an index's entry is a build attestation rather than an image.
func IsAttestation(d ocispec.Descriptor) bool {
	return d.Annotations[attestationType] == attestationValue ||
		d.Platform != nil && d.Platform.OS == unknownPlatform && d.Platform.Architecture == unknownPlatform
}

// PlatformNames lists the platforms of manifests for a person.
func PlatformNames(manifests []ocispec.Descriptor) string {
	var names []string
	for _, d := range manifests {
		if d.Platform != nil && !IsAttestation(d) {
			names = append(names, platforms.Format(*d.Platform))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// flatten lists the manifests below an index, those of nested indexes included.
func flatten(ctx context.Context, read Reader, d ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("index %s: indexes are nested more than %d deep: %w", d.Digest, maxDepth, errdefs.ErrInvalidArgument)
	}
	if IsSchema1(d.MediaType) {
		return nil, schema1Error()
	}
	if KindOf(d.MediaType) != KindIndex {
		return nil, fmt.Errorf("%s of type %q is neither an index nor a manifest: %w", d.Digest, d.MediaType, errdefs.ErrInvalidArgument)
	}
	data, err := read(ctx, d)
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(d.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	var all []ocispec.Descriptor
	for _, m := range x.Manifests {
		switch KindOf(m.MediaType) {
		case KindManifest:
			all = append(all, m)
		case KindIndex:
			nested, err := flatten(ctx, read, m, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, nested...)
		}
	}
	return all, nil
}

// withPlatforms fills in missing platforms from the configs, as an index need not name them.
func withPlatforms(ctx context.Context, read Reader, manifests []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	out := make([]ocispec.Descriptor, len(manifests))
	copy(out, manifests)
	for i, d := range out {
		if d.Platform != nil || IsAttestation(d) {
			continue
		}
		p, err := PlatformOf(ctx, read, d)
		if err != nil {
			return nil, err
		}
		out[i].Platform = p
	}
	return out, nil
}

// PlatformOf reads a manifest's platform from its config; nil for an artifact.
func PlatformOf(ctx context.Context, read Reader, manifest ocispec.Descriptor) (*ocispec.Platform, error) {
	data, err := read(ctx, manifest)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(manifest.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Digest, err)
	}
	if KindOf(m.Config.MediaType) != KindConfig {
		return nil, nil
	}
	if data, err = read(ctx, m.Config); err != nil {
		return nil, err
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Config.Digest, err)
	}
	p := platforms.Normalize(c.Platform)
	return &p, nil
}

func contains(list []ocispec.Descriptor, d ocispec.Descriptor) bool {
	for _, x := range list {
		if x.Digest == d.Digest {
			return true
		}
	}
	return false
}
