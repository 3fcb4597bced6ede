package image

import (
	"archive/tar"
	"context"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/registry/registrytest"
)

// A checkpoint comes back as it was saved, and a collection leaves it alone, with the image that it has.
func TestCheckpoint(t *testing.T) {
	h := newHouse(t, nil)
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	h.pull(t, ref, nil)
	base := must(h.Resolve(t.Context(), ns, ref, "")).Manifest
	changes := func(_ context.Context, w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(&tar.Header{Name: "new", Mode: 0o644, Size: 3}); err != nil {
			return err
		}
		if _, err := tw.Write([]byte("abc")); err != nil {
			return err
		}
		return tw.Close()
	}
	must(h.SaveCheckpoint(t.Context(), ns, "saved", Checkpoint{Record: []byte(`{"a":1}`), Base: &base, Changes: changes}))
	must(h.Delete(t.Context(), ns, ref, false))
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := must(leasesOf(h)); len(left) > 0 {
		t.Errorf("leases stay: %v", left)
	}

	c := must(h.LoadCheckpoint(t.Context(), ns, "saved"))
	if string(c.Record) != `{"a":1}` || c.Base == nil || c.Base.Digest != base.Digest {
		t.Errorf("read back: %s, %v", c.Record, c.Base)
	}
	plain := must(c.Changes(t.Context()))
	defer plain.Close()
	tr := tar.NewReader(plain)
	if header, err := tr.Next(); err != nil || header.Name != "new" {
		t.Fatalf("the changes: %v, %v", header, err)
	}
	if data := must(io.ReadAll(tr)); string(data) != "abc" {
		t.Errorf("the changes have %q", data)
	}
	if _, err := c.Processes(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("processes that were not saved: %v", err)
	}
	named := must(h.NameBase(ns, ref, *c.Base))
	if r := must(h.Resolve(t.Context(), ns, named.Name, "")); r.Manifest.Digest != base.Digest {
		t.Errorf("%s is %s", named.Name, r.Manifest.Digest)
	}
	if _, err := h.LoadCheckpoint(t.Context(), ns, named.Name); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("an image is taken for a checkpoint: %v", err)
	}
}

// What cannot be saved leaves nothing.
func TestCheckpointFails(t *testing.T) {
	h := newHouse(t, nil)
	broken := func(context.Context, io.Writer) error { return io.ErrUnexpectedEOF }
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6}
	for name, c := range map[string]Checkpoint{
		"changes": {Record: []byte("{}"), Changes: broken},
		"base":    {Record: []byte("{}"), Base: &absent},
	} {
		if _, err := h.SaveCheckpoint(t.Context(), ns, "saved", c); err == nil {
			t.Errorf("%s: saved", name)
		}
		must(h.CollectGarbage(t.Context(), CollectOptions{}))
		if left := h.left(t); len(left) != 0 {
			t.Errorf("%s: left: %v", name, left)
		}
	}
}
