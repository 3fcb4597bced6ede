package registry

import (
	"fmt"

	"github.com/minirt/mini/oci/name"
)

// HostPlan is one host that would be asked for a reference.
type HostPlan struct {
	URL          string     // the API's root, https://host/v2
	Mirror       bool       // not the registry itself
	Capabilities Capability // what it is asked for
	SkipVerify   bool       // its certificate is not verified
	HTTPFallback bool       // plain HTTP is spoken when it does not speak HTTPS
	Source       string     // the file or directory that says so; "" for the built-in default
	Credentials  string     // where credentials come from, never the secret
	Why          string     // for a person
	Problem      string     // what is wrong with the configuration; then the other fields may be empty
}

// Explain says which hosts would be asked for a reference, in order, and why.
// Nothing is contacted and no credential helper is run. A configuration that
// cannot be read is a plan with a Problem.
func (c *Client) Explain(ref name.Ref) []HostPlan {
	all, source, err := c.planned(ref.Domain(), ref.Path(), ref.Digest() != "")
	if err != nil {
		return []HostPlan{{Source: source, Problem: err.Error(), Why: "no request is made before this is mended"}}
	}
	var out []HostPlan
	for _, e := range all {
		p := HostPlan{
			URL: e.url(), Mirror: !e.origin, Capabilities: e.capabilities, Source: e.source,
			SkipVerify: e.skipVerify != nil && *e.skipVerify, HTTPFallback: e.fallback, Why: e.why(),
		}
		login, err := c.findLogin(e)
		p.Credentials = login.describe()
		if err != nil {
			p.Problem = err.Error()
		} else if err := c.connect(e); err != nil {
			p.Problem = err.Error()
		}
		out = append(out, p)
	}
	return out
}

func (e *endpoint) why() string {
	switch {
	case !e.origin:
		return fmt.Sprintf("mirror of %s in %s", e.domain, e.source)
	case e.source == "":
		return fmt.Sprintf("the registry of %s; no hosts directory configures it", e.domain)
	case e.host == hostOf(e.domain):
		return fmt.Sprintf("the registry of %s, configured by %s", e.domain, e.source)
	default:
		return fmt.Sprintf("server for %s in %s", e.domain, e.source)
	}
}
