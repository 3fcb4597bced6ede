package registry

import (
	"context"
	"mime"
	"net/http"

	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolve asks what a reference points to. A reference with a digest is only
// checked for its existence (mirrors with the capability pull suffice, the tag
// is not asked for); a tag is resolved by hosts with the capability resolve.
func (c *Client) Resolve(ctx context.Context, ref name.Ref) (ocispec.Descriptor, error) {
	need := CapResolve
	if ref.Digest() != "" {
		need = CapPull
	}
	hosts, err := c.endpoints(ref, need)
	if err != nil {
		return ocispec.Descriptor{}, configError("resolve", ref.String(), err)
	}
	var desc ocispec.Descriptor
	err = c.failOver(ctx, "resolve", ref.String(), hosts, func(e *endpoint, p patience) error {
		return c.retry(ctx, p, func() error {
			desc, err = c.resolveAt(ctx, e, ref)
			return err
		})
	})
	return desc, err
}

// resolveAt asks with HEAD, and with GET where the answer to that is not
// enough (no digest, no size, no media type).
func (c *Client) resolveAt(ctx context.Context, e *endpoint, ref name.Ref) (ocispec.Descriptor, error) {
	head := newCall(http.MethodHead, e, ref, "/manifests/"+ref.Identifier(), "pull")
	head.header, head.thing = http.Header{"Accept": {acceptManifests}}, "manifest"
	resp, err := c.do(ctx, e, head)
	if err == nil {
		discard(resp)
		desc, ok, err := describe(resp, ref)
		if ok || err != nil {
			return desc, err
		}
	} else if !headRefused(err) {
		return ocispec.Descriptor{}, err
	}
	data, contentType, err := c.getManifest(ctx, e, ref, ref.Identifier())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType, err := manifestType(contentType, data)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Size: int64(len(data)), Digest: digest.FromBytes(data)}
	if want := ref.Digest(); want != "" {
		if got := want.Algorithm().FromBytes(data); got != want {
			return ocispec.Descriptor{}, dataLoss("the manifest's digest is %s, not %s", got, want)
		}
		desc.Digest = want
	}
	return desc, nil
}

// describe makes a descriptor of the headers alone; ok is false when they do
// not say enough.
func describe(resp *http.Response, ref name.Ref) (desc ocispec.Descriptor, ok bool, err error) {
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !isManifest(mediaType) || resp.ContentLength <= 0 {
		return desc, false, nil
	}
	if mediaType, err = manifestType(mediaType, nil); err != nil {
		return desc, false, err
	}
	if resp.ContentLength > ManifestLimit {
		return desc, false, dataLoss("the manifest has %d bytes, more than the limit of %d", resp.ContentLength, ManifestLimit)
	}
	said, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return desc, false, nil
	}
	if want := ref.Digest(); want != "" && said != want {
		if said.Algorithm() != want.Algorithm() {
			said = want // another name of the same bytes; they are verified when they are fetched
		} else {
			return desc, false, dataLoss("asked for manifest %s, the host answers with %s", want, said)
		}
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: said, Size: resp.ContentLength}, true, nil
}
