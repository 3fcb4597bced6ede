package image

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/oci/name"
)

// sourceLabel begins the labels of content that say where it came from: minid.source/<registry> is a comma-separated
// list of that registry's repositories, from which it can be mounted when it is pushed to another of them.
const sourceLabel = "minid.source/"

// maxSources is how many repositories of one registry are remembered per blob.
const maxSources = 8

// noteSource remembers that a repository has a blob.
func (s *Service) noteSource(ctx context.Context, d digest.Digest, ref name.Ref) error {
	info, err := s.Content.Info(ctx, d)
	if err != nil {
		return err
	}
	key := sourceLabel + ref.Domain()
	known := sourcesOf(info.Labels, ref.Domain())
	if slices.Contains(known, ref.Path()) || len(known) >= maxSources {
		return nil
	}
	_, err = s.Content.SetLabels(ctx, d, map[string]string{key: strings.Join(append(known, ref.Path()), ",")}, false)
	return err
}

// sourcesOf lists the repositories of a registry that are known to have a blob.
func sourcesOf(labels map[string]string, domain string) []string {
	value := labels[sourceLabel+domain]
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
