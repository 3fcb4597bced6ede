// Package manifests keeps the manifest lists that a user puts together before they are pushed: one file a list, below the
// user's state directory. Registries are asked by whoever uses it.
package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
)

// Item is an image of a list.
type Item struct {
	Ref        string             `json:"ref"` // where it is, with its registry
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Manifest   []byte             `json:"manifest"` // what the descriptor describes
}

// List is a manifest list that is being put together.
type List struct {
	Name  string `json:"name"`
	Items []Item `json:"items"`
}

// Add puts an image in the list, in place of the one that came from the same reference.
func (l *List) Add(item Item) {
	for i := range l.Items {
		if l.Items[i].Ref == item.Ref {
			l.Items[i] = item
			return
		}
	}
	l.Items = append(l.Items, item)
}

// Find finds an image by its reference.
func (l *List) Find(ref string) (*Item, error) {
	for i := range l.Items {
		if l.Items[i].Ref == ref {
			return &l.Items[i], nil
		}
	}
	return nil, fmt.Errorf("manifest for image %s does not exist in %s: %w", ref, l.Name, errdefs.ErrNotFound)
}

// Document is the list as registries keep it: an OCI index when all of its images are OCI's, else Docker's manifest list.
func (l *List) Document() (ocispec.Descriptor, []byte, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, item := range l.Items {
		d := item.Descriptor
		if d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "" {
			return ocispec.Descriptor{}, nil, fmt.Errorf("manifest %s must have an OS and Architecture to be pushed to a registry: annotate it: %w", item.Ref, errdefs.ErrFailedPrecondition)
		}
		if image.IsDocker(d.MediaType) {
			index.MediaType = image.DockerList
		}
		index.Manifests = append(index.Manifests, d)
	}
	data, err := json.MarshalIndent(index, "", "   ")
	return ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data, err
}

// Dir is where a user's lists are: below XDG_STATE_HOME, or ~/.local/state (XDG base directory specification).
func Dir(env func(string) string) string {
	base := env("XDG_STATE_HOME")
	if base == "" {
		base = filepath.Join(env("HOME"), ".local/state")
	}
	return filepath.Join(base, "mininerd/manifests")
}

// Store is the directory of a user's lists.
type Store struct{ Dir string }

func (s Store) path(ref name.Ref) string {
	return filepath.Join(s.Dir, url.PathEscape(ref.String())+".json")
}

// Load reads a list; ErrNotFound when there is none.
func (s Store) Load(ref name.Ref) (*List, error) {
	data, err := os.ReadFile(s.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		//lint:ignore ST1005 docker's words, which scripts look for
		return nil, fmt.Errorf("No such manifest: %s: %w", ref.Familiar(), errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	var l List
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("manifest list %s: %s is damaged, remove it: %w: %w", ref, s.path(ref), err, errdefs.ErrDataLoss)
	}
	return &l, nil
}

// Save writes a list, whole or not at all.
func (s Store) Save(ref name.Ref, l *List) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path(ref), data, 0o600)
}

// Remove removes a list; ErrNotFound when there is none.
func (s Store) Remove(ref name.Ref) error {
	err := os.Remove(s.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		//lint:ignore ST1005 as above
		return fmt.Errorf("No such manifest: %s: %w", ref.Familiar(), errdefs.ErrNotFound)
	}
	return err
}
