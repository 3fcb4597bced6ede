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

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fetch opens content (a blob, or a manifest by its media type) at an offset.
// The reader resumes on broken connections with Range requests, and goes on
// with the next host when one fails for good, so a read error is final. It
// ends at desc.Size; 0 means unknown. The bytes are not verified: when their
// digest is wrong, tell Reject, and fetch again from 0.
func (c *Client) Fetch(ctx context.Context, ref name.Ref, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return c.fetch(ctx, ref, desc, offset, desc.Size, false)
}

// FetchPart is Fetch of the bytes from an offset up to an end. A host that does not answer with parts is
// errdefs.ErrNotImplemented, unless the part is the first one: that is read off the whole.
func (c *Client) FetchPart(ctx context.Context, ref name.Ref, desc ocispec.Descriptor, offset, end int64) (io.ReadCloser, error) {
	if end <= offset || end > desc.Size {
		return nil, configError("fetch", desc.Digest.String()+" of "+ref.Repository(), &problem{message: fmt.Sprintf("bytes %d to %d are no part of %d", offset, end, desc.Size), class: errdefs.ErrInvalidArgument})
	}
	return c.fetch(ctx, ref, desc, offset, end, true)
}

func (c *Client) fetch(ctx context.Context, ref name.Ref, desc ocispec.Descriptor, offset, end int64, part bool) (io.ReadCloser, error) {
	b := &blob{c: c, ctx: ctx, ref: ref, desc: desc, offset: offset, end: end, part: part, failure: &Error{Stage: "fetch", Object: desc.Digest.String() + " of " + ref.Repository()}}
	if err := desc.Digest.Validate(); err != nil {
		return nil, configError("fetch", b.failure.Object, &problem{message: err.Error(), class: errdefs.ErrInvalidArgument})
	}
	if offset < 0 || desc.Size > 0 && offset > desc.Size {
		return nil, configError("fetch", b.failure.Object, &problem{message: fmt.Sprintf("offset %d is outside of the %d bytes", offset, desc.Size), class: errdefs.ErrInvalidArgument})
	}
	hosts, err := c.endpoints(ref, CapPull)
	if err != nil {
		return nil, configError("fetch", b.failure.Object, err)
	}
	b.sources = c.sources(hosts, ref, desc)
	if b.complete() {
		return b, nil
	}
	if err := b.open(0); err != nil {
		return nil, err
	}
	return b, nil
}

// Reject says that the content which a Fetch delivered is not what it should
// be: its host is asked last for it from now on.
func (c *Client) Reject(fetched io.ReadCloser) {
	b, ok := fetched.(*blob)
	if !ok || b.at >= len(b.sources) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected[rejection{digest: b.desc.Digest, host: b.sources[b.at].e.url()}] = true
}

// source is one address of some content.
type source struct {
	e   *endpoint
	url string
}

// sources lists where content may be had: the hosts in their order (those whose
// bytes were rejected last), then the addresses of the descriptor itself, which
// layers that may not be distributed have.
func (c *Client) sources(hosts []*endpoint, ref name.Ref, desc ocispec.Descriptor) []source {
	kinds := []string{"/blobs/"}
	if isManifest(desc.MediaType) {
		kinds = []string{"/manifests/", "/blobs/"}
	} else if desc.MediaType == "" {
		kinds = []string{"/blobs/", "/manifests/"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var good, bad []source
	for _, e := range hosts {
		for _, kind := range kinds {
			s := source{e: e, url: e.url() + "/" + e.repository(ref) + kind + desc.Digest.String()}
			if c.rejected[rejection{digest: desc.Digest, host: e.url()}] {
				bad = append(bad, s)
			} else {
				good = append(good, s)
			}
		}
	}
	for _, address := range desc.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			continue
		}
		e := &endpoint{hostConfig: hostConfig{scheme: u.Scheme, host: u.Host}, domain: u.Host, origin: true}
		if c.connect(e) == nil {
			good = append(good, source{e: e, url: address})
		}
	}
	return append(good, bad...)
}

// blob reads content over as many connections as it takes.
type blob struct {
	c       *Client
	ctx     context.Context
	ref     name.Ref
	desc    ocispec.Descriptor
	sources []source
	at      int // the current source
	body    io.ReadCloser
	offset  int64
	end     int64 // where the part ends that is wanted; desc.Size: at the end of all
	part    bool  // a host that sends the whole is of no use
	breaks  int   // broken connections since the last byte
	failure *Error
}

func (b *blob) complete() bool { return b.desc.Size > 0 && b.offset == b.end }

// Host names the host that the bytes come from, for messages.
func (b *blob) Host() string {
	if b.at >= len(b.sources) {
		return ""
	}
	return b.sources[b.at].e.label()
}

// Read implements io.Reader. Errors are *Error or the context's.
func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.complete() {
			return 0, io.EOF
		}
		if b.body == nil {
			return 0, b.failure
		}
		if left := b.end - b.offset; b.desc.Size > 0 && int64(len(p)) > left {
			p = p[:left]
		}
		n, err := b.body.Read(p)
		b.offset += int64(n)
		if n > 0 {
			b.breaks = 0
			return n, nil // an error comes again with the next Read
		}
		if err == nil {
			continue
		}
		if err == io.EOF && b.desc.Size <= 0 {
			return 0, io.EOF
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// resume opens the content again after the connection broke.
func (b *blob) resume(broken error) error {
	b.closeBody()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if errors.Is(broken, io.EOF) {
		broken = io.ErrUnexpectedEOF
	}
	b.breaks++
	s := b.sources[b.at]
	p := b.c.patience(b.at == len(b.sources)-1)
	b.c.log.WarnContext(b.ctx, "a download broke and is resumed", "object", b.failure.Object, "host", s.e.label(), "offset", b.offset, "error", cause(broken))
	if b.breaks >= p.attempts {
		b.failure.add(s.e, &problem{
			message: fmt.Sprintf("%s at byte %d of %d, %d times", cause(broken), b.offset, b.desc.Size, b.breaks),
			class:   errdefs.ErrUnavailable, inner: broken,
		})
		b.breaks = 0
		return b.open(b.at + 1)
	}
	if b.breaks > 1 {
		if err := b.c.sleep(b.ctx, b.c.retries.pause(b.breaks, 0.5)); err != nil {
			return err
		}
	}
	return b.open(b.at)
}

// open connects to the first source from the given one on that answers.
func (b *blob) open(from int) error {
	for b.at = from; b.at < len(b.sources); b.at++ {
		s, last := b.sources[b.at], b.at == len(b.sources)-1
		if err := b.c.passOver(s.e, last); err != nil {
			b.addFailure(s, err)
			continue
		}
		err := b.c.retry(b.ctx, b.c.patience(last), func() error {
			body, err := b.openAt(s)
			b.body = body
			return err
		})
		if err == nil {
			return nil
		}
		b.body = nil
		b.addFailure(s, err)
		b.c.noteOutage(s.e, err)
		if b.ctx.Err() != nil {
			break
		}
	}
	return b.failure
}

// addFailure keeps one line per host: that a manifest is not among the blobs
// either is no news.
func (b *blob) addFailure(s source, err error) {
	hosts := b.failure.Hosts
	if n := len(hosts); n > 0 && hosts[n-1].Host == s.e.label() && errdefs.IsNotFound(err) {
		return
	}
	b.failure.add(s.e, err)
}

// openAt makes one request for the bytes from the offset on.
func (b *blob) openAt(s source) (io.ReadCloser, error) {
	get := &call{method: http.MethodGet, url: s.url, scope: "repository:" + s.e.repository(b.ref) + ":pull", thing: "blob", want: []int{http.StatusOK, http.StatusPartialContent}}
	if strings.Contains(s.url, "/manifests/") {
		get.header, get.thing = http.Header{"Accept": {acceptManifests}}, "manifest"
	}
	if b.offset > 0 || b.end < b.desc.Size {
		if get.header == nil {
			get.header = http.Header{}
		}
		wanted := "bytes=" + strconv.FormatInt(b.offset, 10) + "-"
		if b.end < b.desc.Size {
			wanted += strconv.FormatInt(b.end-1, 10)
		}
		get.header.Set("Range", wanted)
	}
	resp, err := b.c.do(b.ctx, s.e, get)
	if err != nil {
		return nil, err
	}
	skip, err := placement(resp, b.offset, b.desc.Size)
	if err == nil && skip > 0 && b.part {
		err = &problem{message: "the host does not answer with parts", class: errdefs.ErrNotImplemented}
	}
	if err == nil && skip > 0 {
		if _, err = io.CopyN(io.Discard, resp.Body, skip); err != nil {
			err = connectionError(err, s.e)
		}
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// placement decides how many bytes of an answer come before the offset. An
// answer that is of other content or of another part of it is ErrDataLoss.
func placement(resp *http.Response, offset, size int64) (skip int64, err error) {
	if resp.StatusCode == http.StatusOK {
		if size > 0 && resp.ContentLength >= 0 && resp.ContentLength != size {
			return 0, dataLoss("the host has %d bytes of it, %d are expected", resp.ContentLength, size)
		}
		return offset, nil
	}
	first, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return 0, err
	case first != offset:
		return 0, dataLoss("asked for the bytes from %d on, the host answers from %d", offset, first)
	case size > 0 && total >= 0 && total != size:
		return 0, dataLoss("the host has %d bytes of it, %d are expected", total, size)
	}
	return 0, nil
}

// parseContentRange reads "bytes 5-9/10" (RFC 9110 section 14.4); total is -1
// for "*".
func parseContentRange(s string) (first, total int64, err error) {
	bad := dataLoss("Content-Range %q is not understood", oneLine(s))
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, whole, ok2 := strings.Cut(rest, "/")
	from, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, bad
	}
	if first, err = strconv.ParseInt(strings.TrimSpace(from), 10, 64); err != nil || first < 0 {
		return 0, 0, bad
	}
	if whole == "*" {
		return first, -1, nil
	}
	if total, err = strconv.ParseInt(strings.TrimSpace(whole), 10, 64); err != nil || total <= first {
		return 0, 0, bad
	}
	return first, total, nil
}

func (b *blob) closeBody() {
	if b.body != nil {
		_ = b.body.Close()
		b.body = nil
	}
}

// Close ends the download.
func (b *blob) Close() error {
	b.closeBody()
	return nil
}
