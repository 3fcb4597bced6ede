package image

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DescriptorToOCI returns a descriptor with the OCI media type for Docker's. The digest is that of the old document:
// the caller replaces it for manifests and indexes, whose bytes name the type too.
func DescriptorToOCI(d ocispec.Descriptor) ocispec.Descriptor {
	d.MediaType = ToOCI(d.MediaType)
	return d
}

// ManifestToOCI returns a manifest with OCI media types throughout. Docker's config is valid as an OCI config.
func ManifestToOCI(m ocispec.Manifest) ocispec.Manifest {
	m.MediaType = ToOCI(m.MediaType)
	m.Config = DescriptorToOCI(m.Config)
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		m.Layers[i] = DescriptorToOCI(m.Layers[i])
	}
	return m
}

// IndexToOCI returns an index with OCI media types throughout.
func IndexToOCI(x ocispec.Index) ocispec.Index {
	x.MediaType = ToOCI(x.MediaType)
	x.Manifests = slices.Clone(x.Manifests)
	for i := range x.Manifests {
		x.Manifests[i] = DescriptorToOCI(x.Manifests[i])
	}
	return x
}

// ManifestToDocker returns a manifest with Docker's media types, as far as Docker has them.
func ManifestToDocker(m ocispec.Manifest) ocispec.Manifest {
	m.MediaType, m.ArtifactType, m.Annotations = DockerManifest, "", nil
	m.Config.MediaType = DockerConfig
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		m.Layers[i].MediaType = ToDocker(m.Layers[i].MediaType)
	}
	return m
}
