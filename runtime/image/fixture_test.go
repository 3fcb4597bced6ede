package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/native"
	"github.com/minirt/mini/runtime/snapshot/overlay"
	"github.com/minirt/mini/runtime/store"
)

const ns = "default"

// house is a service with real stores in a directory.
type house struct {
	*Service
	store   *store.Store
	content *content.Store
	events  *recorder
}

type recorder struct {
	mu      sync.Mutex
	actions []string
}

func (r *recorder) Publish(e events.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.actions = append(r.actions, e.Action+" "+e.ID)
}

// open opens, or opens again, the service in a directory.
func open(ctx context.Context, dir string, change func(*Deps)) (*house, error) {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("MINI_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "meta.db"), Logger: log})
	if err != nil {
		return nil, err
	}
	c, err := content.Open(filepath.Join(dir, "content"), store.NewTable[content.Record](st, "content", 1, nil), log)
	if err != nil {
		return nil, err
	}
	over, err := overlay.Open(ctx, overlay.Options{Root: filepath.Join(dir, "overlay"), Records: snapshot.NewRecords(st, "overlay"), Log: log})
	if err != nil {
		return nil, err
	}
	copies, err := native.Open(ctx, native.Options{Root: filepath.Join(dir, "native"), Records: snapshot.NewRecords(st, "native"), Log: log})
	if err != nil {
		return nil, err
	}
	h := &house{store: st, content: c, events: &recorder{}}
	d := Deps{
		Content:      c,
		Snapshotters: map[string]snapshot.Snapshotter{"overlay": over, "native": copies},
		Default:      "overlay",
		NewRegistry: func(o RegistryOptions) Registry {
			return registry.New(registry.Options{Override: &registry.HostOverride{PlainHTTP: true}, DockerConfig: filepath.Join(dir, "none"), Retry: registry.Retry{Attempts: 2}})
		},
		Images: store.NewTable[Image](st, "image", 1, nil),
		Leases: store.NewLeases(st),
		Events: h.events,
		Log:    log,
	}
	if change != nil {
		change(&d)
	}
	h.Service, err = New(d)
	return h, err
}

func newHouse(t testing.TB, change func(*Deps)) *house {
	t.Helper()
	testenv.Root(t)
	h, err := open(t.Context(), t.TempDir(), change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	return h
}

// entry is one file of a layer; a name ending in / is a directory.
type entry struct{ name, content string }

func layerTar(entries ...entry) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o644}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if target, ok := cutPrefix(e.content, "hardlink:"); ok {
			h.Typeflag, h.Linkname, h.Size, e.content = tar.TypeLink, target, 0, ""
		}
		_ = tw.WriteHeader(h)
		_, _ = io.WriteString(tw, e.content)
	}
	_ = tw.Close()
	return buf.Bytes()
}

func cutPrefix(s, p string) (string, bool) {
	if len(s) >= len(p) && s[:len(p)] == p {
		return s[len(p):], true
	}
	return s, false
}

func gzipped(data []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes()
}

// built is an image as bytes.
type built struct {
	manifest []byte
	desc     ocispec.Descriptor
	config   []byte
	layers   [][]byte // gzip
	diffIDs  []digest.Digest
}

// build makes an image for a platform of layers.
func build(platform ocispec.Platform, layers ...[]byte) built {
	var b built
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	for _, l := range layers {
		z := gzipped(l)
		b.layers = append(b.layers, z)
		b.diffIDs = append(b.diffIDs, digest.FromBytes(l))
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(z), Size: int64(len(z))})
	}
	b.config, _ = json.Marshal(ocispec.Image{Platform: platform, Config: ocispec.ImageConfig{Cmd: []string{"/bin/sh"}}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: b.diffIDs}})
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(b.config), Size: int64(len(b.config))}
	b.manifest, _ = json.Marshal(m)
	b.desc = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(b.manifest), Size: int64(len(b.manifest)), Platform: &platform}
	return b
}

// put puts an image into a registry; tag may be "".
func (b built) put(r *registrytest.Registry, repo, tag string) {
	r.PutBlob(repo, b.config)
	for _, l := range b.layers {
		r.PutBlob(repo, l)
	}
	r.PutManifest(repo, tag, b.desc.MediaType, b.manifest)
}

func putIndex(r *registrytest.Registry, repo, tag string, images ...built) ocispec.Descriptor {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, b := range images {
		b.put(r, repo, "")
		x.Manifests = append(x.Manifests, b.desc)
	}
	data, _ := json.Marshal(x)
	return r.PutManifest(repo, tag, x.MediaType, data)
}

// three is an image of three layers, with a whiteout and an opaque directory.
func three() built {
	return build(oci.Host(),
		layerTar(entry{"etc/", ""}, entry{"etc/passwd", "root"}, entry{"etc/old", "x"}, entry{"opt/", ""}, entry{"opt/a", "a"}),
		layerTar(entry{"etc/", ""}, entry{"etc/.wh.old", ""}, entry{"bin/", ""}, entry{"bin/sh", "#!"}),
		layerTar(entry{"opt/", ""}, entry{"opt/.wh..wh..opq", ""}, entry{"opt/b", "b"}))
}

var threeFiles = []string{"bin/sh", "etc/passwd", "opt/b"}

// files lists the regular files of a chain, by mounting a view of it.
func (h *house) files(t testing.TB, snapshotter, namespace, chainID string) []string {
	t.Helper()
	var names []string
	sn := h.Snapshotters[snapshotter]
	key := snapshot.Key{Namespace: namespace, Name: "look-" + digest.FromString(t.Name() + chainID).Encoded()[:8]}
	mounts, err := sn.View(t.Context(), key, chainID, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sn.Remove(context.WithoutCancel(t.Context()), key) }()
	err = mount.Temp(t.Context(), mounts, func(root string) error {
		return filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				rel, _ := filepath.Rel(root, p)
				names = append(names, rel)
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// left describes everything there is in the stores, for tests that nothing is.
func (h *house) left(t testing.TB) []string {
	t.Helper()
	var left []string
	_ = h.content.List(t.Context(), func(i content.Info) error { left = append(left, i.Digest.String()); return nil })
	for n, sn := range h.Snapshotters {
		infos, err := sn.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			left = append(left, fmt.Sprint(n, " ", i.Kind, " ", i.Name))
		}
	}
	return left
}

func (h *house) pull(t testing.TB, ref string, change func(*PullOptions)) Image {
	t.Helper()
	o := PullOptions{Name: ref}
	if change != nil {
		change(&o)
	}
	img, err := h.Pull(t.Context(), ns, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}
