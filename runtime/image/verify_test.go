package image

import (
	"context"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/registry/registrytest"
)

// refusing refuses every image but those of one name.
type refusing struct {
	accept string
	asked  []string
}

func (r *refusing) Verify(_ context.Context, name string, target ocispec.Descriptor) error {
	r.asked = append(r.asked, name+" "+string(target.Digest.Algorithm()))
	if name == r.accept {
		return nil
	}
	return fmt.Errorf("not signed: %w", errdefs.ErrPermissionDenied)
}

func TestPullVerified(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a/good", "1")
	three().put(r, "a/bad", "1")
	v := &refusing{accept: r.Host() + "/a/good:1"}
	h := newHouse(t, func(d *Deps) { d.Verifier = v })
	for name, bring := range map[string]func() error{
		"pull": func() error {
			_, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/a/bad:1"}, nil)
			return err
		},
		"fetch": func() error {
			_, err := h.Fetch(t.Context(), ns, PullOptions{Name: r.Host() + "/a/bad:1"}, nil)
			return err
		},
	} {
		if err := bring(); !errdefs.IsPermissionDenied(err) {
			t.Errorf("%s: error %v; want a refusal", name, err)
		}
	}
	if n := r.Count("GET", "/blobs/"); n != 0 {
		t.Errorf("%d blobs of a refused image were fetched", n)
	}
	if n, err := h.Count(t.Context()); err != nil || n != 0 {
		t.Errorf("%d images, error %v; want none", n, err)
	}
	if leases, err := h.Leases.Resources(); err != nil || len(leases) != 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
	h.pull(t, v.accept, nil)
	if len(v.asked) != 3 || v.asked[2] != v.accept+" sha256" {
		t.Errorf("asked for %q", v.asked)
	}
}
