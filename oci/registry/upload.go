package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// upload brings the bytes of one blob to one host. The session lives at the
// registry: location is where it goes on, offset how much of it is there.
type upload struct {
	c        *Client
	e        *endpoint
	ref      name.Ref
	desc     ocispec.Descriptor
	open     func(offset int64) (io.ReadCloser, error)
	options  PushOptions
	location string
	offset   int64
	minChunk int64 // what the registry wants a chunk to have at least
}

// run sends until the blob is whole: after a broken connection it asks the
// registry how far it is and goes on there, or starts again.
func (u *upload) run(ctx context.Context, p patience) error {
	for failed := 1; ; failed++ {
		before := u.offset
		err := u.begin(ctx)
		if err == nil {
			err = u.send(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if u.offset > before {
			failed = 1
		}
		asked, again := p.judge(err, failed)
		if !again && !(u.lostSession(err) && failed < p.attempts) {
			return err
		}
		u.c.log.WarnContext(ctx, "an upload broke and is resumed", "digest", u.desc.Digest, "host", u.e.label(), "offset", u.offset, "error", err)
		if err := u.c.sleep(ctx, max(asked, u.c.retries.pause(failed, 0.5))); err != nil {
			return err
		}
		u.resync(ctx)
	}
}

// begin starts a session when there is none.
func (u *upload) begin(ctx context.Context) error {
	if u.location != "" {
		return nil
	}
	post := newCall(http.MethodPost, u.e, u.ref, "/blobs/uploads/", "pull,push")
	post.want, post.thing = []int{http.StatusAccepted}, "repository"
	resp, err := u.c.do(ctx, u.e, post)
	if err != nil {
		return err
	}
	discard(resp)
	u.offset = 0
	u.minChunk, _ = strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	u.location, err = resolveURL(post.url, resp.Header.Get("Location"), u.e)
	return err
}

// send brings what is missing and closes the session.
func (u *upload) send(ctx context.Context) error {
	if u.offset == 0 && u.options.ChunkSize <= 0 {
		return u.finish(ctx, 0, u.desc.Size)
	}
	for u.offset < u.desc.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.finish(ctx, u.offset, 0)
}

// patch sends one chunk.
func (u *upload) patch(ctx context.Context) error {
	size := u.desc.Size - u.offset
	if chunk := max(u.options.ChunkSize, u.minChunk); u.options.ChunkSize > 0 && chunk < size {
		size = chunk
	}
	end := u.offset + size
	patch := u.call(http.MethodPatch, u.offset, size)
	patch.want = []int{http.StatusAccepted, http.StatusNoContent}
	patch.header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, end-1))
	resp, err := u.c.do(ctx, u.e, patch)
	if err != nil {
		return err
	}
	discard(resp)
	return u.moveTo(resp, end)
}

// moveTo takes the session's next place from an answer. What the registry has
// may be less than what it was sent.
func (u *upload) moveTo(resp *http.Response, sent int64) error {
	if l := resp.Header.Get("Location"); l != "" {
		location, err := resolveURL(u.location, l, u.e)
		if err != nil {
			return err
		}
		u.location = location
	}
	u.offset = sent
	if has, ok := parseUploadRange(resp.Header.Get("Range")); ok && has < sent && sent > 1 {
		u.offset = has
	}
	return nil
}

// finish names the digest, sending the last bytes with it.
func (u *upload) finish(ctx context.Context, offset, size int64) error {
	put := u.call(http.MethodPut, offset, size)
	put.want = []int{http.StatusCreated, http.StatusNoContent}
	put.query = url.Values{"digest": {u.desc.Digest.String()}}
	resp, err := u.c.do(ctx, u.e, put)
	if err != nil {
		return err
	}
	discard(resp)
	u.report(u.desc.Size)
	return nil
}

// call is a request of the session that sends the bytes from offset on.
func (u *upload) call(method string, offset, size int64) *call {
	return &call{
		method: method, url: u.location, scope: "repository:" + u.e.repository(u.ref) + ":pull,push", thing: "upload",
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		size:   size,
		body: func() (io.ReadCloser, error) {
			r, err := u.open(offset)
			if err != nil {
				return nil, &problem{message: "read the blob to push: " + err.Error(), class: errdefs.ErrFailedPrecondition}
			}
			return &countedBody{Reader: io.LimitReader(r, size), Closer: r, sent: offset, report: u.report}, nil
		},
	}
}

func (u *upload) report(sent int64) {
	if u.options.Progress != nil {
		u.options.Progress(sent)
	}
}

// lostSession reports whether the registry does not go on with the session, so
// that another one may do better: it is unknown, or at another offset.
func (u *upload) lostSession(err error) bool {
	var status *statusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.status {
	case http.StatusNotFound:
		return u.location != ""
	case http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return status.code == "BLOB_UPLOAD_INVALID" || status.code == "BLOB_UPLOAD_UNKNOWN"
}

// resync asks how much of the upload is there. Without an answer, a new
// session begins.
func (u *upload) resync(ctx context.Context) {
	if u.location == "" {
		return
	}
	get := u.call(http.MethodGet, 0, 0)
	get.body, get.header = nil, nil
	get.want = []int{http.StatusNoContent, http.StatusAccepted, http.StatusOK}
	resp, err := u.c.do(ctx, u.e, get)
	if err == nil {
		discard(resp)
		has, ok := parseUploadRange(resp.Header.Get("Range"))
		if ok && has > 0 && has <= u.desc.Size && u.moveTo(resp, has) == nil {
			return
		}
	}
	u.location, u.offset = "", 0
}

// parseUploadRange reads "0-99" (also "bytes=0-99"): 100 bytes are there.
// Registries write "0-0" for one byte and for none; none is assumed.
func parseUploadRange(s string) (has int64, ok bool) {
	first, last, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(s), "bytes="), "-")
	end, err := strconv.ParseInt(last, 10, 63)
	if !found || first != "0" || err != nil || end < 0 {
		return 0, false
	}
	if end == 0 {
		return 0, true
	}
	return end + 1, true
}

// cancelUpload ends a session that is not used; it would expire by itself.
func (c *Client) cancelUpload(ctx context.Context, e *endpoint, ref name.Ref, location string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	del := &call{method: http.MethodDelete, url: location, scope: "repository:" + e.repository(ref) + ":pull,push"}
	if resp, err := c.do(ctx, e, del); err == nil {
		discard(resp)
	}
}

// countedBody tells how many bytes were read of it.
type countedBody struct {
	io.Reader
	io.Closer
	sent   int64
	report func(int64)
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if n > 0 {
		b.sent += int64(n)
		b.report(b.sent)
	}
	return n, err
}
