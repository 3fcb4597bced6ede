package image

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/oci/name"
)

// List returns the images of a namespace, by name; "" lists all namespaces.
func (s *Service) List(_ context.Context, ns string) ([]Image, error) {
	entries, err := s.Images.List(ns)
	if err != nil {
		return nil, err
	}
	images := make([]Image, len(entries))
	for i, e := range entries {
		images[i] = e.Value
	}
	return images, nil
}

// write makes or moves a name. Labels are added to those there are.
func (s *Service) write(ns string, img Image) (Image, error) {
	now := time.Now().UTC()
	img.CreatedAt, img.UpdatedAt = now, now
	for {
		err := s.Images.Create(ns, img.Name, img)
		if err == nil {
			s.publish(ns, "create", img.Name, map[string]string{"digest": img.Target.Digest.String()})
			return img, nil
		}
		if !errdefs.IsAlreadyExists(err) {
			return Image{}, err
		}
		updated, err := s.Images.Update(ns, img.Name, func(old *Image) error {
			labels := map[string]string{}
			maps.Copy(labels, old.Labels)
			maps.Copy(labels, img.Labels)
			if img.Signatures != "" || old.Target.Digest != img.Target.Digest {
				old.Signatures = img.Signatures
			}
			old.Target, old.Labels, old.UpdatedAt = img.Target, labels, now
			return nil
		})
		if errdefs.IsNotFound(err) {
			continue // deleted in between
		}
		if err == nil {
			s.publish(ns, "update", img.Name, map[string]string{"digest": img.Target.Digest.String()})
		}
		return updated, err
	}
}

// Tag gives an image another name. ErrAlreadyExists when that name points to another image and force is not set.
func (s *Service) Tag(ctx context.Context, ns, source, target string, force bool) (Image, error) {
	ref, err := name.Parse(target)
	if err != nil {
		return Image{}, err
	}
	s.records.RLock()
	defer s.records.RUnlock()
	img, err := s.Get(ctx, ns, source)
	if err != nil {
		return Image{}, err
	}
	if old, err := s.Images.Get(ns, ref.String()); err == nil && !force && old.Target.Digest != img.Target.Digest {
		return Image{}, fmt.Errorf("name %s already points to %s: use force to move it: %w", ref, old.Target.Digest, errdefs.ErrAlreadyExists)
	}
	made, err := s.write(ns, Image{Name: ref.String(), Target: img.Target, Labels: img.Labels, Signatures: img.Signatures})
	if err == nil {
		s.publish(ns, "tag", made.Name, map[string]string{"source": img.Name, "digest": img.Target.Digest.String()})
	}
	return made, err
}

// SetLabels changes an image's labels: those given, or all of them with replace. An empty value removes one.
func (s *Service) SetLabels(ctx context.Context, ns, ref string, labels map[string]string, replace bool) (Image, error) {
	img, err := s.Get(ctx, ns, ref)
	if err != nil {
		return Image{}, err
	}
	updated, err := s.Images.Update(ns, img.Name, func(i *Image) error {
		merged := map[string]string{}
		if !replace {
			maps.Copy(merged, i.Labels)
		}
		maps.Copy(merged, labels)
		maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
		i.Labels, i.UpdatedAt = merged, time.Now().UTC()
		return nil
	})
	if err == nil {
		s.publish(ns, "update", img.Name, nil)
	}
	return updated, err
}

// Delete removes a name, or every name of the image when ref is an id or a prefix of one; that needs force when there
// are several. Content and snapshots go with the next collection. It returns the names removed.
func (s *Service) Delete(ctx context.Context, ns, ref string, force bool) ([]string, error) {
	found, byID, err := s.find(ctx, ns, ref)
	if err != nil {
		return nil, err
	}
	if byID && len(found) > 1 && !force {
		return nil, fmt.Errorf("image %s has %d names (%s): delete them one by one, or use force: %w",
			ref, len(found), strings.Join(namesOf(found), ", "), errdefs.ErrFailedPrecondition)
	}
	var untagged []string
	for _, img := range found {
		if err := s.Images.Delete(ns, img.Name); err != nil {
			return untagged, err
		}
		untagged = append(untagged, img.Name)
		s.publish(ns, "delete", img.Name, map[string]string{"digest": img.Target.Digest.String()})
	}
	return untagged, nil
}

// Prune deletes the images that have no tag, or all of them, except what used names (by name or target digest). It
// returns the names; the bytes are freed by the next collection.
func (s *Service) Prune(ctx context.Context, ns string, all bool, used func(Image) bool) ([]string, error) {
	images, err := s.List(ctx, ns)
	if err != nil {
		return nil, err
	}
	var deleted []string
	for _, img := range images {
		if img.Store != "" || (!all && tagged(img.Name)) || (used != nil && used(img)) {
			continue
		}
		if err := s.Images.Delete(ns, img.Name); err != nil {
			return deleted, err
		}
		deleted = append(deleted, img.Name)
		s.publish(ns, "delete", img.Name, map[string]string{"digest": img.Target.Digest.String()})
	}
	return deleted, nil
}

func tagged(n string) bool {
	if _, err := digest.Parse(n); err == nil {
		return false
	}
	ref, err := name.Parse(n)
	return err != nil || ref.Tag() != ""
}

func namesOf(images []Image) []string {
	names := make([]string, len(images))
	for i, img := range images {
		names[i] = img.Name
	}
	return names
}
