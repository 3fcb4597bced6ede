// Package image reads the documents an image is made of: OCI image-spec 1.1 indexes, manifests and configs, artifacts,
// and Docker's schema 2 equivalents. It checks them, chooses by platform, walks from one to the next and computes chain
// IDs. Everything here is pure: bytes in, values out. Fetching, storing and unpacking live elsewhere.
package image

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types (distribution: image manifest version 2, schema 2). The OCI ones are in image-spec.
const (
	DockerList        = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest    = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig      = "application/vnd.docker.container.image.v1+json"
	DockerLayer       = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip   = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerLayerZstd   = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	DockerForeign     = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	DockerForeignGzip = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	dockerSchema1     = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1JWS  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	ociNonDistributed = "application/vnd.oci.image.layer.nondistributable.v1."
	ociLayerPrefix    = "application/vnd.oci.image.layer."
	dockerLayerPrefix = "application/vnd.docker.image.rootfs."
	encryptedSuffix   = "+encrypted"
	attestationType   = "vnd.docker.reference.type"
	attestationValue  = "attestation-manifest"
	unknownPlatform   = "unknown"
	mediaTypeGzipExt  = "+gzip"
	mediaTypeZstdExt  = "+zstd"
	dockerGzipExt     = ".gzip"
	dockerZstdExt     = ".zstd"
)

// Kind is what role a descriptor plays in an image.
type Kind string

// The kinds of descriptors.
const (
	KindIndex    Kind = "index"
	KindManifest Kind = "manifest"
	KindConfig   Kind = "config"
	KindLayer    Kind = "layer"
	KindBlob     Kind = "blob" // anything else: an artifact's data
)

// KindOf tells the role of a media type.
func KindOf(mediaType string) Kind {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, DockerList:
		return KindIndex
	case ocispec.MediaTypeImageManifest, DockerManifest:
		return KindManifest
	case ocispec.MediaTypeImageConfig, DockerConfig:
		return KindConfig
	}
	if IsLayer(mediaType) {
		return KindLayer
	}
	return KindBlob
}

// IsLayer tells whether a media type is a filesystem layer, compressed, encrypted or not.
func IsLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, ociLayerPrefix) || strings.HasPrefix(mediaType, dockerLayerPrefix)
}

// IsNonDistributable tells whether a layer must not be pushed to registries other than its vendor's (image-spec,
// "non-distributable layers"; Docker's foreign layers).
func IsNonDistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, ociNonDistributed) || strings.HasPrefix(mediaType, DockerForeign)
}

// IsEncrypted tells whether a layer is encrypted as ocicrypt does.
func IsEncrypted(mediaType string) bool { return strings.Contains(mediaType, encryptedSuffix) }

// IsSchema1 tells whether a media type is Docker's retired schema 1.
func IsSchema1(mediaType string) bool {
	return mediaType == dockerSchema1 || mediaType == dockerSchema1JWS
}

// IsDocker tells whether a media type is one of Docker's.
func IsDocker(mediaType string) bool { return strings.HasPrefix(mediaType, "application/vnd.docker.") }

// LayerType returns the media type of a layer of the same family (OCI or Docker, distributable or not) with another
// compression: "", "gzip" or "zstd".
func LayerType(mediaType, compression string) string {
	base := mediaType
	for _, ext := range []string{mediaTypeGzipExt, mediaTypeZstdExt, dockerGzipExt, dockerZstdExt} {
		base = strings.TrimSuffix(base, ext)
	}
	if compression == "" || !IsLayer(mediaType) {
		return base
	}
	if IsDocker(base) {
		return base + "." + compression
	}
	return base + "+" + compression
}

// LayerCompression tells the compression a layer's media type promises: "", "gzip" or "zstd". The bytes decide, not
// this: registries are full of layers with the wrong type.
func LayerCompression(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, mediaTypeGzipExt), strings.HasSuffix(mediaType, dockerGzipExt):
		return "gzip"
	case strings.HasSuffix(mediaType, mediaTypeZstdExt), strings.HasSuffix(mediaType, dockerZstdExt):
		return "zstd"
	}
	return ""
}

// ToOCI translates a Docker media type to its OCI equivalent; other types are returned as they are.
func ToOCI(mediaType string) string {
	switch mediaType {
	case DockerList:
		return ocispec.MediaTypeImageIndex
	case DockerManifest:
		return ocispec.MediaTypeImageManifest
	case DockerConfig:
		return ocispec.MediaTypeImageConfig
	case DockerLayer:
		return ocispec.MediaTypeImageLayer
	case DockerLayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case DockerLayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	case DockerForeign:
		return ociNonDistributed + "tar"
	case DockerForeignGzip:
		return ociNonDistributed + "tar+gzip"
	}
	return mediaType
}

// ToDocker translates an OCI media type to Docker's, where it has one.
func ToDocker(mediaType string) string {
	for _, docker := range []string{DockerList, DockerManifest, DockerConfig, DockerLayer, DockerLayerGzip, DockerLayerZstd, DockerForeign, DockerForeignGzip} {
		if ToOCI(docker) == mediaType {
			return docker
		}
	}
	return mediaType
}
