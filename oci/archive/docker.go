package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/image"
)

const dockerManifestFile = "manifest.json"

// dockerImage is one element of docker save's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func parseDockerManifest(data []byte) ([]dockerImage, error) {
	var images []dockerImage
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("archive: manifest.json: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	return images, nil
}

// docker makes manifests and an index from manifest.json.
func (a *reader) docker(ctx context.Context, manifest []byte) (Contents, error) {
	images, err := parseDockerManifest(manifest)
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Docker: true, Index: ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}}
	for i, img := range images {
		d, err := a.dockerImage(ctx, img)
		if err != nil {
			return Contents{}, fmt.Errorf("archive: manifest.json, image %d: %w", i+1, err)
		}
		c.Index.Manifests = append(c.Index.Manifests, named(d, img.RepoTags)...)
	}
	c.IndexData, err = json.Marshal(c.Index)
	return c, err
}

func (a *reader) dockerImage(ctx context.Context, img dockerImage) (ocispec.Descriptor, error) {
	cfg, ok := a.lookup(img.Config)
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("config %q is not in the archive: %w", img.Config, errdefs.ErrInvalidArgument)
	}
	config, err := image.ParseConfig(cfg.data)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if n := len(config.RootFS.DiffIDs); n != len(img.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("config %q has %d layers, manifest.json %d: %w", img.Config, n, len(img.Layers), errdefs.ErrInvalidArgument)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: image.DockerManifest,
		Config:    ocispec.Descriptor{MediaType: image.DockerConfig, Digest: cfg.digest, Size: cfg.size},
		Layers:    []ocispec.Descriptor{},
	}
	for i, l := range img.Layers {
		f, ok := a.lookup(l)
		if !ok || f.digest == "" {
			return ocispec.Descriptor{}, fmt.Errorf("layer %q is not in the archive: %w", l, errdefs.ErrInvalidArgument)
		}
		// The diff ID is the digest of the uncompressed layer; unpacking verifies a compressed one.
		if id := config.RootFS.DiffIDs[i]; f.compression == "" && id.Algorithm() == f.digest.Algorithm() && id != f.digest {
			return ocispec.Descriptor{}, fmt.Errorf("layer %q has digest %s, the config says %s: %w", l, f.digest, id, errdefs.ErrDataLoss)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: image.LayerType(image.DockerLayer, f.compression), Digest: f.digest, Size: f.size})
	}
	data, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	dgst, err := a.put(ctx, digest.FromBytes(data), int64(len(data)), bytes.NewReader(data))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	p := platforms.Normalize(config.Platform)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: dgst, Size: int64(len(data)), Platform: &p}, nil
}

// named repeats a descriptor for each of its names, or returns it once without one.
func named(d ocispec.Descriptor, repoTags []string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, t := range repoTags {
		full, tag, ok := normalised(t)
		if !ok {
			continue
		}
		n := d
		n.Annotations = map[string]string{AnnotationName: full, ocispec.AnnotationRefName: tag}
		out = append(out, n)
	}
	if len(out) == 0 {
		return []ocispec.Descriptor{d}
	}
	return out
}

func normalised(repoTag string) (full, tag string, ok bool) {
	ref, err := reference.ParseDockerRef(repoTag)
	if err != nil {
		return "", "", false
	}
	if t, is := ref.(reference.Tagged); is {
		tag = t.Tag()
	}
	return ref.String(), tag, true
}

// nameFromDocker adds the names that only manifest.json has to an OCI layout's manifests: Docker 25 writes both, and its
// index.json names no repository.
func (a *reader) nameFromDocker(x *ocispec.Index) {
	f, ok := a.lookup(dockerManifestFile)
	if !ok {
		return
	}
	images, err := parseDockerManifest(f.data)
	if err != nil {
		return
	}
	tags := map[digest.Digest][]string{} // by config
	for _, img := range images {
		if cfg, ok := a.lookup(img.Config); ok {
			tags[cfg.digest] = append(tags[cfg.digest], img.RepoTags...)
		}
	}
	var out []ocispec.Descriptor
	for _, d := range x.Manifests {
		m, ok := a.lookup(BlobPath(d.Digest))
		if !ok || d.Annotations[AnnotationName] != "" || image.KindOf(d.MediaType) != image.KindManifest {
			out = append(out, d)
			continue
		}
		manifest, err := image.ParseManifest(d.MediaType, m.data)
		if err != nil || d.Annotations[ocispec.AnnotationRefName] != "" && len(tags[manifest.Config.Digest]) == 0 {
			out = append(out, d)
			continue
		}
		out = append(out, named(d, tags[manifest.Config.Digest])...)
	}
	x.Manifests = out
}
