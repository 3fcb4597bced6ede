package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// call is one request of the protocol.
type call struct {
	method string
	url    string // absolute
	query  url.Values
	header http.Header
	// body opens the bytes to send, each time from the same place; size is their number.
	body func() (io.ReadCloser, error)
	size int64
	// scope is what authorisation is wanted for; more are further scopes that a
	// token must have, which the registry does not ask for by itself.
	scope string
	more  []string
	want  []int  // statuses that are a success; none: any 2xx
	thing string // what a 404 is about: "manifest", "blob"
}

// do makes a call once, with authorisation: an answer 401 is met with a token
// or a login, and asked again. Other answers than the wanted ones are
// *statusError; the body of a good answer must be closed.
func (c *Client) do(ctx context.Context, e *endpoint, call *call) (*http.Response, error) {
	held := c.auth.known(e, call)
	for renewed := 0; ; renewed++ {
		resp, err := c.send(ctx, e, call, held)
		if err != nil {
			return nil, err
		}
		if good(resp.StatusCode, call.want) {
			return resp, nil
		}
		asked := resp.StatusCode == http.StatusUnauthorized && sameHost(resp.Request.URL, mustParse(call.url))
		if !asked {
			return nil, answerError(resp, call.thing, time.Now())
		}
		challenges := parseChallenges(resp.Header.Values("WWW-Authenticate"))
		refusal := answerError(resp, call.thing, time.Now())
		fresh, err := c.renew(ctx, e, call, held, challenges, refusal, renewed)
		if err != nil {
			return nil, err
		}
		held = fresh
	}
}

// mustParse is for URLs that were parsed before; a bad one matches no host.
func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		return &url.URL{}
	}
	return u
}

func good(status int, want []int) bool {
	if len(want) == 0 {
		return status >= 200 && status < 300
	}
	return slices.Contains(want, status)
}

// send makes one HTTP request. The connection is given up when nothing moves
// for Retry.Stall, in either direction.
func (c *Client) send(ctx context.Context, e *endpoint, call *call, held *grant) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch := newWatch(c.retries.Stall, func() { cancel(errStalled) })
	req, err := call.request(ctx, e, watch)
	if err != nil {
		watch.pause()
		cancel(nil)
		return nil, err
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if held != nil && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", held.header)
	}
	start := time.Now()
	resp, err := e.client.Do(req)
	watch.pause()
	c.trace(ctx, req, resp, err, held, time.Since(start))
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, connectionError(err, e)
	}
	resp.Body = &watchedBody{body: resp.Body, ctx: ctx, cancel: cancel, watch: watch}
	return resp, nil
}

// request builds the HTTP request. Headers of hosts.toml and the ns parameter
// go only to the host they were written for.
func (call *call) request(ctx context.Context, e *endpoint, w *watch) (*http.Request, error) {
	u, err := url.Parse(call.url)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", call.url, err)
	}
	own := u.Scheme == e.scheme && u.Host == e.host
	q := u.Query()
	for key, values := range call.query {
		q[key] = values
	}
	if ns := e.ns(); own && ns != "" && strings.HasPrefix(u.Path, e.path+"/") {
		q.Set("ns", ns)
	}
	if len(q) > len(u.Query()) {
		u.RawQuery = q.Encode() // left alone otherwise: it may be signed
	}
	req, err := http.NewRequestWithContext(ctx, call.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range call.header {
		req.Header[key] = values
	}
	if own {
		for key, values := range e.header {
			req.Header[http.CanonicalHeaderKey(key)] = values
		}
	}
	if call.body == nil {
		return req, nil
	}
	if call.size == 0 {
		req.Body = http.NoBody
		return req, nil
	}
	req.GetBody = func() (io.ReadCloser, error) {
		body, err := call.body()
		if err != nil {
			return nil, err
		}
		return &sentBody{body: body, watch: w}, nil
	}
	req.ContentLength = call.size
	req.Body, err = req.GetBody()
	return req, err
}

// watch calls back when nothing has moved for a time.
type watch struct {
	timer *time.Timer
	limit time.Duration
}

func newWatch(limit time.Duration, expired func()) *watch {
	return &watch{timer: time.AfterFunc(limit, expired), limit: limit}
}

func (w *watch) moved()                  { w.timer.Reset(w.limit) }
func (w *watch) patient(n time.Duration) { w.timer.Reset(n * w.limit) }
func (w *watch) pause()                  { w.timer.Stop() }

// watchedBody is an answer's body; silence while it is read ends it.
type watchedBody struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.moved()
	n, err := b.body.Read(p)
	b.watch.pause()
	if err != nil && err != io.EOF && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watch.pause()
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// sentBody is a request's body. When it is at its end the registry may need
// long to store and verify it.
type sentBody struct {
	body  io.ReadCloser
	watch *watch
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.watch.patient(10)
	} else {
		b.watch.moved()
	}
	return n, err
}

func (b *sentBody) Close() error { return b.body.Close() }

// resolveURL makes a Location or Link absolute. A registry behind a proxy that
// ends TLS may say http of itself; that is mended.
func resolveURL(base, location string, e *endpoint) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(location)
	if err != nil || location == "" {
		return "", &problem{message: fmt.Sprintf("the registry gave no usable location (%q)", oneLine(location)), class: errUnusable}
	}
	if u.Scheme == "http" && e.scheme == "https" && u.Hostname() == b.Hostname() && (u.Host == e.host || u.Port() == "") {
		u.Scheme, u.Host = e.scheme, e.host
	}
	return u.String(), nil
}

// nextLink reads the next page's address of a Link header (RFC 8288), which
// must be on the same host: the login goes with it.
func nextLink(resp *http.Response, base string, e *endpoint) (string, error) {
	for _, value := range resp.Header.Values("Link") {
		for _, link := range strings.Split(value, ",") {
			target, params, _ := strings.Cut(link, ";")
			target = strings.TrimSpace(target)
			if !strings.HasPrefix(target, "<") || !strings.HasSuffix(target, ">") || !isNext(params) {
				continue
			}
			next, err := resolveURL(base, strings.Trim(target, "<>"), e)
			if err != nil {
				return "", err
			}
			if !sameHost(mustParse(next), mustParse(e.url())) {
				return "", &problem{message: "the next page is said to be on another host: " + oneLine(next), class: errUnusable}
			}
			return next, nil
		}
	}
	return "", nil
}

func isNext(params string) bool {
	for _, p := range strings.Split(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(key, "rel") && strings.Trim(value, `"`) == "next" {
			return true
		}
	}
	return false
}
