package image

import (
	"os"
	"testing"

	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestCheckStatuses(t *testing.T) {
	img := three()
	layer, config := digestFrom(img.layers[2]), digestFrom(img.config)
	for _, c := range []struct {
		name    string
		spoil   func(h *house) error
		status  string
		present int
	}{
		{"whole", func(*house) error { return nil }, Complete, 5},
		{"without a layer", func(h *house) error { return h.content.Delete(t.Context(), layer) }, Incomplete, 4},
		{"without a config", func(h *house) error { return h.content.Delete(t.Context(), config) }, Incomplete, 4},
		{"cut layer", func(h *house) error { return os.Truncate(h.content.Path(layer), 3) }, Corrupt, 4},
		{"spoilt manifest", func(h *house) error {
			return os.WriteFile(h.content.Path(img.desc.Digest), make([]byte, img.desc.Size), 0o600)
		}, Corrupt, 1},
		{"without a manifest", func(h *house) error { return h.content.Delete(t.Context(), img.desc.Digest) }, Missing, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
			img.put(r, "a", "1")
			h.pull(t, r.Host()+"/a:1", nil)
			if err := c.spoil(h); err != nil {
				t.Fatal(err)
			}
			st := must(h.Check(t.Context(), ns, nil, ""))
			if st[0].Status != c.status || st[0].Present != c.present || (st[0].Problem == "") != (c.status == Complete) {
				t.Errorf("%s, %d present, %q", st[0].Status, st[0].Present, st[0].Problem)
			}
			// A broken image neither stops a collection nor loses what is left of it, and the next pull mends it.
			collected, err := h.CollectGarbage(t.Context(), CollectOptions{})
			if err != nil {
				t.Error(err)
			}
			if c.status == Incomplete && c.name == "without a layer" && len(collected.Blobs)+len(collected.Snapshots) != 0 {
				t.Errorf("collected %+v", collected)
			}
			h.pull(t, r.Host()+"/a:1", nil)
			if st := must(h.Check(t.Context(), ns, nil, "")); st[0].Status != Complete {
				t.Errorf("after pulling again: %+v", st[0])
			}
		})
	}
}
