package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const none = "<none>"

// sortImages orders by the first tag, or the first digest where one of two has no tag, or else by the identifier.
func sortImages(all []*cri.Image) {
	slices.SortStableFunc(all, func(a, b *cri.Image) int {
		switch {
		case len(a.RepoTags) > 0 && len(b.RepoTags) > 0:
			return cmp.Compare(a.RepoTags[0], b.RepoTags[0])
		case len(a.RepoDigests) > 0 && len(b.RepoDigests) > 0:
			return cmp.Compare(a.RepoDigests[0], b.RepoDigests[0])
		}
		return cmp.Compare(a.Id, b.Id)
	})
}

// repositoryOf is the repository and digest of an image's first digest.
func repositoryOf(i *cri.Image) (repository, digest string) {
	if len(i.RepoDigests) == 0 {
		return none, none
	}
	repository, digest, ok := strings.Cut(i.RepoDigests[0], "@")
	if !ok {
		return i.RepoDigests[0], none
	}
	return repository, digest
}

// namesOf are the repositories and tags of an image; one that was pulled by digest has its repository and no tag.
func namesOf(i *cri.Image, repository string) [][2]string {
	if len(i.RepoTags) == 0 {
		return [][2]string{{repository, none}}
	}
	var names [][2]string
	for _, t := range i.RepoTags {
		n := strings.LastIndex(t, ":")
		if n < 0 {
			names = append(names, [2]string{t, none})
			continue
		}
		name := t[:n]
		if name == none {
			name = repository
		}
		names = append(names, [2]string{name, t[n+1:]})
	}
	return names
}

// filterImages keeps the images for which all conditions hold. Before and since mean the order of the list.
func filterImages(all []*cri.Image, conditions []string) ([]*cri.Image, error) {
	for _, condition := range conditions {
		key, value, _ := strings.Cut(condition, "=")
		switch key {
		case "before", "since":
			n := slices.IndexFunc(all, func(i *cri.Image) bool { return isImage(i, value) })
			switch {
			case n < 0: // as if it came after all of them
			case key == "since":
				all = all[:n]
			default:
				all = all[n+1:]
			}
		case "dangling":
			if value != "true" && value != "false" {
				return nil, fmt.Errorf("filter %q: write true or false: %w", condition, errdefs.ErrInvalidArgument)
			}
			all = keep(all, func(i *cri.Image) bool { return (len(i.RepoTags) == 0) == (value == "true") })
		case "reference":
			e, err := regexp.Compile(value)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w: %w", condition, err, errdefs.ErrInvalidArgument)
			}
			all = keep(all, func(i *cri.Image) bool {
				name, _ := repositoryOf(i)
				return e.MatchString(name) || name == value
			})
		default:
			return nil, fmt.Errorf("filter %q: use dangling=, reference=, before= or since=: %w", condition, errdefs.ErrInvalidArgument)
		}
	}
	return all, nil
}

func keep(all []*cri.Image, wanted func(*cri.Image) bool) []*cri.Image {
	kept := []*cri.Image{}
	for _, i := range all {
		if wanted(i) {
			kept = append(kept, i)
		}
	}
	return kept
}

// isImage tells whether a filter's value means an image: NAME:TAG, the beginning of NAME@DIGEST, or that of its identifier.
func isImage(i *cri.Image, value string) bool {
	switch {
	case strings.Contains(value, "@"):
		return slices.ContainsFunc(i.RepoDigests, func(d string) bool { return strings.HasPrefix(d, value) })
	case strings.Contains(value, ":"):
		return slices.Contains(i.RepoTags, value) || strings.HasPrefix(i.Id, value)
	}
	return strings.HasPrefix(i.Id, value) || strings.HasPrefix(i.Id, "sha256:"+value)
}
