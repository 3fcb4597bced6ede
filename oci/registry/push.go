package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say how a blob is pushed.
type PushOptions struct {
	// MountFrom are repositories of the same registry that may have the blob
	// already: "library/busybox", or with the domain. Others are ignored.
	MountFrom []string
	// ChunkSize splits the upload into requests of this many bytes (more, where
	// the registry wants it); 0 sends one.
	ChunkSize int64
	// Progress is told how many bytes the registry was sent so far; the number
	// goes back when an upload has to be repeated.
	Progress func(sent int64)
}

// Pushed says how much of a push was needed.
type Pushed struct {
	Exists  bool // the repository had the blob
	Mounted bool // another repository of the registry had it
}

// PushBlob brings a blob to the first host that has the capability push (a
// push never fails over). open gives the bytes from an offset on; it may be
// called several times, and not at all.
func (c *Client) PushBlob(ctx context.Context, ref name.Ref, desc ocispec.Descriptor, open func(offset int64) (io.ReadCloser, error), o PushOptions) (Pushed, error) {
	object := "blob " + desc.Digest.String() + " to " + ref.Repository()
	if err := desc.Digest.Validate(); err != nil {
		return Pushed{}, configError("push", object, &problem{message: err.Error(), class: errdefs.ErrInvalidArgument})
	}
	e, err := c.pushHost(ref)
	if err != nil {
		return Pushed{}, configError("push", object, err)
	}
	var pushed Pushed
	err = c.failOver(ctx, "push", object, []*endpoint{e}, func(e *endpoint, p patience) error {
		pushed, err = c.pushBlobTo(ctx, e, p, ref, desc, open, o)
		return err
	})
	return pushed, err
}

func (c *Client) pushHost(ref name.Ref) (*endpoint, error) {
	hosts, err := c.endpoints(ref, CapPush)
	if err != nil {
		return nil, err
	}
	return hosts[0], nil
}

func (c *Client) pushBlobTo(ctx context.Context, e *endpoint, p patience, ref name.Ref, desc ocispec.Descriptor, open func(int64) (io.ReadCloser, error), o PushOptions) (Pushed, error) {
	exists := false
	err := c.retry(ctx, p, func() (err error) {
		exists, err = c.hasBlob(ctx, e, ref, desc.Digest)
		return err
	})
	if err != nil || exists {
		return Pushed{Exists: exists}, err
	}
	for _, from := range mountSources(o.MountFrom, ref) {
		mounted := false
		err := c.retry(ctx, p, func() (err error) {
			mounted, err = c.mountBlob(ctx, e, ref, desc.Digest, from)
			return err
		})
		if err == nil && mounted {
			return Pushed{Mounted: true}, nil
		}
		if ctx.Err() != nil {
			return Pushed{}, err
		}
	}
	u := &upload{c: c, e: e, ref: ref, desc: desc, open: open, options: o}
	return Pushed{}, u.run(ctx, p)
}

// hasBlob asks whether the repository has the blob. Registries that do not
// answer the question are taken to say no.
func (c *Client) hasBlob(ctx context.Context, e *endpoint, ref name.Ref, d digest.Digest) (bool, error) {
	head := newCall(http.MethodHead, e, ref, "/blobs/"+d.String(), "pull,push")
	head.thing = "blob"
	resp, err := c.do(ctx, e, head)
	if err == nil {
		discard(resp)
		return true, nil
	}
	if errdefs.IsNotFound(err) || headRefused(err) {
		return false, nil
	}
	return false, err
}

// mountSources are the paths of the repositories that are in the registry of
// ref, without ref's own.
func mountSources(from []string, ref name.Ref) []string {
	var out []string
	for _, f := range from {
		path, ok := strings.CutPrefix(f, ref.Domain()+"/")
		if r, err := name.ParseRepository(f); !ok && err == nil {
			switch {
			case r.Domain() == ref.Domain():
				path = r.Path()
			case strings.HasPrefix(f, r.Domain()+"/"):
				continue // of another registry
			}
		}
		if path != ref.Path() && path != "" {
			out = append(out, path)
		}
	}
	return out
}

// mountBlob asks the registry to take the blob of another repository. A
// registry that does not starts an upload, which is left to expire.
func (c *Client) mountBlob(ctx context.Context, e *endpoint, ref name.Ref, d digest.Digest, from string) (bool, error) {
	post := newCall(http.MethodPost, e, ref, "/blobs/uploads/", "pull,push")
	post.query = url.Values{"mount": {d.String()}, "from": {from}}
	post.more = []string{"repository:" + from + ":pull"}
	post.want, post.thing = []int{http.StatusCreated, http.StatusAccepted}, "repository"
	resp, err := c.do(ctx, e, post)
	if err != nil {
		return false, err
	}
	discard(resp)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	if location, err := resolveURL(post.url, resp.Header.Get("Location"), e); err == nil {
		c.cancelUpload(ctx, e, ref, location)
	}
	return false, nil
}

// PushManifest puts a manifest or index under the reference's tag, or under
// its digest when there is no tag. desc must describe data. A manifest with a
// subject is added to the subject's referrers tag where the registry does not
// keep referrers itself.
func (c *Client) PushManifest(ctx context.Context, ref name.Ref, desc ocispec.Descriptor, data []byte) error {
	object := "manifest " + ref.String()
	if err := checkManifest(desc, data); err != nil {
		return configError("push", object, err)
	}
	e, err := c.pushHost(ref)
	if err != nil {
		return configError("push", object, err)
	}
	return c.failOver(ctx, "push", object, []*endpoint{e}, func(e *endpoint, p patience) error {
		keeps, err := c.putManifest(ctx, e, p, ref, desc, data)
		if err != nil || keeps {
			return err
		}
		return c.addReferrer(ctx, e, p, ref, desc, data)
	})
}

func checkManifest(desc ocispec.Descriptor, data []byte) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalidArgument)
	}
	if len(data) > ManifestLimit {
		return fmt.Errorf("the manifest has %d bytes, more than the %d that registries accept: %w", len(data), ManifestLimit, errdefs.ErrInvalidArgument)
	}
	return verify(data, desc)
}

// putManifest reports whether the registry took note of the subject itself
// (OCI-Subject), or there is none.
func (c *Client) putManifest(ctx context.Context, e *endpoint, p patience, ref name.Ref, desc ocispec.Descriptor, data []byte) (keepsReferrers bool, err error) {
	identifier := ref.Tag()
	if identifier == "" {
		identifier = desc.Digest.String()
	}
	put := newCall(http.MethodPut, e, ref, "/manifests/"+identifier, "pull,push")
	put.header, put.thing = http.Header{"Content-Type": {desc.MediaType}}, "repository"
	put.size = int64(len(data))
	put.body = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }
	err = c.retry(ctx, p, func() error {
		resp, err := c.do(ctx, e, put)
		if err != nil {
			return err
		}
		discard(resp)
		keepsReferrers = resp.Header.Get("OCI-Subject") != ""
		said, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
		if err == nil && said.Algorithm() == desc.Digest.Algorithm() && said != desc.Digest {
			return dataLoss("the registry stored the manifest as %s, not %s", said, desc.Digest)
		}
		return nil
	})
	return keepsReferrers || subjectOf(data) == nil, err
}

// subjectOf is what a manifest or index refers to, or nil.
func subjectOf(data []byte) *ocispec.Descriptor {
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(data, &m) != nil || m.Subject == nil || m.Subject.Digest.Validate() != nil {
		return nil
	}
	return m.Subject
}
