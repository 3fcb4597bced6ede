package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
)

const (
	// pageSize is asked for; registries may give less.
	pageSize = "1000"
	// maxPages ends a list that never does.
	maxPages = 10000
	// pageLimit bounds one page, in bytes.
	pageLimit = 32 << 20
)

// Tags lists the tags of a repository, in the registry's order. The registry
// itself is asked first: a mirror may only know the tags that passed it.
func (c *Client) Tags(ctx context.Context, repository name.Ref) ([]string, error) {
	return c.list(ctx, "list the tags of", repository.Repository(), repository.Domain(), repository.Path(), func(e *endpoint) *call {
		get := newCall(http.MethodGet, e, repository, "/tags/list", "pull")
		get.thing = "repository"
		return get
	})
}

// Catalog lists the repositories of a registry ("localhost:5000"). Public
// registries mostly refuse.
func (c *Client) Catalog(ctx context.Context, domain string) ([]string, error) {
	return c.list(ctx, "list the repositories of", domain, domain, "", func(e *endpoint) *call {
		return &call{method: http.MethodGet, url: e.url() + "/_catalog", scope: "registry:catalog:*", thing: "catalog"}
	})
}

func (c *Client) list(ctx context.Context, stage, object, domain, path string, first func(*endpoint) *call) ([]string, error) {
	hosts, err := c.endpointsOf(domain, path, false, CapResolve)
	if err != nil {
		return nil, configError(stage, object, err)
	}
	var names []string
	err = c.failOver(ctx, stage, object, originFirst(hosts), func(e *endpoint, p patience) error {
		get := first(e)
		get.query = url.Values{"n": {pageSize}}
		names = nil
		return c.pages(ctx, e, p, get, func(page []byte, _ http.Header) error {
			var doc struct{ Tags, Repositories []string }
			if err := json.Unmarshal(page, &doc); err != nil {
				return &problem{message: "the answer is not a list: " + err.Error(), class: errUnusable}
			}
			names = append(append(names, doc.Tags...), doc.Repositories...)
			return nil
		})
	})
	return names, err
}

// originFirst moves the registry itself to the front.
func originFirst(hosts []*endpoint) []*endpoint {
	out := slices.Clone(hosts)
	slices.SortStableFunc(out, func(a, b *endpoint) int {
		switch {
		case a.origin == b.origin:
			return 0
		case a.origin:
			return -1
		}
		return 1
	})
	return out
}

// pages makes a call and follows its Link headers.
func (c *Client) pages(ctx context.Context, e *endpoint, p patience, get *call, take func(page []byte, header http.Header) error) error {
	seen := map[string]bool{}
	for range maxPages {
		var data []byte
		var header http.Header
		var next string
		err := c.retry(ctx, p, func() error {
			resp, err := c.do(ctx, e, get)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			header = resp.Header
			if data, err = readAll(resp.Body, pageLimit, "a page of the list"); err != nil && !errdefs.IsInvalidArgument(err) {
				return connectionError(err, e)
			} else if err != nil {
				return err
			}
			next, err = nextLink(resp, get.url, e)
			return err
		})
		if err != nil {
			return err
		}
		if err := take(data, header); err != nil || next == "" {
			return err
		}
		if seen[next] {
			return &problem{message: "the pages of the list go round in a circle", class: errUnusable}
		}
		seen[next] = true
		again := *get
		again.url, again.query = next, nil
		get = &again
	}
	return fmt.Errorf("the list has more than %d pages: %w", maxPages, errUnusable)
}
