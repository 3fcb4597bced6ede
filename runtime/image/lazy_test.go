package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/mount"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/snapshot"
)

// lazyStore is a snapshotter that can have some layers by itself.
type lazyStore struct {
	snapshot.Snapshotter
	takes  map[string]bool // by chain ID
	fails  error
	wanted []map[string]string
}

func (s *lazyStore) Offer(ctx context.Context, key snapshot.Key, chainID, parent string, wanted, labels map[string]string) (bool, error) {
	s.wanted = append(s.wanted, wanted)
	if s.fails != nil || !s.takes[chainID] {
		return false, s.fails
	}
	mounts, err := s.Prepare(ctx, key, parent, snapshot.Options{})
	if err == nil {
		err = mount.Temp(ctx, mounts, func(root string) error { return os.WriteFile(root+"/lazy", nil, 0o644) })
	}
	kept := map[string]string{snapshot.LazyLabel: "true"}
	maps.Copy(kept, labels)
	if err == nil {
		err = s.Commit(ctx, key.Namespace, chainID, key.Name, kept)
	}
	return err == nil, err
}

// TestLazyPull: the layers that the snapshotter takes, from the lowest up, are not fetched, now or later; the others are.
func TestLazyPull(t *testing.T) {
	image := three()
	ids := oci.ChainIDs(image.diffIDs)
	for _, test := range []struct {
		name    string
		takes   []int
		fails   error
		fetched int // layers
		files   []string
		fatal   bool
	}{
		{"all", []int{0, 1, 2}, nil, 0, []string{"lazy"}, false},
		{"the lowest", []int{0}, nil, 2, []string{"bin/sh", "lazy", "opt/b"}, false},
		{"none", nil, nil, 3, threeFiles, false},
		{"none below", []int{1, 2}, nil, 3, threeFiles, false},
		{"it fails", nil, errdefs.ErrInternal, 3, threeFiles, false},
		{"it does not answer", nil, errdefs.ErrUnavailable, 0, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			lazy := &lazyStore{takes: map[string]bool{}, fails: test.fails}
			for _, i := range test.takes {
				lazy.takes[ids[i].String()] = true
			}
			h := newHouse(t, func(d *Deps) {
				lazy.Snapshotter = d.Snapshotters["native"]
				d.Snapshotters["native"] = lazy
			})
			r := registrytest.New(t, registrytest.Options{})
			image.put(r, "a", "1")
			ref := r.Host() + "/a:1"
			o := PullOptions{Name: ref, Snapshotter: "native"}
			_, err := h.Pull(t.Context(), ns, o, nil)
			if test.fatal {
				if !errdefs.IsUnavailable(err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			fetched := func() (n int) {
				for _, l := range image.layers {
					n += r.Count("GET", "/blobs/"+digest.FromBytes(l).String())
				}
				return n
			}
			if fetched() != test.fetched {
				t.Errorf("%d layers were fetched", fetched())
			}
			if got := h.files(t, "native", ns, ids[2].String()); !slices.Equal(got, test.files) {
				t.Errorf("files %v", got)
			}
			for range 2 {
				if _, err := h.Pull(t.Context(), ns, o, nil); err != nil || fetched() != test.fetched {
					t.Errorf("again: %d layers were fetched, %v", fetched(), err)
				}
			}
			if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
				t.Errorf("problems %v, %v", p, err)
			}
			_, err = h.Unpack(t.Context(), ns, ref, "overlay", "", nil)
			if wants := len(test.takes) > 0 && test.fetched < 3; wants != errdefs.IsNotFound(err) {
				t.Errorf("unpacked for another: %v", err)
			}
		})
	}
}

func TestWhereabouts(t *testing.T) {
	ref, err := name.Parse("example.org/a:1")
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{manifest: "sha256:m"}
	for i := range 100 {
		c.layers = append(c.layers, ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint(i))})
	}
	c.layers[1].Annotations = map[string]string{
		"containerd.io/snapshot/stargz/toc.digest": "sha256:t", "other": "x", "containerd.io/snapshot/large": strings.Repeat("x", maxLabel),
	}
	labels := whereabouts(ref, c, 1)
	for k, v := range labels {
		if len(k)+len(v) > maxLabel {
			t.Errorf("%s has %d bytes", k, len(v))
		}
	}
	if labels["containerd.io/snapshot/stargz/toc.digest"] != "sha256:t" || labels["other"] != "" || labels["containerd.io/snapshot/large"] != "" ||
		labels[imageRefLabel] != "example.org/a:1" || labels[layerDigestLabel] != c.layers[1].Digest.String() || labels[manifestDigestLabel] != "sha256:m" {
		t.Errorf("labels %v", labels)
	}
	if l := labels[imageLayersLabel]; !strings.HasPrefix(l, c.layers[1].Digest.String()+",") || strings.HasSuffix(l, ",") {
		t.Errorf("layers %s", l)
	}
}
