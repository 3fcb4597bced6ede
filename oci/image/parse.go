package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of what is read into memory, in bytes. Registries refuse manifests over 4 MiB; configs grow with the history.
const (
	MaxManifestSize = 4 << 20
	MaxConfigSize   = 16 << 20
	maxChildren     = 10000
)

// probe holds the fields that tell the kinds of documents apart.
type probe struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// DetectType returns the media type of a manifest or index from its bytes, for places where none was given (an
// index.json, a registry's wrong Content-Type). Errors: ErrInvalidArgument, and ErrNotImplemented for schema 1.
func DetectType(data []byte) (string, error) {
	var p probe
	if err := decode("manifest", data, MaxManifestSize, &p); err != nil {
		return "", err
	}
	if p.SchemaVersion == 1 || present(p.FSLayers) || IsSchema1(p.MediaType) {
		return "", schema1Error()
	}
	if p.MediaType != "" {
		return p.MediaType, nil
	}
	switch {
	case present(p.Manifests) && !present(p.Layers) && !present(p.Config):
		return ocispec.MediaTypeImageIndex, nil
	case present(p.Config) && !present(p.Manifests):
		return ocispec.MediaTypeImageManifest, nil
	}
	return "", fmt.Errorf("document has no media type and is neither an index nor a manifest: %w", errdefs.ErrInvalidArgument)
}

// ParseIndex reads and checks an OCI index or a Docker manifest list. mediaType is what its descriptor says; "" asks
// the document itself.
func ParseIndex(mediaType string, data []byte) (ocispec.Index, error) {
	var x ocispec.Index
	p, err := check("index", mediaType, KindIndex, data)
	if err != nil {
		return x, err
	}
	// A document that can be read as both would be verified as one thing and used as the other (CVE-2021-41190).
	if present(p.Layers) || present(p.Config) || present(p.FSLayers) {
		return x, fmt.Errorf("index has the fields of a manifest too: %w", errdefs.ErrInvalidArgument)
	}
	if err := decode("index", data, MaxManifestSize, &x); err != nil {
		return x, err
	}
	if len(x.Manifests) > maxChildren {
		return x, fmt.Errorf("index has %d manifests, more than %d: %w", len(x.Manifests), maxChildren, errdefs.ErrInvalidArgument)
	}
	for i, d := range x.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return x, fmt.Errorf("index: manifest %d: %w", i+1, err)
		}
	}
	if err := checkSubject(x.Subject); err != nil {
		return x, fmt.Errorf("index: %w", err)
	}
	if x.MediaType == "" {
		x.MediaType = orDefault(mediaType, ocispec.MediaTypeImageIndex)
	}
	return x, nil
}

// ParseManifest reads and checks an OCI or Docker schema 2 manifest. mediaType is what its descriptor says; "" asks the
// document itself.
func ParseManifest(mediaType string, data []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	p, err := check("manifest", mediaType, KindManifest, data)
	if err != nil {
		return m, err
	}
	if present(p.Manifests) || present(p.FSLayers) {
		return m, fmt.Errorf("manifest has the fields of an index or of schema 1 too: %w", errdefs.ErrInvalidArgument)
	}
	if err := decode("manifest", data, MaxManifestSize, &m); err != nil {
		return m, err
	}
	if len(m.Layers) > maxChildren {
		return m, fmt.Errorf("manifest has %d layers, more than %d: %w", len(m.Layers), maxChildren, errdefs.ErrInvalidArgument)
	}
	if err := CheckDescriptor(m.Config); err != nil {
		return m, fmt.Errorf("manifest: config: %w", err)
	}
	for i, d := range m.Layers {
		if err := CheckDescriptor(d); err != nil {
			return m, fmt.Errorf("manifest: layer %d: %w", i+1, err)
		}
	}
	if err := checkSubject(m.Subject); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = orDefault(mediaType, ocispec.MediaTypeImageManifest)
	}
	return m, nil
}

// ParseConfig reads and checks an image's configuration (OCI or Docker's, which has the same fields and some more).
func ParseConfig(data []byte) (ocispec.Image, error) {
	var c ocispec.Image
	if err := decode("image config", data, MaxConfigSize, &c); err != nil {
		return c, err
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return c, fmt.Errorf("image config: diff id %d %q: %v: %w", i+1, d, err, errdefs.ErrInvalidArgument)
		}
	}
	return c, nil
}

// CheckDescriptor checks what a descriptor says of itself.
func CheckDescriptor(d ocispec.Descriptor) error {
	if d.Digest == "" {
		return fmt.Errorf("descriptor has no digest: %w", errdefs.ErrInvalidArgument)
	}
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %v: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	if a := d.Digest.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: algorithm %s is not supported, only sha256 and sha512: %w", d.Digest, a, errdefs.ErrInvalidArgument)
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s: negative size %d: %w", d.Digest, d.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// IsArtifact tells whether a manifest is an artifact rather than a runnable image (image-spec, "guidelines for artifact
// usage"): it names an artifact type, or its config is not an image's.
func IsArtifact(m ocispec.Manifest) bool {
	return m.ArtifactType != "" || KindOf(m.Config.MediaType) != KindConfig
}

// ArtifactType is the type of an artifact: what it names, or its config's media type. "" for an image.
func ArtifactType(m ocispec.Manifest) string {
	if m.ArtifactType != "" {
		return m.ArtifactType
	}
	if KindOf(m.Config.MediaType) != KindConfig {
		return m.Config.MediaType
	}
	return ""
}

func check(what, mediaType string, kind Kind, data []byte) (probe, error) {
	var p probe
	if IsSchema1(mediaType) {
		return p, schema1Error()
	}
	if err := decode(what, data, MaxManifestSize, &p); err != nil {
		return p, err
	}
	if p.SchemaVersion == 1 || IsSchema1(p.MediaType) {
		return p, schema1Error()
	}
	if mediaType != "" && p.MediaType != "" && mediaType != p.MediaType {
		return p, fmt.Errorf("%s says that it is %q, but its descriptor says %q: %w", what, p.MediaType, mediaType, errdefs.ErrInvalidArgument)
	}
	if t := orDefault(mediaType, p.MediaType); t != "" && KindOf(t) != kind {
		return p, fmt.Errorf("document of type %q is not an image %s: %w", t, what, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

func checkSubject(d *ocispec.Descriptor) error {
	if d == nil {
		return nil
	}
	if err := CheckDescriptor(*d); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	return nil
}

func schema1Error() error {
	return fmt.Errorf("the image is in Docker's schema 1 format, retired in 2017 and not supported; "+
		"push it again with a current tool: %w", errdefs.ErrNotImplemented)
}

func decode(what string, data []byte, limit int, into any) error {
	if len(data) > limit {
		return fmt.Errorf("%s is %d bytes long, more than %d: %w", what, len(data), limit, errdefs.ErrInvalidArgument)
	}
	if err := json.Unmarshal(data, into); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) && bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
			return fmt.Errorf("%s is HTML, not JSON: a proxy or a web server answered instead of a registry: %w", what, errdefs.ErrInvalidArgument)
		}
		return fmt.Errorf("%s: %v: %w", what, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func orDefault(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
