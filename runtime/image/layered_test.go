package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/compression"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// oneFile writes a layer with a file.
func oneFile(name, text string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		out := tar.NewWriter(w)
		err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(7, 0)})
		if err == nil {
			_, err = io.WriteString(out, text)
		}
		return errors.Join(err, out.Close())
	}
}

// layered puts a layer on top of an image.
func (h *house) layered(ref, to string) (Image, error) {
	ctx := context.Background()
	r, err := h.Resolve(ctx, ns, ref, "")
	if err != nil {
		return Image{}, err
	}
	o := LayerOptions{Name: to, History: ocispec.History{Comment: "on top", Author: "me"}}
	return h.CommitLayer(ctx, ns, r.Manifest.Digest, o, func(c *oci.Config) error { return c.Change(`CMD ["new"]`) }, oneFile("top", "of it"))
}

func TestCommitLayer(t *testing.T) {
	testenv.Root(t)
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	h := must(open(t.Context(), t.TempDir(), nil))
	defer func() { _ = h.store.Close() }()
	h.pull(t, ref, nil)
	base := must(h.Resolve(t.Context(), ns, ref, ""))
	for _, test := range []struct {
		o    LayerOptions
		want string
	}{
		{LayerOptions{Name: "x:gzip"}, oci.DockerManifest + " " + oci.DockerConfig + " " + oci.DockerLayerGzip},
		{LayerOptions{Name: "x:zstd", Compression: "zstd", OCI: true}, ocispec.MediaTypeImageManifest + " " + ocispec.MediaTypeImageConfig + " " + ocispec.MediaTypeImageLayerZstd},
		{LayerOptions{Compression: "uncompressed"}, oci.DockerManifest + " " + oci.DockerConfig + " " + oci.DockerLayer},
	} {
		test.o.History = ocispec.History{Author: "me", Comment: "on top", CreatedBy: "by"}
		img := must(h.CommitLayer(t.Context(), ns, base.Manifest.Digest, test.o, func(c *oci.Config) error { return c.Change("ENV A=b") }, oneFile("top", "of it")))
		if test.o.Name == "" && img.Name != img.Target.Digest.String() {
			t.Errorf("without a name it is called %s", img.Name)
		}
		m := must(h.manifest(t.Context(), img.Target))
		top := m.Layers[len(m.Layers)-1]
		if got := m.MediaType + " " + m.Config.MediaType + " " + top.MediaType; got != test.want || len(m.Layers) != len(three().diffIDs)+1 {
			t.Errorf("%s, %d layers; want %s", got, len(m.Layers), test.want)
		}
		c := must(h.imageConfig(t.Context(), m.Config))
		if last := c.History[len(c.History)-1]; last.Comment != "on top" || last.CreatedBy != "by" || c.Author != "me" || !slices.Contains(c.Config.Env, "A=b") {
			t.Errorf("config %+v", c)
		}
		chain := must(h.Unpack(t.Context(), ns, img.Name, "", "", nil))
		if got := h.files(t, "overlay", ns, chain); !slices.Equal(got, sorted(append(slices.Clone(threeFiles), "top"))) {
			t.Errorf("files %v", got)
		}
	}
	empty := must(h.CommitLayer(t.Context(), ns, base.Manifest.Digest, LayerOptions{Name: "x:empty"}, func(*oci.Config) error { return nil },
		func(_ context.Context, w io.Writer) error { return tar.NewWriter(w).Close() }))
	if m := must(h.manifest(t.Context(), empty.Target)); len(m.Layers) != len(three().diffIDs) {
		t.Errorf("a commit of nothing has %d layers", len(m.Layers))
	}
	broken := errors.New("broken")
	before := len(must(h.List(t.Context(), ns)))
	for want, err := range map[string]error{
		"broken": func() error {
			_, err := h.CommitLayer(t.Context(), ns, base.Manifest.Digest, LayerOptions{Name: "y"}, func(*oci.Config) error { return nil }, func(context.Context, io.Writer) error { return broken })
			return err
		}(),
		"known are gzip": func() error {
			_, err := h.CommitLayer(t.Context(), ns, base.Manifest.Digest, LayerOptions{Compression: "lzma"}, nil, nil)
			return err
		}(),
		"reference": func() error {
			_, err := h.CommitLayer(t.Context(), ns, base.Manifest.Digest, LayerOptions{Name: "UPPER:"}, nil, nil)
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if after := len(must(h.List(t.Context(), ns))); after != before {
		t.Errorf("%d images became %d", before, after)
	}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

// TestImportLayer imports archives in every packing, from a reader and from a web server.
func TestImportLayer(t *testing.T) {
	testenv.Root(t)
	h := must(open(t.Context(), t.TempDir(), nil))
	defer func() { _ = h.store.Close() }()
	var plain bytes.Buffer
	if err := oneFile("f", "text")(t.Context(), &plain); err != nil {
		t.Fatal(err)
	}
	forms := map[string][]byte{"plain": plain.Bytes()}
	for _, c := range []compression.Format{compression.Gzip, compression.Zstd} {
		var b bytes.Buffer
		z := must(compression.Compress(&b, c))
		if _, err := z.Write(plain.Bytes()); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		forms[string(c)] = b.Bytes()
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if data, ok := forms[strings.TrimPrefix(r.URL.Path, "/")]; ok {
			_, _ = w.Write(data)
			return
		}
		http.NotFound(w, r)
	}))
	defer web.Close()
	configure := func(c *oci.Config) error { return c.Change(`CMD ["x"]`) }
	var chains []string
	for form, data := range forms {
		o := LayerOptions{Name: "imported:" + form, History: ocispec.History{Comment: "said"}}
		img := must(h.ImportLayer(t.Context(), ns, bytes.NewReader(data), o, "linux/amd64", configure))
		m := must(h.manifest(t.Context(), img.Target))
		if form != "plain" && m.Layers[0].Digest.Encoded() != fmt.Sprintf("%x", sha256.Sum256(data)) {
			t.Errorf("%s was packed anew", form)
		}
		c := must(h.imageConfig(t.Context(), m.Config))
		if c.Config.Cmd[0] != "x" || c.History[0].Comment != "said" || c.Architecture != "amd64" || len(c.RootFS.DiffIDs) != 1 {
			t.Errorf("%s: %+v", form, c)
		}
		chains = append(chains, must(h.Unpack(t.Context(), ns, img.Name, "", "", nil)))
		fetched := must(h.ImportURL(t.Context(), ns, web.URL+"/"+form, LayerOptions{}, "linux/amd64", configure))
		if x := must(h.manifest(t.Context(), fetched.Target)); x.Layers[0].Digest != m.Layers[0].Digest {
			t.Errorf("%s of a web server has another layer", form)
		}
	}
	if len(slices.Compact(chains)) != 1 {
		t.Errorf("the same archive gives %v", chains)
	}
	before := len(must(h.List(t.Context(), ns)))
	for want, data := range map[string]string{"empty": "", "not an archive": strings.Repeat("no tar ", 300), "cut short": string(plain.Bytes()[:514])} {
		if _, err := h.ImportLayer(t.Context(), ns, strings.NewReader(data), LayerOptions{}, "", configure); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := h.ImportLayer(t.Context(), ns, bytes.NewReader(forms["gzip"][:len(forms["gzip"])/2]), LayerOptions{}, "", configure); err == nil {
		t.Error("half of a packed archive was imported")
	}
	if _, err := h.ImportURL(t.Context(), ns, web.URL+"/none", LayerOptions{}, "", configure); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := h.ImportURL(t.Context(), ns, "file:///etc/passwd", LayerOptions{}, "", configure); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if after := len(must(h.List(t.Context(), ns))); after != before {
		t.Errorf("%d images became %d", before, after)
	}
}

// TestKilledCommit: killed while a layer is put on top of an image, there is the whole new image or none, and the old one.
func TestKilledCommit(t *testing.T) {
	testenv.Root(t)
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	for _, point := range []string{"layered-before-sync", "layered-before-record"} {
		dir := t.TempDir()
		h := must(open(t.Context(), dir, nil))
		h.pull(t, ref, nil)
		_ = h.store.Close()
		kill(t, point, dir, ref, crashTo+"=made:1")
		h = must(open(t.Context(), dir, nil))
		if _, err := h.Get(t.Context(), ns, "made:1"); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", point, err)
		}
		if !wholeOrNone(t, h, ref) {
			t.Errorf("%s: the image below is gone", point)
		}
		must(h.layered(ref, "made:1"))
		if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
			t.Errorf("%s: problems %v, %v", point, p, err)
		}
		for _, img := range must(h.List(t.Context(), ns)) {
			must(h.Delete(t.Context(), ns, img.Name, false))
		}
		for _, l := range must(leasesOf(h)) {
			if err := h.Leases.Delete(ns, l); err != nil {
				t.Fatal(err)
			}
		}
		must(h.CollectGarbage(t.Context(), CollectOptions{}))
		if left := h.left(t); len(left) != 0 {
			t.Errorf("%s: left %v", point, left)
		}
		_ = h.store.Close()
	}
}

// TestUsedImagesStay: an image without a name stays whole while a container is made of it.
func TestUsedImagesStay(t *testing.T) {
	testenv.Root(t)
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	h := must(open(t.Context(), t.TempDir(), nil))
	defer func() { _ = h.store.Close() }()
	h.pull(t, ref, nil)
	base := must(h.Resolve(t.Context(), ns, ref, ""))
	must(h.Delete(t.Context(), ns, ref, false))
	used := []Used{{Namespace: ns, Digest: base.Manifest.Digest.String()}, {Namespace: ns, Digest: "sha256:" + strings.Repeat("0", 64)}}
	must(h.CollectGarbage(t.Context(), CollectOptions{Used: used}))
	must(h.CommitLayer(t.Context(), ns, base.Manifest.Digest, LayerOptions{Name: "x:1"}, func(*oci.Config) error { return nil }, oneFile("top", "x")))
	must(h.Delete(t.Context(), ns, "x:1", false))
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
