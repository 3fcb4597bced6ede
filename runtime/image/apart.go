package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/minirt/mini/internal/failpoint"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/snapshot"
)

// Apart brings layers in a process of its own, so that what that takes is counted in another cgroup than the daemon's.
type Apart interface {
	// Bring makes the process do what BringApart does, with a content in dir.
	Bring(ctx context.Context, cgroup, dir string, r ApartRequest, progress func(Progress)) error
}

// ApartRequest is what is to be brought, and from where.
type ApartRequest struct {
	Name      string // the image's
	Registry  RegistryOptions
	Layers    []ApartLayer
	UserXattr bool // see snapshot.LayerStore
}

// ApartLayer is one layer. Without a diff ID it is only fetched.
type ApartLayer struct {
	ocispec.Descriptor
	DiffID digest.Digest
}

// appliedApart is where BringApart has the files of a layer.
func appliedApart(dir string, diffID digest.Digest) string {
	return filepath.Join(dir, "layers", diffID.Encoded())
}

// bringApart has the layers that a pull is missing brought by another process, and takes them over: the blobs into the
// content, the files for those who unpack them. Pulls that want the same layers wait for each other.
func (t *transfer) bringApart(ctx context.Context, manifests []described, u *unpacking) error {
	if t.o.Cgroup == "" || t.s.Apart == nil || t.o.MetadataOnly {
		return nil
	}
	for _, l := range t.missing(manifests, u).Layers {
		unlock, err := t.s.writing.Lock(ctx, "apart "+l.Digest.String())
		if err != nil {
			return err
		}
		t.leaves = append(t.leaves, unlock)
		t.held.pin(contentPin(l.Digest.String()))
	}
	for _, c := range u.chains { // others may have brought them while this one waited
		if err := u.look(ctx, c); err != nil {
			return err
		}
	}
	r := t.missing(manifests, u)
	if len(r.Layers) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp(t.s.ApartDir, "pull-")
	if err != nil {
		return fmt.Errorf("pull apart: %w", err)
	}
	t.leaves = append(t.leaves, func() {
		if err := os.RemoveAll(dir); err != nil {
			t.s.Log.Warn("what a pull has left is removed at the next start", "dir", dir, "error", err)
		}
	})
	if err := t.s.Apart.Bring(ctx, t.o.Cgroup, dir, r, t.progress); err != nil {
		return err
	}
	if err := failpoint.Hit("pull-apart-brought"); err != nil {
		return err
	}
	t.from.made = map[digest.Digest]string{}
	for _, l := range r.Layers {
		blob := filepath.Join(dir, "content/blobs", l.Digest.Algorithm().String(), l.Digest.Encoded())
		if err := t.s.Content.Take(blob, l.Digest); err != nil {
			return err
		}
		if files := appliedApart(dir, l.DiffID); l.DiffID != "" && isDir(files) {
			t.from.made[l.DiffID] = files
		}
	}
	return failpoint.Hit("pull-apart-taken")
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// missing are the layers that are to be fetched or unpacked, in the order in which their locks are taken.
func (t *transfer) missing(manifests []described, u *unpacking) ApartRequest {
	r := ApartRequest{Name: t.ref.String(), Registry: t.o.Registry}
	layers := map[digest.Digest]ApartLayer{}
	for _, m := range manifests {
		for _, d := range m.manifest.Layers {
			if !u.lazy[d.Digest] && !t.s.Content.Has(d.Digest) {
				layers[d.Digest] = ApartLayer{Descriptor: d}
			}
		}
	}
	if store, ok := u.sn.(snapshot.LayerStore); ok {
		r.UserXattr = store.UserXattr()
		for _, c := range u.chains {
			for i := c.have; i < len(c.ids); i++ {
				layers[c.layers[i].Digest] = ApartLayer{c.layers[i], c.diffIDs[i]}
			}
		}
	}
	for _, l := range layers {
		r.Layers = append(r.Layers, l)
	}
	slices.SortFunc(r.Layers, func(a, b ApartLayer) int { return cmp.Compare(a.Digest, b.Digest) })
	return r
}

// BringApart fetches layers into the content, and applies those with a diff ID to directories below dir. It is what the
// process of an Apart does. Layers that cannot stand alone are only fetched.
func (s *Service) BringApart(ctx context.Context, dir string, r ApartRequest, progress func(Progress)) error {
	ref, err := name.Parse(r.Name)
	if err != nil {
		return err
	}
	var sealed []ocispec.Descriptor
	for _, l := range r.Layers {
		if oci.IsEncrypted(l.MediaType) {
			sealed = append(sealed, l.Descriptor)
		}
	}
	keys, err := s.keys(ctx, sealed)
	if err != nil {
		return err
	}
	from := &origin{registry: s.NewRegistry(r.Registry), ref: ref}
	defer from.registry.Close()
	report := serialised(progress)
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range r.Layers {
		f, leave := s.joinBlob(gctx, l.Descriptor, from, report)
		defer leave()
		g.Go(func() error { return f.wait(gctx) })
		if l.DiffID == "" {
			continue
		}
		a := &applied{layers: bareLayers{dir: appliedApart(dir, l.DiffID), userXattr: r.UserXattr}}
		g.Go(func() error { return s.applyAlone(gctx, a, layerOf{l.Descriptor, l.DiffID, keys}, from, report) })
	}
	return g.Wait()
}

// bareLayers applies one layer to one directory.
type bareLayers struct {
	snapshot.LayerStore // nil: nothing else is asked of it
	dir                 string
	userXattr           bool
}

// PrepareLayer implements snapshot.LayerStore.
func (b bareLayers) PrepareLayer(context.Context, snapshot.Key) (string, error) {
	return b.dir, os.MkdirAll(b.dir, 0o755)
}

// Remove implements snapshot.LayerStore.
func (b bareLayers) Remove(context.Context, snapshot.Key) error { return os.RemoveAll(b.dir) }

// UserXattr implements snapshot.LayerStore.
func (b bareLayers) UserXattr() bool { return b.userXattr }

// adopt puts the files of a layer that were made apart where they are to be; false when there are none, or they are on
// another filesystem.
func (s *Service) adopt(ctx context.Context, a *applied, l layerOf, from *origin, report func(Progress)) (bool, error) {
	if from == nil || from.made[l.diffID] == "" {
		return false, nil
	}
	dir, err := a.layers.PrepareLayer(ctx, a.key)
	if err != nil {
		return false, err
	}
	if err := errors.Join(os.Remove(dir), os.Rename(from.made[l.diffID], dir)); err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // else the image has the layer twice, and this is the second time
			s.Log.WarnContext(ctx, "a layer that was unpacked apart cannot be taken over, it is unpacked again", "layer", l.Digest, "error", err)
		}
		return false, s.remove(ctx, a)
	}
	report(progressOf(l.Descriptor, StageDone, l.Size))
	return true, nil
}
