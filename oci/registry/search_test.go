package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestSearch(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"num_results":2,"results":[{"name":"%s/a","star_count":3,"is_official":true,"description":"an a"},{"name":"b"}]}`, r.URL.Query().Get("q"))
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	got, err := client(t, Options{}, nil).Search(t.Context(), host, "web", 1)
	if err != nil || len(got) != 1 || got[0] != (Found{Name: "web/a", Description: "an a", Stars: 3, Official: true}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSearchOfACatalogue(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	for _, repo := range []string{"busybox", "team/busy", "other"} {
		r.PutImage(repo, "1", nil)
	}
	got, err := client(t, Options{}, nil).Search(t.Context(), r.Host(), "Busy", 25)
	if err != nil || len(got) != 2 || got[0].Name != "busybox" || got[1].Name != "team/busy" {
		t.Errorf("%+v, %v", got, err)
	}
	r.Fail(registrytest.Fault{Status: 403})
	if _, err := client(t, Options{}, nil).Search(t.Context(), r.Host(), "busy", 25); !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v", err)
	}
}
