package registry

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// shownParameter reports whether a query parameter says something and is no
// secret; signed storage addresses have many that are.
func shownParameter(key string) bool {
	switch key {
	case "ns", "n", "last", "mount", "from", "digest", "scope", "service", "artifactType":
		return true
	}
	return false
}

// trace logs a request and its answer. No header that identifies us is shown,
// only of which kind it is.
func (c *Client) trace(ctx context.Context, req *http.Request, resp *http.Response, err error, held *grant, took time.Duration) {
	if !c.opts.Trace {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", req.Method),
		slog.String("url", shown(req.URL)),
		slog.String("auth", held.kind(req)),
		slog.Duration("took", took.Round(time.Millisecond)),
	}
	if r := req.Header.Get("Range"); r != "" {
		attrs = append(attrs, slog.String("range", r))
	}
	if req.ContentLength > 0 {
		attrs = append(attrs, slog.Int64("sent", req.ContentLength))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", cause(err)))
	}
	if resp != nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode), slog.Int64("length", resp.ContentLength))
		if resp.Request.URL.Host != req.URL.Host {
			attrs = append(attrs, slog.String("redirected", shown(resp.Request.URL)))
		}
		for _, key := range []string{"Content-Type", "Docker-Content-Digest", "Www-Authenticate", "Retry-After", "Ratelimit-Remaining"} {
			if v := resp.Header.Get(key); v != "" {
				attrs = append(attrs, slog.String(strings.ToLower(key), oneLine(v)))
			}
		}
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "registry request", attrs...)
}

// shown is the address without user and with only harmless parameters.
func shown(u *url.URL) string {
	q := u.Query()
	for key := range q {
		if !shownParameter(key) {
			q.Set(key, "***")
		}
	}
	clean := *u
	clean.User, clean.RawQuery = nil, strings.ReplaceAll(q.Encode(), "%2A%2A%2A", "***")
	return clean.String()
}
