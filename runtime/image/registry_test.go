package image

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/internal/testenv"
	oci "github.com/minirt/mini/oci/image"
)

// Images made by other tools, from a registry of another make: pulled on both snapshotters, pushed, exported, imported.
func TestRealImages(t *testing.T) {
	testenv.Root(t)
	testenv.Long(t)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	h, other := newHouse(t, nil), newHouse(t, nil)
	for _, info := range testenv.Images(t) {
		t.Run(info.Repo, func(t *testing.T) {
			ref := r.Address + "/" + info.Repo + ":" + info.Tag
			img, err := h.Pull(t.Context(), ns, PullOptions{Name: ref}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if img.Target.Digest.String() != info.Digest || img.Target.MediaType != info.MediaType {
				t.Errorf("target %+v, want %s", img.Target, info.Digest)
			}
			if len(info.DiffIDs) == 0 {
				return // an artifact
			}
			var want []digest.Digest
			for _, d := range info.DiffIDs {
				want = append(want, digest.Digest(d))
			}
			res := must(h.Resolve(t.Context(), ns, ref, ""))
			if res.ChainID != oci.ChainID(want).String() || !res.Unpacked {
				t.Errorf("chain %s, unpacked %v", res.ChainID, res.Unpacked)
			}
			if info.Size < 100<<20 { // native copies every layer into the next one
				if _, err := h.Unpack(t.Context(), ns, ref, "native", "", nil); err != nil {
					t.Error(err)
				}
				over, copies := h.files(t, "overlay", ns, res.ChainID), h.files(t, "native", ns, res.ChainID)
				if len(over) == 0 || len(over) != len(copies) {
					t.Errorf("%d files in the overlay, %d in the copy", len(over), len(copies))
				}
			}
			if _, err := h.Push(t.Context(), ns, PushOptions{Name: r.Address + "/pushed/" + info.Repo + ":1", Source: ref}, nil); err != nil {
				t.Error(err)
			}
			var data bytes.Buffer
			if err := h.Export(t.Context(), ns, &data, ExportOptions{Names: []string{ref}}); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Import(t.Context(), ns, &data, ImportOptions{}); err != nil {
				t.Error(err)
			}
			if !must(other.Resolve(t.Context(), ns, ref, "")).Unpacked {
				t.Error("imported and not unpacked")
			}
		})
	}
	if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
		t.Errorf("problems %+v, %v", p, err)
	}
}
