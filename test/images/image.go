package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, schema 2.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// image is a recipe.
type image struct {
	repo   string
	layers []func() ([]byte, error) // uncompressed tars
	config ocispec.ImageConfig
	// compression of the layers in turn: gzip, zstd or none; gzip for those that are not named.
	compression []string
	docker      bool // Docker's media types
	platform    *ocispec.Platform
	annotations map[string]string
}

// of makes the layers of a recipe from finished ones.
func of(layers ...*layer) []func() ([]byte, error) {
	makers := make([]func() ([]byte, error), len(layers))
	for i, l := range layers {
		makers[i] = l.bytes
	}
	return makers
}

// put stores an image and returns its manifest's descriptor.
func (i image) put(s *storage, tag string) (ocispec.Descriptor, built, error) {
	fail := func(err error) (ocispec.Descriptor, built, error) {
		return ocispec.Descriptor{}, built{}, fmt.Errorf("image %s: %w", i.repo, err)
	}
	b := built{Repo: i.repo, Tag: tag, Layers: len(i.layers)}
	config := i.document()
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Annotations: i.annotations}
	manifest.SchemaVersion = 2
	for n, maker := range i.layers {
		raw, err := maker()
		if err != nil {
			return fail(err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(digestOf(raw)))
		config.History = append(config.History, ocispec.History{Created: config.Created, CreatedBy: fmt.Sprintf("layer %d", n+1)})
		b.DiffIDs = append(b.DiffIDs, digestOf(raw))
		desc, err := i.putLayer(s, n, raw)
		if err != nil {
			return fail(err)
		}
		b.Size += desc.Size
		manifest.Layers = append(manifest.Layers, desc)
	}
	configType, manifestType := ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageManifest
	if i.docker {
		configType, manifestType = dockerConfig, dockerManifest
	}
	data, err := json.Marshal(config)
	if err != nil {
		return fail(err)
	}
	if manifest.Config, err = putBlob(s, i.repo, configType, data); err != nil {
		return fail(err)
	}
	manifest.MediaType = manifestType
	if data, err = json.Marshal(manifest); err != nil {
		return fail(err)
	}
	if b.Digest, err = s.manifest(i.repo, tag, data); err != nil {
		return fail(err)
	}
	b.MediaType, b.manifestSize = manifestType, int64(len(data))
	b.Size += manifest.Config.Size + int64(len(data))
	return ocispec.Descriptor{
		MediaType: manifestType, Digest: digest.Digest(b.Digest), Size: int64(len(data)), Platform: &config.Platform,
	}, b, nil
}

func (i image) document() ocispec.Image {
	created := made().UTC().Truncate(time.Second)
	c := ocispec.Image{Created: &created, Author: "mini's tests", Config: i.config}
	c.Platform = ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	if i.platform != nil {
		c.Platform = *i.platform
	}
	if c.Config.Env == nil {
		c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	c.RootFS.Type = "layers"
	return c
}

func (i image) putLayer(s *storage, n int, raw []byte) (ocispec.Descriptor, error) {
	compression := "gzip"
	if n < len(i.compression) {
		compression = i.compression[n]
	}
	data, mediaType, err := compress(raw, compression)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if i.docker {
		mediaType = dockerLayer
	}
	return putBlob(s, i.repo, mediaType, data)
}

func putBlob(s *storage, repo, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d, err := s.blob(repo, data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(d), Size: int64(len(data))}, err
}

func compress(raw []byte, how string) (data []byte, mediaType string, err error) {
	switch how {
	case "none":
		return raw, ocispec.MediaTypeImageLayer, nil
	case "zstd":
		w, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, "", err
		}
		return w.EncodeAll(raw, nil), ocispec.MediaTypeImageLayerZstd, nil
	default:
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err != nil {
			return nil, "", err
		}
		if _, err := w.Write(raw); err != nil {
			return nil, "", err
		}
		if err := w.Close(); err != nil {
			return nil, "", err
		}
		return b.Bytes(), ocispec.MediaTypeImageLayerGzip, nil
	}
}

// putIndex stores images of one repository under an index, or Docker's manifest list.
func putIndex(s *storage, repo, tag string, images []image) (built, error) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	b := built{Repo: repo, Tag: tag}
	for _, i := range images {
		desc, one, err := i.put(s, "")
		if err != nil {
			return b, err
		}
		if i.docker {
			index.MediaType = dockerList
		}
		b.Size += one.Size
		b.Layers = one.Layers
		index.Manifests = append(index.Manifests, desc)
	}
	data, err := json.Marshal(index)
	if err != nil {
		return b, err
	}
	b.MediaType, b.Size = index.MediaType, b.Size+int64(len(data))
	b.Digest, err = s.manifest(repo, tag, data)
	return b, err
}
