// Package archive reads and writes images as tar archives: OCI image layouts (image-spec, image-layout.md) and what
// `docker save` writes, the layouts before and after Docker 25. Reading streams: blobs go to a callback as they come, and
// the documents that explain them may come last. It knows neither stores nor daemons, and never writes to a filesystem.
package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/image"
)

// Limits of hostile archives: documents in bytes, entries by number.
const (
	maxDocument  = image.MaxConfigSize
	maxDocuments = 64 << 20 // all documents and names kept in memory together, in bytes
	maxEntries   = 1 << 20
	maxLinks     = 16
)

// Put stores one blob. expected is "" where the archive does not name the blob by its digest; size is its length in
// bytes. It returns the digest of what it stored, and refuses bytes that do not have the expected one (ErrDataLoss).
type Put func(ctx context.Context, expected digest.Digest, size int64, r io.Reader) (digest.Digest, error)

// Contents is what an archive holds.
type Contents struct {
	// Index lists the images; the descriptors have their names as annotations (see Names). For an OCI layout it is the
	// archive's own index.json.
	Index ocispec.Index
	// IndexData is the index as bytes, for those who want to store it: index.json as it came, or one made.
	IndexData []byte
	// Docker is set when the archive had no OCI layout and its manifests were made from manifest.json.
	Docker bool
}

// file is what is known of one regular file of the archive.
type file struct {
	digest      digest.Digest
	size        int64
	compression string
	data        []byte // small documents only
}

type reader struct {
	put   Put
	files map[string]file   // by clean path
	links map[string]string // symbolic and hard links: path → clean target
	kept  int64
}

// Read reads an archive, packed (by gzip, zstd, bzip2, xz) or not, passing each blob to put. Errors: ErrInvalidArgument when
// it is no image archive, ErrDataLoss when a blob does not have its digest; what has been put stays.
func Read(ctx context.Context, r io.Reader, put Put) (Contents, error) {
	plain, err := decompress(r)
	if err != nil {
		return Contents{}, err
	}
	defer func() { _ = plain.Close() }()
	a := &reader{put: put, files: map[string]file{}, links: map[string]string{}}
	if err := a.readAll(ctx, tar.NewReader(plain)); err != nil {
		return Contents{}, err
	}
	if index, ok := a.lookup(ocispec.ImageIndexFile); ok {
		return a.layout(index)
	}
	if manifest, ok := a.lookup(dockerManifestFile); ok {
		return a.docker(ctx, manifest.data)
	}
	return Contents{}, fmt.Errorf("archive has neither index.json nor manifest.json: it is not an image archive"+
		" (a root filesystem is imported as a layer, not loaded): %w", errdefs.ErrInvalidArgument)
}

func (a *reader) readAll(ctx context.Context, tr *tar.Reader) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive, after %d entries: %w", n, brokenTar(err))
		}
		if n >= maxEntries {
			return fmt.Errorf("archive has more than %d entries: %w", maxEntries, errdefs.ErrInvalidArgument)
		}
		if err := a.entry(ctx, h, tr); err != nil {
			return fmt.Errorf("archive entry %q: %w", h.Name, err)
		}
	}
}

// brokenTar classes an error of the tar or compression format; errors of the source pass through.
func brokenTar(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("not a tar archive, or cut short: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

var blobPath = regexp.MustCompile(`^blobs/(sha256|sha512)/([a-f0-9]{64,128})$`)

func (a *reader) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	if a.kept += int64(len(h.Name) + len(h.Linkname)); a.kept > maxDocuments {
		return fmt.Errorf("the names and documents of the archive are over %d bytes together: %w", maxDocuments, errdefs.ErrInvalidArgument)
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		a.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		a.links[name] = clean(h.Linkname)
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
	default:
		return nil
	}
	if ignored(name) {
		return nil
	}
	if sparse(h) { // a few bytes would stand for any number of zeros
		return fmt.Errorf("sparse files have no place in an image archive: %w", errdefs.ErrInvalidArgument)
	}
	var expected digest.Digest
	if m := blobPath.FindStringSubmatch(name); m != nil {
		expected = digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
		if err := expected.Validate(); err != nil {
			return fmt.Errorf("%v: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if isDocument(name) {
		return a.document(name, h.Size, r)
	}
	return a.blob(ctx, name, expected, h.Size, r)
}

// document keeps one of the layout's own files in memory. It is not a blob.
func (a *reader) document(name string, size int64, r io.Reader) error {
	if size > maxDocument {
		return fmt.Errorf("%d bytes, more than %d: %w", size, maxDocument, errdefs.ErrInvalidArgument)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return brokenTar(err)
	}
	a.files[name] = file{size: size, data: data}
	return nil
}

// blob passes a file on; what may be a JSON document (a config, a manifest) is kept in memory too, as manifest.json and
// index.json, which may come later, may need it.
func (a *reader) blob(ctx context.Context, name string, expected digest.Digest, size int64, r io.Reader) error {
	head := make([]byte, min(size, 512))
	if _, err := io.ReadFull(r, head); err != nil {
		return brokenTar(err)
	}
	f := file{size: size, compression: compressionOf(head)}
	source := io.MultiReader(bytes.NewReader(head), r)
	if size <= maxDocument && a.kept+size <= maxDocuments && bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		data, err := io.ReadAll(source)
		if err != nil {
			return brokenTar(err)
		}
		f.data = data
		a.kept += size
		source = bytes.NewReader(data)
	}
	got, err := a.put(ctx, expected, size, source)
	if err != nil {
		return err
	}
	f.digest = got
	a.files[name] = f
	return nil
}

// lookup finds a file by its path, through links.
func (a *reader) lookup(name string) (file, bool) {
	name = clean(name)
	for range maxLinks {
		if f, ok := a.files[name]; ok {
			return f, true
		}
		target, ok := a.links[name]
		if !ok {
			return file{}, false
		}
		name = target
	}
	return file{}, false
}

// layout explains an OCI layout.
func (a *reader) layout(index file) (Contents, error) {
	x, err := image.ParseIndex("", index.data)
	if err != nil {
		return Contents{}, fmt.Errorf("archive: index.json: %w", err)
	}
	for i, d := range x.Manifests {
		if d.MediaType != "" {
			continue
		}
		f, ok := a.lookup(BlobPath(d.Digest))
		if !ok || f.data == nil {
			return Contents{}, fmt.Errorf("archive: index.json: manifest %s has no media type and is not in the archive: %w", d.Digest, errdefs.ErrInvalidArgument)
		}
		if x.Manifests[i].MediaType, err = image.DetectType(f.data); err != nil {
			return Contents{}, fmt.Errorf("archive: manifest %s: %w", d.Digest, err)
		}
	}
	a.nameFromDocker(&x)
	return Contents{Index: x, IndexData: index.data}, nil
}

func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// BlobPath is where a layout has a blob.
func BlobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// clean makes a path of the archive relative and free of dots: names are only keys here, never files.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, "\\", "/")), "/")
}

func isDocument(name string) bool {
	return name == ocispec.ImageIndexFile || name == dockerManifestFile || name == ocispec.ImageLayoutFile
}

// ignored names the files of old docker-save archives that manifest.json makes redundant.
func ignored(name string) bool {
	if name == "repositories" {
		return true
	}
	base := path.Base(name)
	return strings.Count(name, "/") == 1 && (base == "VERSION" || base == "json")
}
