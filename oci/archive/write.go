package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/image"
)

// Source reads blobs for an archive.
type Source interface {
	// Open returns a blob; ErrNotFound when it is not there.
	Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// Entry is one image to write. Name may be empty.
type Entry struct {
	Name   string
	Target ocispec.Descriptor
}

// WriteOptions says what goes into an archive.
type WriteOptions struct {
	Want                 image.Want
	SkipDockerManifest   bool // no manifest.json
	SkipNonDistributable bool // leave out layers that must not be distributed
}

// writer collects what an archive will hold, then writes it in a fixed order.
type writer struct {
	src    Source
	o      WriteOptions
	blobs  map[digest.Digest]ocispec.Descriptor
	docker []dockerImage
}

// Write writes images as one archive that is both an OCI layout and readable by `docker load`. The same images give the
// same bytes. The documents come first, so that a reader can stream. Errors: ErrNotFound names the blob that is missing.
func Write(ctx context.Context, out io.Writer, entries []Entry, src Source, o WriteOptions) error {
	w := &writer{src: src, o: o, blobs: map[digest.Digest]ocispec.Descriptor{}}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Target.Digest, b.Target.Digest))
	})
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, e := range entries {
		if err := w.collect(ctx, e); err != nil {
			return fmt.Errorf("export of %s: %w", cmp.Or(e.Name, e.Target.Digest.String()), err)
		}
		index.Manifests = append(index.Manifests, annotated(e))
	}
	return w.write(ctx, tar.NewWriter(out), index)
}

// annotated is an entry's descriptor with its name.
func annotated(e Entry) ocispec.Descriptor {
	d := e.Target
	d.Annotations = map[string]string{}
	for k, v := range e.Target.Annotations {
		d.Annotations[k] = v
	}
	if e.Name == "" {
		return d
	}
	d.Annotations[AnnotationName] = e.Name
	d.Annotations[ocispec.AnnotationRefName] = e.Name
	if ref, err := reference.ParseNormalizedNamed(e.Name); err == nil {
		if tagged, ok := ref.(reference.Tagged); ok {
			d.Annotations[ocispec.AnnotationRefName] = tagged.Tag()
		}
	}
	return d
}

func (w *writer) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	r, err := w.src.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("document %s is longer than %d bytes: %w", d.Digest, maxDocument, errdefs.ErrInvalidArgument)
	}
	return data, nil
}

// collect finds the blobs of one image: the target, the wanted manifests and what is below them.
func (w *writer) collect(ctx context.Context, e Entry) error {
	manifests, err := image.Manifests(ctx, w.read, e.Target, w.o.Want)
	if err != nil {
		return err
	}
	wanted := map[digest.Digest]bool{}
	for _, m := range manifests {
		wanted[m.Digest] = true
	}
	err = image.Walk(ctx, w.read, e.Target, func(d ocispec.Descriptor) error {
		if image.KindOf(d.MediaType) == image.KindManifest && !wanted[d.Digest] {
			return image.SkipChildren
		}
		if !w.o.Want.All && image.KindOf(d.MediaType) == image.KindIndex && d.Digest != e.Target.Digest && !w.leadsTo(ctx, d, wanted) {
			return image.SkipChildren
		}
		if w.o.SkipNonDistributable && image.IsNonDistributable(d.MediaType) {
			return image.SkipChildren
		}
		w.blobs[d.Digest] = d
		return nil
	})
	if err != nil || w.o.SkipDockerManifest {
		return err
	}
	return w.dockerEntry(ctx, e, manifests)
}

// leadsTo tells whether a nested index has a wanted manifest.
func (w *writer) leadsTo(ctx context.Context, d ocispec.Descriptor, wanted map[digest.Digest]bool) bool {
	all, err := image.Manifests(ctx, w.read, d, image.Want{All: true})
	return err == nil && slices.ContainsFunc(all, func(m ocispec.Descriptor) bool { return wanted[m.Digest] })
}

// dockerEntry adds the image to manifest.json. Docker has one platform per name: this host's, or the first there is.
func (w *writer) dockerEntry(ctx context.Context, e Entry, manifests []ocispec.Descriptor) error {
	chosen, ok := image.Choose(manifests, image.Host())
	if !ok && len(manifests) > 0 {
		chosen = manifests[0]
	}
	data, err := w.read(ctx, chosen)
	if err != nil {
		return err
	}
	m, err := image.ParseManifest(chosen.MediaType, data)
	if err != nil {
		return fmt.Errorf("%s: %w", chosen.Digest, err)
	}
	if image.IsArtifact(m) {
		return nil
	}
	img := dockerImage{Config: BlobPath(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		img.Layers = append(img.Layers, BlobPath(l.Digest))
	}
	var repoTags []string
	if ref, err := reference.ParseNormalizedNamed(e.Name); err == nil {
		if tagged, ok := ref.(reference.Tagged); ok {
			repoTags = []string{reference.FamiliarName(ref) + ":" + tagged.Tag()}
		}
	}
	for i := range w.docker {
		if w.docker[i].Config == img.Config && slices.Equal(w.docker[i].Layers, img.Layers) {
			w.docker[i].RepoTags = append(w.docker[i].RepoTags, repoTags...)
			return nil
		}
	}
	img.RepoTags = repoTags
	w.docker = append(w.docker, img)
	return nil
}

func (w *writer) write(ctx context.Context, tw *tar.Writer, index ocispec.Index) error {
	documents := []struct {
		name    string
		content any
	}{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, index},
		{dockerManifestFile, w.docker},
	}
	for _, d := range documents {
		if d.name == dockerManifestFile && len(w.docker) == 0 {
			continue
		}
		data, err := json.Marshal(d.content)
		if err != nil {
			return err
		}
		if err := writeFile(tw, d.name, int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	if err := w.writeBlobs(ctx, tw); err != nil {
		return err
	}
	return tw.Close()
}

func (w *writer) writeBlobs(ctx context.Context, tw *tar.Writer) error {
	blobs := make([]ocispec.Descriptor, 0, len(w.blobs))
	for _, d := range w.blobs {
		blobs = append(blobs, d)
	}
	slices.SortFunc(blobs, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	made := map[string]bool{}
	for _, d := range blobs {
		for _, dir := range []string{ocispec.ImageBlobsDir, path.Join(ocispec.ImageBlobsDir, d.Digest.Algorithm().String())} {
			if made[dir] {
				continue
			}
			made[dir] = true
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
				return err
			}
		}
		if err := w.writeBlob(ctx, tw, d); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) writeBlob(ctx context.Context, tw *tar.Writer, d ocispec.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := w.src.Open(ctx, d)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return fmt.Errorf("blob %s (%s%s) is not in the content: pull it, with all platforms if it is another platform's: %w",
				d.Digest, d.MediaType, platformSuffix(d), errdefs.ErrNotFound)
		}
		return err
	}
	defer func() { _ = r.Close() }()
	if err := writeFile(tw, BlobPath(d.Digest), d.Size, r); err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return nil
}

// writeFile writes one file with the time, owner and mode that every file of every archive has.
func writeFile(tw *tar.Writer, name string, size int64, r io.Reader) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o444, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	n, err := io.Copy(tw, io.LimitReader(r, size))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d: %w", n, size, errdefs.ErrDataLoss)
	}
	return err
}

func platformSuffix(d ocispec.Descriptor) string {
	if d.Platform == nil {
		return ""
	}
	return ", " + platforms.Format(*d.Platform)
}
