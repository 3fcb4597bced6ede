package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

func leasesOf(h *house) ([]string, error) {
	all, err := h.Leases.(*store.Leases).List("")
	var ids []string
	for _, l := range all {
		ids = append(ids, l.ID)
	}
	return ids, err
}

func TestNamesAndIDs(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	a, b := three(), build(oci.Host(), layerTar(entry{"b", "2"}))
	a.put(r, "a", "1")
	b.put(r, "b", "1")
	refA, refB := r.Host()+"/a:1", r.Host()+"/b:1"
	h.pull(t, refA, nil)
	h.pull(t, refB, nil)
	ctx := t.Context()
	if _, err := h.Tag(ctx, ns, refA, "busybox", false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Tag(ctx, ns, refB, "busybox", false); !errdefs.IsAlreadyExists(err) {
		t.Errorf("moved a tag without force: %v", err)
	}
	for _, ref := range []string{"busybox", "docker.io/library/busybox:latest", digestFrom(a.config).String(), digestOf(a.config)[:12], digestOf(a.manifest)[:12], r.Host() + "/a@" + a.desc.Digest.String()} {
		img, err := h.Get(ctx, ns, ref)
		if err != nil || img.Target.Digest != a.desc.Digest {
			t.Errorf("Get(%s) = %v, %v", ref, img.Name, err)
		}
	}
	if _, err := h.Get(ctx, ns, "nothing"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if _, err := h.Get(ctx, ns, "sha256:"); errdefs.IsNotFound(err) == false && !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
	if _, err := h.Delete(ctx, ns, digestOf(a.config)[:12], false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("deleted several names by id: %v", err)
	}
	if gone := must(h.Delete(ctx, ns, digestOf(a.config)[:12], true)); len(gone) != 2 {
		t.Errorf("deleted %v", gone)
	}
	img := must(h.SetLabels(ctx, ns, refB, map[string]string{"k": "v", "l": "w"}, false))
	if img = must(h.SetLabels(ctx, ns, refB, map[string]string{"k": ""}, false)); len(img.Labels) != 1 {
		t.Errorf("labels %v", img.Labels)
	}
	if gone := must(h.Prune(ctx, ns, false, nil)); len(gone) != 0 {
		t.Errorf("pruned tagged images %v", gone)
	}
	if gone := must(h.Prune(ctx, ns, true, func(i Image) bool { return i.Name == refB })); len(gone) != 0 {
		t.Errorf("pruned used images %v", gone)
	}
	if gone := must(h.Prune(ctx, ns, true, nil)); len(gone) != 1 {
		t.Errorf("pruned %v", gone)
	}
}

func TestAmbiguousID(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	first := map[string]string{}
	for i := 0; ; i++ { // two ids with the same first digit: at the latest with the 17th image
		b := build(oci.Host(), layerTar(entry{fmt.Sprint(i), "x"}))
		repo := fmt.Sprint("r", i)
		b.put(r, repo, "1")
		h.pull(t, r.Host()+"/"+repo+":1", func(o *PullOptions) { o.NoUnpack = true })
		digit := digestOf(b.config)[:1]
		if first[digit] == "" {
			first[digit] = repo
			continue
		}
		_, err := h.Get(t.Context(), ns, digit)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), first[digit]+":1") || !strings.Contains(err.Error(), repo+":1") {
			t.Errorf("%v", err)
		}
		return
	}
}

func TestPush(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	host, other := three(), build(platforms.MustParse("linux/s390x"), layerTar(entry{"x", "y"}))
	index := putIndex(r, "multi", "1", host, other)
	ref := r.Host() + "/multi:1"
	h.pull(t, ref, nil)
	ctx := t.Context()

	// Only this host's platform is here: its manifest is pushed, its blobs mounted from where they came.
	d, err := h.Push(ctx, ns, PushOptions{Name: r.Host() + "/copy:1", Source: ref}, nil)
	if err != nil || d.Digest != host.desc.Digest || r.Manifest("copy", "1") == nil {
		t.Fatalf("pushed %v, %v", d, err)
	}
	if n := r.Count("PUT", "/blobs/"); n != 0 {
		t.Errorf("%d blobs were uploaded instead of mounted", n)
	}
	if _, err = h.Push(ctx, ns, PushOptions{Name: r.Host() + "/all:1", Source: ref, AllPlatforms: true}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("pushed what is not here: %v", err)
	}
	h.pull(t, ref, func(o *PullOptions) { o.AllPlatforms = true })
	if d, err = h.Push(ctx, ns, PushOptions{Name: r.Host() + "/all:1", Source: ref}, nil); err != nil || d.Digest != index.Digest {
		t.Fatalf("pushed %v, %v", d, err)
	}
	d, err = h.Push(ctx, ns, PushOptions{Name: r.Host() + "/one:1", Source: ref, Platforms: []string{"linux/s390x"}}, nil)
	if err != nil || d.Digest != other.desc.Digest {
		t.Fatalf("pushed %v, %v", d, err)
	}
	elsewhere := registrytest.New(t, registrytest.Options{})
	var sent int64
	_, err = h.Push(ctx, ns, PushOptions{Name: elsewhere.Host() + "/x:1", Source: ref, Platforms: []string{"linux/s390x", "linux/amd64"}}, func(p Progress) { sent = max(sent, p.Offset) })
	if err != nil || elsewhere.Manifest("x", "1") == nil || sent == 0 {
		t.Fatalf("%v, %d bytes", err, sent)
	}
}

func TestExportAndImport(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	h.pull(t, ref, nil)
	var data bytes.Buffer
	if err := h.Export(t.Context(), ns, &data, ExportOptions{Names: []string{ref}}); err != nil {
		t.Fatal(err)
	}
	other := newHouse(t, nil)
	images, err := other.Import(t.Context(), ns, bytes.NewReader(data.Bytes()), ImportOptions{Labels: map[string]string{"a": "b"}, IndexName: "index"})
	if err != nil || len(images) != 2 || images[0].Name != ref || images[0].Target.Digest != three().desc.Digest || images[0].Labels["a"] != "b" {
		t.Fatalf("%+v, %v", images, err)
	}
	res := must(other.Resolve(t.Context(), ns, ref, ""))
	if got := other.files(t, "overlay", ns, res.ChainID); !res.Unpacked || !slices.Equal(got, threeFiles) {
		t.Errorf("files %v", got)
	}
	if _, err := other.Import(t.Context(), ns, bytes.NewReader(data.Bytes()), ImportOptions{BaseName: "quay.io/other"}); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if _, err := other.Import(t.Context(), ns, bytes.NewReader(data.Bytes()[:data.Len()/2]), ImportOptions{}); !errdefs.IsInvalidArgument(err) && !errdefs.IsDataLoss(err) {
		t.Errorf("half an archive: %v", err)
	}
}

// dockerSaved is what an old docker save writes, with uncompressed layers.
func dockerSaved(t *testing.T) []byte {
	layer := layerTar(entry{"hello", "world"})
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":[%q]}}`, oci.Host().Architecture, digestFrom(layer))
	return layerTar(entry{"l/layer.tar", string(layer)}, entry{"c.json", config}, entry{"manifest.json", `[{"Config":"c.json","RepoTags":["hello:1"],"Layers":["l/layer.tar"]}]`})
}

func TestImportCompressAndDiscard(t *testing.T) {
	h := newHouse(t, nil)
	images, err := h.Import(t.Context(), ns, bytes.NewReader(dockerSaved(t)), ImportOptions{CompressBlobs: true, DiscardUnpackedLayers: true})
	if err != nil || len(images) != 1 || images[0].Name != "docker.io/library/hello:1" {
		t.Fatalf("%+v, %v", images, err)
	}
	m := must(h.manifest(t.Context(), images[0].Target))
	if m.Layers[0].MediaType != oci.DockerLayerGzip || h.content.Has(m.Layers[0].Digest) {
		t.Errorf("layer %+v is there: %v", m.Layers[0], h.content.Has(m.Layers[0].Digest))
	}
	if st := must(h.Check(t.Context(), ns, nil, "")); st[0].Status != Incomplete || !st[0].Unpacked {
		t.Errorf("status %+v", st[0])
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if got := h.files(t, "overlay", ns, must(h.Resolve(t.Context(), ns, "hello:1", "")).ChainID); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("files %v", got)
	}
}

func TestConvert(t *testing.T) {
	h := newHouse(t, nil)
	must(h.Import(t.Context(), ns, bytes.NewReader(dockerSaved(t)), ImportOptions{}))
	for compression, want := range map[string]string{"gzip": "tar+gzip", "zstd": "tar+zstd", "uncompressed": "v1.tar"} {
		img, err := h.Convert(t.Context(), ns, ConvertOptions{Source: "hello:1", Target: "hello:" + compression, OCI: true, Compression: compression})
		if err != nil {
			t.Fatal(err)
		}
		m := must(h.manifest(t.Context(), img.Target))
		if oci.IsDocker(m.MediaType) || oci.IsDocker(m.Config.MediaType) || !strings.HasSuffix(m.Layers[0].MediaType, want) {
			t.Errorf("%s: %+v", compression, m)
		}
		if st := must(h.Check(t.Context(), ns, []string{img.Name}, "")); st[0].Status != Complete || !st[0].Unpacked {
			t.Errorf("%s: %+v", compression, st[0])
		}
		fresh := newHouse(t, nil)
		var data bytes.Buffer
		if err := h.Export(t.Context(), ns, &data, ExportOptions{Names: []string{img.Name}}); err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.Import(t.Context(), ns, &data, ImportOptions{}); err != nil {
			t.Errorf("%s: the converted layer does not unpack: %v", compression, err)
		}
	}
	if _, err := h.Convert(t.Context(), ns, ConvertOptions{Source: "hello:1", Target: "x", Compression: "lz4"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
}

func TestCollect(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	base := layerTar(entry{"base", "x"})
	build(oci.Host(), base, layerTar(entry{"a", "1"})).put(r, "a", "1")
	build(oci.Host(), base, layerTar(entry{"b", "2"})).put(r, "b", "1")
	h.pull(t, r.Host()+"/a:1", nil)
	h.pull(t, r.Host()+"/b:1", nil)
	ctx := t.Context()
	if c := must(h.CollectGarbage(ctx, CollectOptions{})); len(c.Blobs)+len(c.Snapshots) != 0 {
		t.Fatalf("collected what is in use: %+v", c)
	}
	resA := must(h.Resolve(ctx, ns, r.Host()+"/a:1", ""))
	sn := h.Snapshotters["overlay"]
	if _, err := sn.Prepare(ctx, snapshot.Key{Namespace: ns, Name: "container"}, resA.ChainID, snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	must(h.Delete(ctx, ns, r.Host()+"/a:1", false))
	dry := must(h.CollectGarbage(ctx, CollectOptions{DryRun: true}))
	c := must(h.CollectGarbage(ctx, CollectOptions{}))
	if len(c.Blobs) != 3 || len(c.Snapshots) != 0 || c.Bytes == 0 || !slices.Equal(dry.Blobs, c.Blobs) {
		t.Errorf("with a container on it: %+v, dry %+v", c, dry)
	}
	if err := sn.Remove(ctx, snapshot.Key{Namespace: ns, Name: "container"}); err != nil {
		t.Fatal(err)
	}
	keep := CollectOptions{Roots: func() ([]digest.Digest, []snapshot.Key, error) {
		return nil, []snapshot.Key{{Namespace: ns, Name: resA.ChainID}}, nil
	}}
	if c := must(h.CollectGarbage(ctx, keep)); len(c.Snapshots) != 0 {
		t.Errorf("a root was collected: %+v", c)
	}
	if c := must(h.CollectGarbage(ctx, CollectOptions{})); !slices.Equal(c.Snapshots, []string{ns + "/" + resA.ChainID}) {
		t.Errorf("collected %+v", c)
	}
	broken := errors.New("no list")
	must(h.Delete(ctx, ns, r.Host()+"/b:1", false))
	if _, err := h.CollectGarbage(ctx, CollectOptions{Roots: func() ([]digest.Digest, []snapshot.Key, error) { return nil, nil, broken }}); !errors.Is(err, broken) || len(h.left(t)) == 0 {
		t.Errorf("collected without knowing the roots: %v", err)
	}
	must(h.CollectGarbage(ctx, CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFetchIsKeptByItsLease(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	if _, err := h.Fetch(t.Context(), ns, PullOptions{Name: r.Host() + "/a:1"}, nil); err != nil {
		t.Fatal(err)
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if n := must(h.Count(t.Context())); n != 5 {
		t.Errorf("%d blobs", n)
	}
	for _, id := range must(leasesOf(h)) {
		_ = h.Leases.Delete(ns, id)
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if n := must(h.Count(t.Context())); n != 0 {
		t.Errorf("%d blobs", n)
	}
}

func TestGarbageOrder(t *testing.T) {
	info := func(name, parent string, kind snapshot.Kind, labels map[string]string) snapshot.Info {
		return snapshot.Info{Namespace: ns, Name: name, Parent: parent, Kind: kind, Labels: labels}
	}
	infos := []snapshot.Info{
		info("a", "", snapshot.Committed, nil), info("b", "a", snapshot.Committed, nil), info("c", "b", snapshot.Committed, nil),
		info("container", "a", snapshot.Active, nil), info("extract-1", "c", snapshot.Active, nil), info("m", "c", snapshot.View, map[string]string{mountLabel: "m"}),
		info("pinned", "", snapshot.Committed, map[string]string{rootLabel: "1"}),
	}
	names := func(use string) (s string) {
		for _, k := range garbage(infos, func(i snapshot.Info) bool { return i.Name == use }) {
			s += k.Name + " "
		}
		return strings.TrimSpace(s)
	}
	for use, want := range map[string]string{"": "extract-1 m c b", "b": "extract-1 m c", "m": "extract-1", "extract-1": "m"} {
		if got := names(use); got != want {
			t.Errorf("with %q in use: %q, want %q", use, got, want)
		}
	}
}

func TestMountImage(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	h.pull(t, r.Host()+"/a:1", func(o *PullOptions) { o.NoUnpack = true })
	ctx := t.Context()
	key, mounts, err := h.Mount(ctx, ns, MountOptions{Name: r.Host() + "/a:1", Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	err = mount.Temp(ctx, mounts, func(root string) error { return os.WriteFile(filepath.Join(root, "new"), []byte("x"), 0o644) })
	if err != nil {
		t.Fatal(err)
	}
	must(h.CollectGarbage(ctx, CollectOptions{}))
	if _, err := h.Snapshotters["overlay"].Info(ctx, snapshot.Key{Namespace: ns, Name: key}); err != nil {
		t.Errorf("collected: %v", err)
	}
	if err := h.Unmount(ctx, ns, key, ""); err != nil {
		t.Fatal(err)
	}
	if err := h.Unmount(ctx, ns, key, ""); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if key, _, err = h.Mount(ctx, ns, MountOptions{Name: r.Host() + "/a:1", ExpireAfter: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for c := (Collected{}); len(c.Snapshots) == 0; {
		c = must(h.CollectGarbage(ctx, CollectOptions{}))
	}
	if _, err := h.Snapshotters["overlay"].Info(ctx, snapshot.Key{Namespace: ns, Name: key}); !errdefs.IsNotFound(err) {
		t.Errorf("expired mount: %v", err)
	}
}

func TestProblems(t *testing.T) {
	h, r := newHouse(t, nil), registrytest.New(t, registrytest.Options{})
	img := three()
	img.put(r, "a", "1")
	ref := r.Host() + "/a:1"
	h.pull(t, ref, nil)
	blob := digestFrom(img.layers[1])
	path := h.content.Path(blob)
	data := must(os.ReadFile(path))
	_ = os.Chmod(path, 0o644)
	if err := os.WriteFile(path, append([]byte{data[0] ^ 1}, data[1:]...), 0o644); err != nil {
		t.Fatal(err)
	}
	if p := must(h.Problems(t.Context(), false, true)); len(p) != 0 {
		t.Errorf("quick read the bytes: %+v", p)
	}
	p := must(h.Problems(t.Context(), false, false))
	if len(p) != 1 || p[0].Kind != "content" || p[0].Object != blob.String() || p[0].Repaired {
		t.Fatalf("%+v", p)
	}
	must(h.Problems(t.Context(), true, false))
	if h.content.Has(blob) {
		t.Error("the wrong blob is still there")
	}
	h.pull(t, ref, nil)
	if p := must(h.Problems(t.Context(), false, false)); len(p) != 0 {
		t.Errorf("after pulling again: %+v", p)
	}
	if u := must(h.Usage(t.Context(), ns, ref, "")); u.ContentSize == 0 || u.SnapshotSize == 0 || u.Inodes < 3 {
		t.Errorf("usage %+v", u)
	}
}

// A full disk is explained, and leaves nothing.
func TestFullDisk(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	h, err := open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.store.Close() }()
	r := registrytest.New(t, registrytest.Options{})
	build(oci.Host(), layerTar(entry{"big", noise(8 << 20)})).put(r, "big", "1")
	build(oci.Host(), layerTar(entry{"zeros", strings.Repeat("\x00", 8<<20)})).put(r, "zeros", "1")
	for _, repo := range []string{"big", "zeros"} { // the blob does not fit; the blob does, its files do not
		_, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/" + repo + ":1"}, nil)
		if !errors.Is(err, syscall.ENOSPC) || !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", repo, err)
		}
		if in := must(h.content.Ingests(t.Context())); len(in) != 0 {
			t.Errorf("%s: ingests left: %+v", repo, in)
		}
		must(h.CollectGarbage(t.Context(), CollectOptions{}))
		if left := h.left(t); len(left) != 0 {
			t.Errorf("%s: left: %v", repo, left)
		}
	}
}

// What is imported can be read by another tool.
func TestSkopeoReadsExport(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip(err)
	}
	h := newHouse(t, nil)
	must(h.Import(t.Context(), ns, bytes.NewReader(dockerSaved(t)), ImportOptions{}))
	path := filepath.Join(t.TempDir(), "x.tar")
	f := must(os.Create(path))
	if err := errors.Join(h.Export(t.Context(), ns, f, ExportOptions{Names: []string{"hello:1"}}), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"oci-archive:", "docker-archive:"} {
		if out, err := exec.Command("skopeo", "--insecure-policy", "copy", transport+path, "dir:"+t.TempDir()).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", transport, err, out)
		}
	}
}
