package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers lists what refers to a manifest (signatures, SBOMs) by its subject
// field; artifactType "" lists all. Registries without the API of OCI
// distribution 1.1 are asked for the tag that stands in for it. Nothing
// referring is an empty list.
func (c *Client) Referrers(ctx context.Context, ref name.Ref, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	stage, object := "list the referrers of", ref.Repository()+"@"+subject.String()
	if err := subject.Validate(); err != nil {
		return nil, configError(stage, object, fmt.Errorf("%v: %w", err, errdefs.ErrInvalidArgument))
	}
	hosts, err := c.endpoints(ref, CapReferrers)
	if err != nil {
		return nil, configError(stage, object, err)
	}
	var found []ocispec.Descriptor
	err = c.failOver(ctx, stage, object, originFirst(hosts), func(e *endpoint, p patience) error {
		found, err = c.referrersAt(ctx, e, p, ref, subject, artifactType)
		return err
	})
	if err != nil {
		return nil, err
	}
	return withType(found, artifactType), nil
}

func (c *Client) referrersAt(ctx context.Context, e *endpoint, p patience, ref name.Ref, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	get := newCall(http.MethodGet, e, ref, "/referrers/"+subject.String(), "pull")
	get.header, get.thing = http.Header{"Accept": {ocispec.MediaTypeImageIndex}}, "referrers API"
	if artifactType != "" {
		get.query = url.Values{"artifactType": {artifactType}}
	}
	var found []ocispec.Descriptor
	err := c.pages(ctx, e, p, get, func(page []byte, _ http.Header) error {
		index, err := parseReferrers(page)
		found = append(found, index.Manifests...)
		return err
	})
	if !errdefs.IsNotFound(err) && !errdefs.IsNotImplemented(err) && err != errNotReferrers {
		return found, err
	}
	index, err := c.referrersTag(ctx, e, p, ref, subject)
	return index.Manifests, err
}

// errNotReferrers is an answer of a registry that has something else at the
// API's address.
var errNotReferrers = &problem{message: "the answer is not an index of referrers", class: errUnusable}

func parseReferrers(data []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if json.Unmarshal(data, &index) != nil || index.SchemaVersion != 2 || index.MediaType != "" && index.MediaType != ocispec.MediaTypeImageIndex {
		return ocispec.Index{}, errNotReferrers
	}
	for _, m := range index.Manifests {
		if m.Digest.Validate() != nil {
			return ocispec.Index{}, errNotReferrers
		}
	}
	return index, nil
}

// referrersTagName is the tag schema of OCI distribution 1.1: the subject's
// digest with a dash, at most 32 characters of algorithm and 64 of hex.
func referrersTagName(subject digest.Digest) string {
	algorithm, hex := subject.Algorithm().String(), subject.Encoded()
	return algorithm[:min(len(algorithm), 32)] + "-" + hex[:min(len(hex), 64)]
}

// referrersTag reads the stand-in index; it is empty when there is none.
func (c *Client) referrersTag(ctx context.Context, e *endpoint, p patience, ref name.Ref, subject digest.Digest) (ocispec.Index, error) {
	var index ocispec.Index
	err := c.retry(ctx, p, func() error {
		data, _, err := c.getManifest(ctx, e, ref, referrersTagName(subject))
		if err == nil {
			index, err = parseReferrers(data)
		}
		return err
	})
	if errdefs.IsNotFound(err) {
		return ocispec.Index{}, nil
	}
	return index, err
}

// withType keeps the referrers of one type; registries need not filter.
func withType(all []ocispec.Descriptor, artifactType string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range all {
		if artifactType == "" || d.ArtifactType == artifactType {
			out = append(out, d)
		}
	}
	return out
}

// fallbackAttempts is how often the stand-in index is written again when
// another client's write came between: the tag has no compare-and-swap.
const fallbackAttempts = 3

// addReferrer adds a pushed manifest to its subject's stand-in index, on a
// registry that does not keep referrers.
func (c *Client) addReferrer(ctx context.Context, e *endpoint, p patience, ref name.Ref, desc ocispec.Descriptor, data []byte) error {
	subject := subjectOf(data)
	if subject == nil {
		return nil
	}
	c.fallbacks.Lock()
	defer c.fallbacks.Unlock()
	entry := referrerEntry(desc, data)
	for range fallbackAttempts {
		index, err := c.referrersTag(ctx, e, p, ref, subject.Digest)
		if err != nil {
			return fmt.Errorf("the manifest is pushed, but its referrers tag cannot be read: %w", err)
		}
		if contains(index.Manifests, entry.Digest) {
			return nil
		}
		if err := c.putReferrersTag(ctx, e, p, ref, subject.Digest, append(index.Manifests, entry)); err != nil {
			return fmt.Errorf("the manifest is pushed, but its referrers tag cannot be written: %w", err)
		}
	}
	index, err := c.referrersTag(ctx, e, p, ref, subject.Digest)
	if err == nil && !contains(index.Manifests, entry.Digest) {
		err = fmt.Errorf("the manifest is pushed, but others keep overwriting its referrers tag %s: push again: %w", referrersTagName(subject.Digest), errdefs.ErrAborted)
	}
	return err
}

func (c *Client) putReferrersTag(ctx context.Context, e *endpoint, p patience, ref name.Ref, subject digest.Digest, manifests []ocispec.Descriptor) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	tagged, err := ref.WithTag(referrersTagName(subject))
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := checkManifest(desc, data); err != nil {
		return err
	}
	_, err = c.putManifest(ctx, e, p, tagged, desc, data)
	return err
}

// referrerEntry describes a manifest as the referrers API does: with its
// annotations, and as artifact type its own or that of its configuration.
func referrerEntry(desc ocispec.Descriptor, data []byte) ocispec.Descriptor {
	var m struct {
		ArtifactType string             `json:"artifactType"`
		Config       ocispec.Descriptor `json:"config"`
		Annotations  map[string]string  `json:"annotations"`
	}
	_ = json.Unmarshal(data, &m) // subjectOf has read it before
	entry := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(data)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if entry.ArtifactType == "" && !strings.HasPrefix(desc.MediaType, ocispec.MediaTypeImageIndex) {
		entry.ArtifactType = m.Config.MediaType
	}
	return entry
}

func contains(manifests []ocispec.Descriptor, d digest.Digest) bool {
	for _, m := range manifests {
		if m.Digest == d {
			return true
		}
	}
	return false
}
