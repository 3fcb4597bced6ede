package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest fetches a manifest or index by digest and verifies it. A host whose
// bytes do not have the digest is ErrDataLoss, and the next one is asked.
func (c *Client) Manifest(ctx context.Context, ref name.Ref, desc ocispec.Descriptor) ([]byte, error) {
	object := "manifest " + desc.Digest.String() + " of " + ref.Repository()
	if err := desc.Digest.Validate(); err != nil {
		return nil, configError("fetch", object, &problem{message: err.Error(), class: errdefs.ErrInvalidArgument})
	}
	hosts, err := c.endpoints(ref, CapPull)
	if err != nil {
		return nil, configError("fetch", object, err)
	}
	var data []byte
	err = c.failOver(ctx, "fetch", object, hosts, func(e *endpoint, p patience) error {
		return c.retry(ctx, p, func() error {
			data, _, err = c.getManifest(ctx, e, ref, desc.Digest.String())
			if err != nil {
				return err
			}
			return verify(data, desc)
		})
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

func verify(data []byte, desc ocispec.Descriptor) error {
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return dataLoss("the received bytes have the digest %s, not %s", got, desc.Digest)
	}
	if desc.Size > 0 && int64(len(data)) != desc.Size {
		return dataLoss("%d bytes were received, not %d", len(data), desc.Size)
	}
	return nil
}

// getManifest fetches a manifest of one host by tag or digest. The digest that
// the host claims is checked; whether it is the wanted one is the caller's.
func (c *Client) getManifest(ctx context.Context, e *endpoint, ref name.Ref, identifier string) (data []byte, contentType string, err error) {
	get := newCall(http.MethodGet, e, ref, "/manifests/"+identifier, "pull")
	get.header, get.thing = http.Header{"Accept": {acceptManifests}}, "manifest"
	resp, err := c.do(ctx, e, get)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.ContentLength > ManifestLimit {
		return nil, "", dataLoss("the manifest has %d bytes, more than the limit of %d", resp.ContentLength, ManifestLimit)
	}
	data, err = readAll(resp.Body, ManifestLimit, "the manifest")
	if err != nil {
		if errdefs.IsInvalidArgument(err) {
			return nil, "", dataLoss("%v", err)
		}
		return nil, "", connectionError(err, e)
	}
	said, parseErr := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if parseErr == nil {
		if got := said.Algorithm().FromBytes(data); got != said {
			return nil, "", dataLoss("the manifest is said to be %s, but its digest is %s", said, got)
		}
	}
	return data, resp.Header.Get("Content-Type"), nil
}

// headRefused reports whether a host answered that it does not do HEAD.
func headRefused(err error) bool {
	var status *statusError
	return errors.As(err, &status) && (status.status == http.StatusMethodNotAllowed || status.status == http.StatusNotImplemented || status.status == http.StatusBadRequest)
}

// configError is an operation that ended before a host was asked.
func configError(stage, object string, err error) error {
	return &unasked{stage: stage, object: object, err: err}
}

type unasked struct {
	stage, object string
	err           error
}

func (u *unasked) Error() string { return u.stage + " " + u.object + ": " + u.err.Error() }
func (u *unasked) Unwrap() error { return u.err }
