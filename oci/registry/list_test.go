package registry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestTags(t *testing.T) {
	for _, page := range []int{0, 1, 3, 7} {
		r := registrytest.New(t, registrytest.Options{PageSize: page, Auth: "token", Username: "u", Password: "p"})
		for i := range 7 {
			r.PutImage("a/b", fmt.Sprint("v", i), nil)
		}
		got, err := client(t, given("u", "p"), nil).Tags(t.Context(), ref(t, r, "a/b"))
		if err != nil || strings.Join(got, " ") != "v0 v1 v2 v3 v4 v5 v6" {
			t.Errorf("page %d: got %v, %v", page, got, err)
		}
	}
	r := registrytest.New(t, registrytest.Options{})
	_, err := client(t, Options{}, nil).Tags(t.Context(), ref(t, r, "absent"))
	fails(t, err, errdefs.ErrNotFound, "list the tags of "+r.Host()+"/absent", "404")
}

func TestCatalog(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{PageSize: 2, Auth: "token", Username: "u", Password: "p"})
	for _, repo := range []string{"a", "b/c", "d"} {
		r.PutImage(repo, "1", nil)
	}
	got, err := client(t, given("u", "p"), nil).Catalog(t.Context(), r.Host())
	if err != nil || strings.Join(got, " ") != "a b/c d" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTagsAreTheRegistrys(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	mirror.PutImage("a", "cached", nil)
	origin.PutImage("a", "new", nil)
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	if got, err := c.Tags(t.Context(), parseRef(t, "reg.example/a")); err != nil || strings.Join(got, " ") != "new" {
		t.Errorf("got %v, %v", got, err)
	}
	mirror.Fail(registrytest.Fault{Status: 503})
	_, err := c.Tags(t.Context(), parseRef(t, "reg.example/absent"))
	fails(t, err, errdefs.ErrNotFound, origin.URL()+": 404", "mirror "+mirror.URL()+": 503")
	mirror.Heal()
	origin.Stop()
	if got, err := c.Tags(t.Context(), parseRef(t, "reg.example/a")); err != nil || strings.Join(got, " ") != "cached" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPagesInACircle(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.PutImage("a", "1", nil)
	link := http.Header{"Link": {`</v2/a/tags/list?last=1>; rel="next"`}}
	r.Fail(registrytest.Fault{Path: "/tags/", Header: link})
	_, err := client(t, Options{}, nil).Tags(t.Context(), ref(t, r, "a"))
	fails(t, err, errdefs.ErrUnavailable, "circle")
}

func TestNextPageOnAnotherHost(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.PutImage("a", "1", nil)
	r.Fail(registrytest.Fault{Path: "/tags/", Header: http.Header{"Link": {`<http://127.0.0.1:1/v2/x>; rel="next"`}}})
	_, err := client(t, Options{}, nil).Tags(t.Context(), ref(t, r, "a"))
	fails(t, err, errdefs.ErrUnavailable, "another host")
}

func TestNextLink(t *testing.T) {
	e := &endpoint{hostConfig: hostConfig{scheme: "https", host: "reg", path: "/v2"}}
	for in, want := range map[string]string{
		"":                                     "",
		`</v2/a?n=1>; rel="next"`:              "https://reg/v2/a?n=1",
		`</v2/p>; rel=prev, </v2/n>; Rel=next`: "https://reg/v2/n",
		`</v2/n>; title="x"; rel="next"`:       "https://reg/v2/n",
		`</v2/n>`:                              "",
		`/v2/n; rel="next"`:                    "",
	} {
		got, err := nextLink(&http.Response{Header: http.Header{"Link": {in}}}, "https://reg/v2/a", e)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</v2/p>; rel=prev, </v2/n>; rel="next"`)
	f.Add(`<//evil/n>; rel=next`)
	f.Fuzz(func(t *testing.T, link string) {
		e := &endpoint{hostConfig: hostConfig{scheme: "https", host: "reg", path: "/v2"}}
		got, err := nextLink(&http.Response{Header: http.Header{"Link": {link}}}, "https://reg/v2/a", e)
		if err == nil && got != "" && !strings.HasPrefix(got, "https://reg/") && !strings.HasPrefix(got, "https://reg:443") && !strings.HasPrefix(got, "https://reg?") && !strings.Contains(got, "@reg") && got != "https://reg" {
			t.Errorf("%q leads to %q", link, got)
		}
	})
}
