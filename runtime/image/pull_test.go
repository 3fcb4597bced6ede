package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/snapshot"
)

func TestPull(t *testing.T) {
	for _, snapshotter := range []string{"overlay", "native"} {
		t.Run(snapshotter, func(t *testing.T) {
			h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
			three().put(r, "a/b", "1")
			var mu sync.Mutex
			stages := map[string]bool{}
			var last Progress
			img, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/a/b:1", Snapshotter: snapshotter, Labels: map[string]string{"x": "y"}}, func(p Progress) {
				mu.Lock()
				defer mu.Unlock()
				stages[p.Kind+" "+p.Stage] = true
				last = p
			})
			if err != nil {
				t.Fatal(err)
			}
			if img.Name != r.Host()+"/a/b:1" || img.Labels["x"] != "y" || last.Image == nil || last.Stage != StageDone {
				t.Errorf("image %+v, last progress %+v", img, last)
			}
			for _, want := range []string{"image resolving", "manifest fetching", "config done", "layer done", "image done"} {
				if !stages[want] {
					t.Errorf("no progress %q in %v", want, stages)
				}
			}
			res, err := h.Resolve(t.Context(), ns, img.Name, "")
			if err != nil || res.ChainID != oci.ChainID(three().diffIDs).String() || res.Config.Config.Cmd[0] != "/bin/sh" {
				t.Fatalf("resolved %+v, %v", res, err)
			}
			if got := h.files(t, snapshotter, ns, res.ChainID); !slices.Equal(got, threeFiles) {
				t.Errorf("files %v", got)
			}
			if st, err := h.Check(t.Context(), ns, nil, snapshotter); err != nil || st[0].Status != Complete || !st[0].Unpacked || st[0].Required != 5 {
				t.Errorf("status %+v, %v", st, err)
			}
			before := r.Count("GET", "/blobs/")
			h.pull(t, img.Name, func(o *PullOptions) { o.Snapshotter = snapshotter })
			if got := r.Count("GET", "/blobs/"); got != before {
				t.Errorf("the second pull fetched %d blobs", got-before)
			}
			leases, err := h.Leases.Resources()
			if err != nil || len(leases) != 0 {
				t.Errorf("leases left: %v, %v", leases, err)
			}
			if !slices.Contains(h.events.actions, "pull "+img.Name) {
				t.Errorf("events %v", h.events.actions)
			}
			if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
				t.Errorf("problems %v, %v", p, err)
			}
		})
	}
}

func TestPullPlatforms(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	other := platforms.MustParse("linux/s390x")
	foreign := build(other, layerTar(entry{"s390", "x"}))
	host := three()
	putIndex(r, "multi", "1", foreign, host)
	ref := r.Host() + "/multi:1"

	h.pull(t, ref, nil)
	if h.content.Has(foreign.desc.Digest) {
		t.Error("another platform's manifest was fetched")
	}
	h.pull(t, ref, func(o *PullOptions) { o.AllPlatforms, o.MetadataOnly = true, true })
	if !h.content.Has(foreign.desc.Digest) {
		t.Error("the manifest was not fetched")
	}
	if _, err := h.Unpack(t.Context(), ns, ref, "", "linux/s390x", nil); !errdefs.IsNotFound(err) {
		t.Errorf("unpacked without layers: %v", err)
	}
	h.pull(t, ref, func(o *PullOptions) { o.Platforms = []string{"linux/s390x"} })
	res, err := h.Resolve(t.Context(), ns, ref, "linux/s390x")
	if err != nil || !res.Unpacked {
		t.Errorf("%+v, %v", res, err)
	}
	_, err = h.Pull(t.Context(), ns, PullOptions{Name: ref, Platforms: []string{"linux/arm64"}}, nil)
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("missing platform: %v", err)
	}
	d := h.Describe(t.Context(), ns, must(h.Get(t.Context(), ns, ref)))
	if len(d.Platforms) != 2 || !d.Unpacked {
		t.Errorf("%+v", d)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPullNoUnpackThenUnpack(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	img := h.pull(t, r.Host()+"/a:1", func(o *PullOptions) { o.NoUnpack = true })
	if res := must(h.Resolve(t.Context(), ns, img.Name, "")); res.Unpacked {
		t.Error("unpacked")
	}
	r.Stop()
	chain, err := h.Unpack(t.Context(), ns, img.Name, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.files(t, "overlay", ns, chain); !slices.Equal(got, threeFiles) {
		t.Errorf("files %v", got)
	}
}

// A hard link to a file of a lower layer cannot be made in a directory of its own.
func TestPullLayerThatNeedsItsParent(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	build(oci.Host(), layerTar(entry{"a", "1"}), layerTar(entry{"b", "hardlink:a"}), layerTar(entry{"c", "3"})).put(r, "links", "1")
	img := h.pull(t, r.Host()+"/links:1", nil)
	if got := h.files(t, "overlay", ns, must(h.Resolve(t.Context(), ns, img.Name, "")).ChainID); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("files %v", got)
	}
}

func TestPullSharesBetweenNamespaces(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	h.pull(t, r.Host()+"/a:1", nil)
	if _, err := h.Pull(t.Context(), "k8s.io", PullOptions{Name: r.Host() + "/a:1"}, nil); err != nil {
		t.Fatal(err)
	}
	res := must(h.Resolve(t.Context(), "k8s.io", r.Host()+"/a:1", ""))
	if got := h.files(t, "overlay", "k8s.io", res.ChainID); !slices.Equal(got, threeFiles) {
		t.Errorf("files %v", got)
	}
	must(h.Delete(t.Context(), ns, r.Host()+"/a:1", false))
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if got := h.files(t, "overlay", "k8s.io", res.ChainID); !slices.Equal(got, threeFiles) {
		t.Errorf("files after the other namespace's collection %v", got)
	}
}

func noise(n int) string {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b) // reproducible
	return string(b)
}

func TestPullResumesAndRefetches(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	big := build(oci.Host(), layerTar(entry{"big", noise(3 << 20)}))
	big.put(r, "big", "1")
	blob := "/blobs/" + big.desc.Digest.Algorithm().String() + ":" + digestOf(big.layers[0])
	ref := r.Host() + "/big:1"

	// Cut for good in the middle: the next pull goes on from there.
	r.Fail(registrytest.Fault{Method: "GET", Path: blob, CutAfter: 1 << 20, Times: 1})
	r.Fail(registrytest.Fault{Method: "GET", Path: blob, Status: 500})
	if _, err := h.Pull(t.Context(), ns, PullOptions{Name: ref}, nil); err == nil {
		t.Fatal("the pull succeeded")
	}
	if _, err := h.Get(t.Context(), ns, ref); !errdefs.IsNotFound(err) {
		t.Fatalf("a broken pull made an image: %v", err)
	}
	r.Heal()
	n := len(r.Requests())
	img := h.pull(t, ref, nil)
	resumed := false
	for _, q := range r.Requests()[n:] {
		resumed = resumed || strings.Contains(q.Path, blob) && q.Header.Get("Range") != ""
	}
	if !resumed {
		t.Error("the download was not resumed")
	}

	// Wrong bytes once: fetched again, and applied again. Wrong bytes for ever: an error that names layer and host.
	must(h.Delete(t.Context(), ns, img.Name, false))
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	r.Fail(registrytest.Fault{Method: "GET", Path: blob, Corrupt: true, Times: 1})
	img = h.pull(t, ref, nil)
	if got := h.files(t, "overlay", ns, must(h.Resolve(t.Context(), ns, img.Name, "")).ChainID); len(got) != 1 {
		t.Errorf("files %v", got)
	}
	must(h.Delete(t.Context(), ns, img.Name, false))
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	r.Fail(registrytest.Fault{Method: "GET", Path: blob, Corrupt: true})
	_, err := h.Pull(t.Context(), ns, PullOptions{Name: ref}, nil)
	if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), digestOf(big.layers[0])) || !strings.Contains(err.Error(), r.Host()) {
		t.Errorf("wrong bytes: %v", err)
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func digestFrom(data []byte) digest.Digest { return digest.FromBytes(data) }

func digestOf(data []byte) string {
	return digestFrom(data).Encoded()
}

func TestPullRefusesWrongDiffID(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	a, b := build(oci.Host(), layerTar(entry{"a", "1"})), build(oci.Host(), layerTar(entry{"b", "2"}))
	lie := bytes.ReplaceAll(a.config, []byte(a.diffIDs[0]), []byte(b.diffIDs[0]))
	m := bytes.ReplaceAll(a.manifest, []byte(digestFrom(a.config)), []byte(digestFrom(lie)))
	a.put(r, "lie", "")
	r.PutBlob("lie", lie)
	r.PutManifest("lie", "1", ocispec.MediaTypeImageManifest, m)
	_, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/lie:1"}, nil)
	if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "uncompressed digest") {
		t.Fatalf("%v", err)
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Many pulls of two images with common layers: each blob is fetched once, though one of the pullers gives up.
func TestPullsAtOnce(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	base := layerTar(entry{"base", noise(2 << 20)})
	build(oci.Host(), base, layerTar(entry{"a", "1"})).put(r, "a", "1")
	build(oci.Host(), base, layerTar(entry{"b", "2"})).put(r, "b", "1")
	build(oci.Host(), base, layerTar(entry{"b", "2"})).put(r, "a", "2")
	r.Fail(registrytest.Fault{Method: "GET", Path: "/blobs/", Hang: 100 * time.Millisecond})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	gone, cancel := context.WithCancel(t.Context())
	for i := range errs {
		wg.Go(func() {
			ctx, o := t.Context(), PullOptions{Name: r.Host() + []string{"/a:1", "/a:2"}[i%2]}
			if i < 2 {
				ctx = gone
			}
			_, errs[i] = h.Pull(ctx, ns, o, func(p Progress) {
				if i < 2 && p.Stage == StageFetching {
					cancel()
				}
			})
		})
	}
	wg.Wait()
	cancel()
	for i, err := range errs {
		if i >= 2 && err != nil {
			t.Errorf("pull %d: %v", i, err)
		}
		if i < 2 && err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled pull %d: %v", i, err)
		}
	}
	for _, tag := range []string{"1", "2"} {
		res := must(h.Resolve(t.Context(), ns, r.Host()+"/a:"+tag, ""))
		if got := h.files(t, "overlay", ns, res.ChainID); len(got) != 2 {
			t.Errorf("files %v", got)
		}
	}
	if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
		t.Errorf("problems %v, %v", p, err)
	}
	base64 := gzipped(base)
	if got := r.Count("GET", digestOf(base64)); got > 2 {
		t.Errorf("the common layer was fetched %d times", got)
	}
	for n, sn := range h.Snapshotters {
		for _, i := range must(sn.List(t.Context(), "")) {
			if i.Kind != snapshot.Committed {
				t.Errorf("%s: left over: %+v", n, i)
			}
		}
	}
}

// Collections while images are pulled and deleted take nothing that is in use.
func TestPullsAndCollectionsAtOnce(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	base := layerTar(entry{"base", "base"})
	for i := range 4 {
		build(oci.Host(), base, layerTar(entry{fmt.Sprint(i), "x"})).put(r, fmt.Sprint("i", i), "1")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var pullers, collector sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			if _, err := h.CollectGarbage(t.Context(), CollectOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 4 {
		pullers.Go(func() {
			ref := fmt.Sprint(r.Host(), "/i", i, ":1")
			for range 8 {
				if _, err := h.Pull(t.Context(), ns, PullOptions{Name: ref}, nil); err != nil {
					t.Error(err)
					return
				}
				st, err := h.Check(t.Context(), ns, []string{ref}, "")
				if err != nil || st[0].Status != Complete || !st[0].Unpacked {
					t.Errorf("after a pull: %+v, %v", st, err)
				}
				if _, err := h.Delete(t.Context(), ns, ref, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pullers.Wait()
	cancel()
	collector.Wait()
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPullArtifact(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	d := r.PutBlob("art", []byte("data"))
	r.PutBlob("art", []byte("{}"))
	r.PutManifest("art", "1", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","artifactType":"application/x",
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"`+ocispec.DescriptorEmptyJSON.Digest.String()+`","size":2},
		"layers":[{"mediaType":"text/plain","digest":"`+d.Digest.String()+`","size":4}]}`))
	img := h.pull(t, r.Host()+"/art:1", nil)
	if !h.content.Has(d.Digest) {
		t.Error("the artifact's data is not there")
	}
	if _, err := h.Resolve(t.Context(), ns, img.Name, ""); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "application/x") {
		t.Errorf("%v", err)
	}
}
