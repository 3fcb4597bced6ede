package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
)

// LayerOptions say what a new image is called and how it is written.
type LayerOptions struct {
	Name        string // empty: by its digest alone
	Compression string // of the new layer: gzip (the default), zstd or uncompressed
	OCI         bool   // media types of OCI instead of Docker's
	History     ocispec.History
}

// CommitLayer makes an image of another one, by its manifest, and a layer on top of it, which write writes uncompressed.
// The layers below are those of the other image, which has to be whole. configure makes the new configuration of the old.
//
// All of it is in the content, and synced, before the name is there: a crash leaves the whole image or none.
func (s *Service) CommitLayer(ctx context.Context, ns string, base digest.Digest, o LayerOptions, configure func(*oci.Config) error, write func(context.Context, io.Writer) error) (Image, error) {
	c, err := o.compression()
	if err = errors.Join(err, o.check()); err != nil {
		return Image{}, err
	}
	h := s.hold(ns)
	defer h.release()
	b, err := s.wholeImage(ctx, h, base)
	if err != nil {
		return Image{}, err
	}
	if err := configure(&b.document.Config); err != nil {
		return Image{}, err
	}
	d, diffID, err := s.putPacked(ctx, h, c, write)
	if err != nil {
		return Image{}, s.explain(err)
	}
	d.MediaType = oci.LayerType(ocispec.MediaTypeImageLayer, string(c))
	return s.addLayer(ctx, h, b, d, diffID, o)
}

// ImportLayer makes an image of an archive of files, packed or not, as its one layer. What is packed as layers are stays
// as it is. platform is the image's; empty: this host's.
func (s *Service) ImportLayer(ctx context.Context, ns string, r io.Reader, o LayerOptions, platform string, configure func(*oci.Config) error) (Image, error) {
	p := oci.Host()
	if platform != "" {
		asked, err := platforms.Parse(platform)
		if err != nil {
			return Image{}, fmt.Errorf("platform %q: %v: %w", platform, err, errdefs.ErrInvalidArgument)
		}
		p = asked
	}
	b := wholeImage{document: oci.Document{Image: ocispec.Image{Platform: p}}}
	b.document.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	if err := configure(&b.document.Config); err != nil {
		return Image{}, err
	}
	if err := o.check(); err != nil {
		return Image{}, err
	}
	h := s.hold(ns)
	defer h.release()
	d, diffID, err := s.putArchive(ctx, h, r)
	if err != nil {
		return Image{}, s.explain(fmt.Errorf("import: %w", err))
	}
	return s.addLayer(ctx, h, b, d, diffID, o)
}

// ImportURL is ImportLayer of an archive that a web server has.
func (s *Service) ImportURL(ctx context.Context, ns, url string, o LayerOptions, platform string, configure func(*oci.Config) error) (Image, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil || request.URL.Scheme != "http" && request.URL.Scheme != "https" {
		return Image{}, fmt.Errorf("import: %q is not the URL of a web server: %w", url, errdefs.ErrInvalidArgument)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return Image{}, fmt.Errorf("import: %w: %w", err, errdefs.ErrUnavailable)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		class := error(errdefs.ErrUnavailable)
		if answer.StatusCode == http.StatusNotFound {
			class = errdefs.ErrNotFound
		}
		return Image{}, fmt.Errorf("import: %s answers %s: %w", url, answer.Status, class)
	}
	return s.ImportLayer(ctx, ns, answer.Body, o, platform, configure)
}

// check refuses what would be found wrong when all the work is done.
func (o LayerOptions) check() error {
	if o.Name == "" {
		return nil
	}
	_, err := name.Parse(o.Name)
	return err
}

func (o LayerOptions) compression() (compression.Format, error) {
	switch o.Compression {
	case "", "gzip":
		return compression.Gzip, nil
	case "zstd":
		return compression.Zstd, nil
	case "uncompressed":
		return compression.Uncompressed, nil
	}
	return "", fmt.Errorf("compression %q: known are gzip, zstd and uncompressed: %w", o.Compression, errdefs.ErrInvalidArgument)
}

// wholeImage is an image that others are made of.
type wholeImage struct {
	layers   []ocispec.Descriptor
	document oci.Document
}

// wholeImage reads an image by its manifest, and keeps all of it from the collector.
func (s *Service) wholeImage(ctx context.Context, h *held, manifest digest.Digest) (wholeImage, error) {
	d, err := s.descriptor(ctx, manifest)
	if err != nil {
		return wholeImage{}, fmt.Errorf("the image that it is made of: %w", err)
	}
	m, err := s.manifest(ctx, d)
	if err != nil {
		return wholeImage{}, err
	}
	if err := s.pinAll(ctx, h, d); err != nil {
		return wholeImage{}, err
	}
	for _, l := range m.Layers {
		if !s.Content.Has(l.Digest) {
			return wholeImage{}, fmt.Errorf("layer %s of the image that it is made of is not in the content: pull the image again: %w", l.Digest, errdefs.ErrFailedPrecondition)
		}
	}
	data, err := s.read(ctx, m.Config)
	if err != nil {
		return wholeImage{}, err
	}
	b := wholeImage{layers: m.Layers}
	b.document, err = oci.ParseDocument(data)
	return b, err
}

// addLayer writes the documents of an image with one more layer, and then its name.
func (s *Service) addLayer(ctx context.Context, h *held, b wholeImage, d ocispec.Descriptor, diffID digest.Digest, o LayerOptions) (Image, error) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: slices.Clone(b.layers)}
	if b.document.Add(diffID, o.History) {
		m.Layers = append(m.Layers, d)
	}
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	if o.OCI {
		m = oci.ManifestToOCI(m)
	} else {
		m = oci.ManifestToDocker(m)
	}
	var err error
	if m.Config, err = s.putJSON(ctx, h, m.Config.MediaType, b.document); err != nil {
		return Image{}, s.explain(err)
	}
	target, err := s.putJSON(ctx, h, m.MediaType, m)
	if err != nil {
		return Image{}, s.explain(err)
	}
	img := Image{Name: target.Digest.String(), Target: target}
	if o.Name != "" {
		ref, err := name.Parse(o.Name)
		if err != nil {
			return Image{}, err
		}
		img.Name = ref.String()
	}
	if err := failpoint.Hit("layered-before-sync"); err != nil {
		return Image{}, err
	}
	if err := s.Content.Sync(ctx); err != nil {
		return Image{}, err
	}
	if err := failpoint.Hit("layered-before-record"); err != nil {
		return Image{}, err
	}
	return s.write(h.ns, img)
}

// putPacked stores what write writes, packed, and tells the digest that it had before.
func (s *Service) putPacked(ctx context.Context, h *held, c compression.Format, write func(context.Context, io.Writer) error) (ocispec.Descriptor, digest.Digest, error) {
	r, w := io.Pipe()
	written := make(chan struct{})
	plain := digest.Canonical.Digester()
	go func() {
		defer close(written)
		pack, err := compression.Compress(w, c)
		if err == nil {
			err = write(ctx, io.MultiWriter(pack, plain.Hash()))
			err = errors.Join(err, pack.Close())
		}
		w.CloseWithError(err)
	}()
	d, err := s.put(ctx, h, "", -1, r)
	r.CloseWithError(err) // lets the writer end
	<-written
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	out, err := s.stored(ctx, h, d)
	return out, plain.Digest(), err
}

// stored describes a blob that has just come, and holds it.
func (s *Service) stored(ctx context.Context, h *held, d digest.Digest) (ocispec.Descriptor, error) {
	if err := h.content(ctx, d); err != nil {
		return ocispec.Descriptor{}, err
	}
	info, err := s.Content.Info(ctx, d)
	return ocispec.Descriptor{Digest: d, Size: info.Size}, err
}

// putArchive stores an archive of files as a layer, and reads it through: what is no archive is refused.
func (s *Service) putArchive(ctx context.Context, h *held, r io.Reader) (d ocispec.Descriptor, diffID digest.Digest, err error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return d, "", err
	}
	if n == 0 {
		return d, "", fmt.Errorf("the archive is empty: %w", errdefs.ErrInvalidArgument)
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	c := compression.Detect(head[:n])
	if c != compression.Gzip && c != compression.Zstd {
		d, diffID, err = s.putPacked(ctx, h, compression.Gzip, func(_ context.Context, w io.Writer) error {
			plain, _, err := compression.Decompress(r)
			if err != nil {
				return err
			}
			defer plain.Close()
			return readThrough(io.TeeReader(plain, w))
		})
		d.MediaType = oci.LayerType(ocispec.MediaTypeImageLayer, string(compression.Gzip))
		return d, diffID, err
	}
	sum := digest.Canonical.Digester()
	out, in := io.Pipe()
	read := make(chan error, 1)
	go func() {
		plain, _, err := compression.Decompress(out)
		if err == nil {
			err = readThrough(io.TeeReader(plain, sum.Hash()))
			err = errors.Join(err, plain.Close())
		}
		if err == nil {
			_, err = io.Copy(io.Discard, out)
		}
		out.CloseWithError(err) // ends who writes it
		read <- err
	}()
	got, err := s.put(ctx, h, "", -1, io.TeeReader(r, in))
	in.CloseWithError(err)
	if failed := <-read; failed != nil && (err == nil || errors.Is(err, failed)) {
		err = failed
	}
	if err != nil {
		return d, "", err
	}
	d, err = s.stored(ctx, h, got)
	d.MediaType = oci.LayerType(ocispec.MediaTypeImageLayer, string(c))
	return d, sum.Digest(), err
}

// readThrough reads a tar to its end, and what is after it.
func readThrough(r io.Reader) error {
	in := tar.NewReader(r)
	for {
		_, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("not an archive of files (tar), or cut short: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err != nil {
			return err
		}
	}
}
