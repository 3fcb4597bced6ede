package image

import (
	"context"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// large is an image of one layer of about a megabyte that does not compress.
func large() built {
	data := make([]byte, 1<<20)
	random := rand.New(rand.NewSource(1))
	_, _ = random.Read(data)
	return build(oci.Host(), layerTar(entry{"data", string(data)}))
}

// TestPullInParts fetches a layer by several requests, through what can go wrong with them.
func TestPullInParts(t *testing.T) {
	big := large()
	path := "/blobs/" + big.desc.Digest.Algorithm().FromBytes(big.layers[0]).String()
	for name, row := range map[string]struct {
		options  registrytest.Options
		fault    *registrytest.Fault
		requests int // at least
	}{
		"parts":                  {registrytest.Options{}, nil, 9},
		"a host without parts":   {registrytest.Options{NoRange: true}, nil, 2},
		"a connection is cut":    {registrytest.Options{}, &registrytest.Fault{Path: path, Skip: 3, Times: 1, CutAfter: 1000}, 10},
		"a part has wrong bytes": {registrytest.Options{}, &registrytest.Fault{Path: path, Skip: 2, Times: 1, Corrupt: true}, 18},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, row.options)
			big.put(r, "a/b", "1")
			if row.fault != nil {
				r.Fail(*row.fault)
			}
			h := newHouse(t, func(d *Deps) { d.Config.PartSize = 128 << 10 })
			img := h.pull(t, r.Host()+"/a/b:1", nil)
			if st, err := h.Check(t.Context(), ns, []string{img.Name}, ""); err != nil || st[0].Status != Complete || !st[0].Unpacked {
				t.Errorf("status %+v, %v", st, err)
			}
			if n := r.Count("GET", path); n < row.requests {
				t.Errorf("%d requests for the layer, want at least %d", n, row.requests)
			}
		})
	}
}

// TestPullProgressTimeout pulls from a registry that falls silent.
func TestPullProgressTimeout(t *testing.T) {
	big := large()
	path := "/blobs/" + big.desc.Digest.Algorithm().FromBytes(big.layers[0]).String()
	r := registrytest.New(t, registrytest.Options{})
	big.put(r, "a/b", "1")
	r.Fail(registrytest.Fault{Path: path, Hang: time.Hour})
	h := newHouse(t, func(d *Deps) {
		d.Config.ProgressTimeout = 50 * time.Millisecond
		d.NewRegistry = func(RegistryOptions) Registry {
			return registry.New(registry.Options{Override: &registry.HostOverride{PlainHTTP: true}, DockerConfig: "/nonexistent"})
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := h.Pull(ctx, ns, PullOptions{Name: r.Host() + "/a/b:1"}, nil)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no byte of it has arrived for 50ms") || !strings.Contains(err.Error(), path[len("/blobs/"):]) {
		t.Errorf("error %v, want one that names the layer", err)
	}
	r.Heal()
	h.config.ProgressTimeout = time.Minute
	h.pull(t, r.Host()+"/a/b:1", nil)
}

// TestPullShortName pulls a name without a registry from the one of several that has it, and finds it by that name again.
func TestPullShortName(t *testing.T) {
	empty, r := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	three().put(r, "tool", "latest")
	h := newHouse(t, func(d *Deps) {
		d.ShortNames = func(ref string) ([]string, error) {
			if ref != "tool" {
				return nil, nil
			}
			return []string{empty.Host() + "/tool:latest", r.Host() + "/tool:latest"}, nil
		}
	})
	img := h.pull(t, "tool", nil)
	if img.Name != r.Host()+"/tool:latest" {
		t.Errorf("pulled %s", img.Name)
	}
	if got, err := h.Get(t.Context(), ns, "tool"); err != nil || got.Name != img.Name {
		t.Errorf("found %q, %v", got.Name, err)
	}
	r.Fail(registrytest.Fault{Path: "/manifests/", Status: 404})
	if _, err := h.Pull(t.Context(), ns, PullOptions{Name: "tool"}, nil); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), empty.Host()) || !strings.Contains(err.Error(), r.Host()) {
		t.Errorf("error %v, want one that names both", err)
	}
}
