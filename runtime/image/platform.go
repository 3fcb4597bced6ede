package image

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// DeletePlatform removes what an image has for one platform, and keeps it for the others; the bytes that nobody else needs go
// with the next collection. used says who still needs a manifest; "": nobody. It returns the manifest's digest. Errors:
// ErrNotFound where the image has nothing for the platform; ErrFailedPrecondition for one that has no other, or that is in a
// store that is only read; ErrConflict while somebody needs it.
func (s *Service) DeletePlatform(ctx context.Context, ns, ref, platform string, used func(manifest digest.Digest) string) (digest.Digest, error) {
	r, err := s.Resolve(ctx, ns, ref, platform)
	if err != nil {
		return "", err
	}
	gone := r.Manifest.Digest
	switch {
	case r.Image.Store != "":
		return "", fmt.Errorf("image %s is in the additional store %s, which is only read: %w", r.Image.Name, r.Image.Store, errdefs.ErrFailedPrecondition)
	case gone == r.Image.Target.Digest:
		return "", fmt.Errorf("image %s has no other platform than %s: remove it whole: %w", r.Image.Name, platform, errdefs.ErrFailedPrecondition)
	}
	s.records.Lock() // nobody makes another name of it meanwhile
	defer s.records.Unlock()
	images, err := s.Images.List("")
	if err != nil {
		return "", err
	}
	for _, e := range images {
		if e.Value.Target.Digest == gone {
			return "", fmt.Errorf("platform %s of image %s is the image %s too: remove that first: %w", platform, r.Image.Name, e.Key, errdefs.ErrConflict)
		}
	}
	if user := used(gone); user != "" {
		return "", fmt.Errorf("platform %s of image %s: container %s was made of it: remove that first: %w", platform, r.Image.Name, user, errdefs.ErrConflict)
	}
	if err := s.Content.Delete(ctx, gone); err != nil {
		return "", err
	}
	s.publish(ns, "update", r.Image.Name, map[string]string{"removed": gone.String(), "platform": platform})
	return gone, nil
}
