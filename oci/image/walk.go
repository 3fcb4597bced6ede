package image

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SkipChildren is returned by a visitor, or by the reader, to leave out what is below a descriptor.
var SkipChildren = errors.New("skip children")

// Children returns what a document refers to: an index's manifests, a manifest's config and layers; nothing for
// anything else. A subject is not a child: it points the other way.
func Children(d ocispec.Descriptor, data []byte) ([]ocispec.Descriptor, error) {
	switch KindOf(d.MediaType) {
	case KindIndex:
		x, err := ParseIndex(d.MediaType, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		return x.Manifests, nil
	case KindManifest:
		m, err := ParseManifest(d.MediaType, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		return append([]ocispec.Descriptor{m.Config}, m.Layers...), nil
	}
	return nil, nil
}

// Walk visits a descriptor and everything below it, each digest once, parents first. visit may return SkipChildren.
func Walk(ctx context.Context, read Reader, d ocispec.Descriptor, visit func(ocispec.Descriptor) error) error {
	return walk(ctx, read, d, visit, map[string]bool{}, 0)
}

func walk(ctx context.Context, read Reader, d ocispec.Descriptor, visit func(ocispec.Descriptor) error, seen map[string]bool, depth int) error {
	if seen[d.Digest.String()] || depth > maxDepth {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	seen[d.Digest.String()] = true
	if err := visit(d); err != nil {
		if errors.Is(err, SkipChildren) {
			return nil
		}
		return err
	}
	if k := KindOf(d.MediaType); k != KindIndex && k != KindManifest {
		return nil
	}
	data, err := read(ctx, d)
	if errors.Is(err, SkipChildren) {
		return nil
	}
	if err != nil {
		return err
	}
	children, err := Children(d, data)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := walk(ctx, read, c, visit, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}
