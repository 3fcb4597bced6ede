package registry

import (
	"encoding/json"
	"fmt"
	"mime"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types of image manifest version 2, schema 2 and their
// withdrawn predecessor.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1      = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Jws   = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	artifactManifest   = "application/vnd.oci.artifact.manifest.v1+json"
)

// ManifestLimit is the largest manifest that is accepted, in bytes: what the
// distribution specification tells registries to accept at least.
const ManifestLimit = 4 << 20

// acceptManifests is the Accept header for manifests.
const acceptManifests = ocispec.MediaTypeImageIndex + ", " + dockerManifestList + ", " +
	ocispec.MediaTypeImageManifest + ", " + dockerManifest + ", */*"

// isManifest reports whether content of a media type is served as a manifest.
func isManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerManifestList,
		dockerSchema1, dockerSchema1Jws, artifactManifest:
		return true
	}
	return false
}

// manifestType decides what a manifest is: by the registry's word, or by its
// own where that says nothing.
func manifestType(contentType string, data []byte) (string, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || !isManifest(mediaType) {
		var m struct {
			SchemaVersion int             `json:"schemaVersion"`
			MediaType     string          `json:"mediaType"`
			Manifests     json.RawMessage `json:"manifests"`
			Config        json.RawMessage `json:"config"`
		}
		if json.Unmarshal(data, &m) != nil {
			return "", &problem{message: fmt.Sprintf("the answer (%s) is not a manifest: is this a registry?", oneLine(contentType)), class: errUnusable}
		}
		switch {
		case m.MediaType != "":
			mediaType = m.MediaType
		case m.SchemaVersion == 1:
			mediaType = dockerSchema1
		case m.Manifests != nil:
			mediaType = ocispec.MediaTypeImageIndex
		case m.Config != nil:
			mediaType = ocispec.MediaTypeImageManifest
		default:
			return "", &problem{message: "the answer is neither a manifest nor an index", class: errUnusable}
		}
	}
	if mediaType == dockerSchema1 || mediaType == dockerSchema1Jws {
		return "", &problem{message: "the image is in Docker's schema 1, which was withdrawn: push it again with a current tool", class: errdefs.ErrNotImplemented}
	}
	return mediaType, nil
}
