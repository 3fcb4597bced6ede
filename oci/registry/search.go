package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Found is a repository that a search has found.
type Found struct {
	Name        string `json:"name"` // without the registry
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// searchHost answers searches of Docker Hub.
const searchHost = "index.docker.io"

// Search asks a registry ("localhost:5000") for the repositories that a term means: by Docker's search (GET /v1/search),
// and where there is none by its catalogue, of which the names that contain the term are taken. At most limit are
// answered.
func (c *Client) Search(ctx context.Context, domain, term string, limit int) ([]Found, error) {
	asked := domain
	if canonicalHost(domain) == canonicalHost(dockerDomain) {
		asked = searchHost
	}
	hosts, err := c.endpointsOf(asked, "", false, CapResolve)
	if err != nil {
		return nil, configError("search", domain, err)
	}
	var page struct {
		Results []Found `json:"results"`
	}
	err = c.failOver(ctx, "search", domain, originFirst(hosts), func(e *endpoint, p patience) error {
		get := &call{
			method: http.MethodGet, url: strings.TrimSuffix(e.url(), "/v2") + "/v1/search", thing: "search",
			query: url.Values{"q": {term}, "n": {fmt.Sprint(limit)}},
		}
		return c.pages(ctx, e, p, get, func(data []byte, _ http.Header) error {
			if err := json.Unmarshal(data, &page); err != nil {
				return &problem{message: "the answer is not a list of results: " + err.Error(), class: errUnusable}
			}
			return nil
		})
	})
	if errdefs.IsNotFound(err) && asked == domain {
		return c.searchCatalog(ctx, domain, term, limit)
	}
	return page.Results[:min(len(page.Results), limit)], err
}

func (c *Client) searchCatalog(ctx context.Context, domain, term string, limit int) ([]Found, error) {
	names, err := c.Catalog(ctx, domain)
	if err != nil {
		return nil, err
	}
	var all []Found
	for _, n := range names {
		if strings.Contains(n, strings.ToLower(term)) && len(all) < limit {
			all = append(all, Found{Name: n})
		}
	}
	return all, nil
}
