package image

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/chunked/chunkedtest"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// chunkedImage is an image of one layer of the kind zstd:chunked.
func chunkedImage(t *testing.T, other map[int]int64) built {
	l := chunkedtest.Make(t, chunkedtest.Files(t, 100, 20000, other))
	platform := oci.Host()
	b := built{layers: [][]byte{l.Blob}, diffIDs: []digest.Digest{l.DiffID}}
	b.config, _ = json.Marshal(ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: b.diffIDs}})
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(b.config), Size: int64(len(b.config))}
	m.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(l.Blob), Size: int64(len(l.Blob)), Annotations: l.Annotations}}
	b.manifest, _ = json.Marshal(m)
	b.desc = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(b.manifest), Size: int64(len(b.manifest)), Platform: &platform}
	return b
}

// TestPullPartially pulls an image of which most is in another one, through what can go wrong with that.
func TestPullPartially(t *testing.T) {
	original, second := chunkedImage(t, nil), chunkedImage(t, map[int]int64{10: 1000, 60: 1001})
	layer := digest.FromBytes(second.layers[0])
	path := "/blobs/" + layer.String()
	whole := int64(len(second.layers[0]))
	for name, row := range map[string]struct {
		options  registrytest.Options
		without  bool // the first image
		of       map[int]int64
		prepare  func(t *testing.T, h *house, r *registrytest.Registry)
		most     int64 // bytes of the layer that are sent
		least    int64
		requests int // at most
	}{
		"two files of a hundred are new": {most: whole / 10, requests: 3},
		"nothing is here":                {without: true, most: whole, least: whole, requests: 1},
		"there is nothing that fits": {of: func() map[int]int64 {
			all := map[int]int64{}
			for i := range 100 {
				all[i] = int64(5000 + i)
			}
			return all
		}(), most: whole + whole/10, least: whole, requests: 2},
		"the configuration says whole": {prepare: func(_ *testing.T, h *house, _ *registrytest.Registry) { h.config.WholePulls = true }, most: whole, least: whole, requests: 1},
		"a host without parts":         {options: registrytest.Options{NoRange: true}, most: 2 * whole, least: whole, requests: 3},
		"a connection is cut": {prepare: func(_ *testing.T, _ *house, r *registrytest.Registry) {
			r.Fail(registrytest.Fault{Path: path, Skip: 1, Times: 1, CutAfter: 1000})
		}, most: whole / 10, requests: 4},
		"a part has wrong bytes": {prepare: func(_ *testing.T, _ *house, r *registrytest.Registry) {
			r.Fail(registrytest.Fault{Path: path, Skip: 1, Times: 1, Corrupt: true})
		}, most: whole + whole/10, least: whole, requests: 4},
		"the end has wrong bytes": {prepare: func(_ *testing.T, _ *house, r *registrytest.Registry) {
			r.Fail(registrytest.Fault{Path: path, Times: 1, Corrupt: true})
		}, most: whole + whole/10, least: whole, requests: 4},
		"what is here is damaged": {prepare: func(t *testing.T, h *house, _ *registrytest.Registry) {
			blob := original.layers[0]
			if err := os.WriteFile(h.Content.Path(digest.FromBytes(blob)), append(bytes.Repeat([]byte{1}, len(blob)/2), blob[len(blob)/2:]...), 0o600); err != nil {
				t.Fatal(err)
			}
		}, most: whole + whole/10, least: whole, requests: 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, row.options)
			first := original
			if row.of != nil {
				first = chunkedImage(t, row.of)
			}
			first.put(r, "a/b", "1")
			second.put(r, "a/b", "2")
			h := newHouse(t, nil)
			if !row.without {
				h.pull(t, r.Host()+"/a/b:1", nil)
			}
			if row.prepare != nil {
				row.prepare(t, h, r)
			}
			sent := r.Sent(layer)
			img := h.pull(t, r.Host()+"/a/b:2", nil)
			if st, err := h.Check(t.Context(), ns, []string{img.Name}, ""); err != nil || st[0].Status != Complete || !st[0].Unpacked {
				t.Errorf("status %+v, %v", st, err)
			}
			if err := h.Content.Verify(t.Context(), layer); err != nil {
				t.Error(err)
			}
			sent = r.Sent(layer) - sent
			if n := r.Count("GET", path); sent > row.most || sent < row.least || n > row.requests {
				t.Errorf("%d of %d bytes by %d requests, want %d to %d by at most %d", sent, whole, n, row.least, row.most, row.requests)
			}
		})
	}
}

// TestPullPartiallyResumed goes on where a pull has ended that put a layer together.
func TestPullPartiallyResumed(t *testing.T) {
	first, second := chunkedImage(t, nil), chunkedImage(t, map[int]int64{10: 1000, 60: 1001, 90: 1002})
	layer := digest.FromBytes(second.layers[0])
	path := "/blobs/" + layer.String()
	r := registrytest.New(t, registrytest.Options{})
	first.put(r, "a/b", "1")
	second.put(r, "a/b", "2")
	h := newHouse(t, nil)
	h.pull(t, r.Host()+"/a/b:1", nil)
	r.Fail(registrytest.Fault{Path: path, Skip: 2, Status: 404})
	if _, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/a/b:2"}, nil); err == nil {
		t.Fatal("a pull without its layer")
	}
	r.Heal()
	before := r.Sent(layer)
	img := h.pull(t, r.Host()+"/a/b:2", nil)
	if st, err := h.Check(t.Context(), ns, []string{img.Name}, ""); err != nil || st[0].Status != Complete {
		t.Errorf("status %+v, %v", st, err)
	}
	if sent := r.Sent(layer) - before; sent > int64(len(second.layers[0])/10) {
		t.Errorf("%d bytes were sent once more", sent)
	}
}

// TestPullPartiallyApart puts a layer together in another process, of what the daemon's content has.
func TestPullPartiallyApart(t *testing.T) {
	first, second := chunkedImage(t, nil), chunkedImage(t, map[int]int64{10: 1000})
	r := registrytest.New(t, registrytest.Options{})
	first.put(r, "a/b", "1")
	second.put(r, "a/b", "2")
	dir := t.TempDir()
	var groups []string
	h, err := open(t.Context(), dir, apartly(dir, &groups))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	for _, tag := range []string{"1", "2"} {
		h.pull(t, r.Host()+"/a/b:"+tag, func(o *PullOptions) { o.Cgroup = "/pulls" })
	}
	if sent := r.Sent(digest.FromBytes(second.layers[0])); sent > int64(len(second.layers[0])/10) || len(groups) != 2 {
		t.Errorf("%d bytes were sent, by processes in %s", sent, groups)
	}
}
