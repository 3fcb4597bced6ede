package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/image"
)

// blobs is a content store in memory.
type blobs map[digest.Digest][]byte

func (b blobs) put(_ context.Context, expected digest.Digest, size int64, r io.Reader) (digest.Digest, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	got := digest.FromBytes(data)
	if expected != "" && got != expected || int64(len(data)) != size {
		return "", fmt.Errorf("blob %s: got %s: %w", expected, got, errdefs.ErrDataLoss)
	}
	b[got] = data
	return got, nil
}

func (b blobs) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := b[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (b blobs) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b[d.Digest] = data
	return d
}

func (b blobs) addJSON(mediaType string, v any) ocispec.Descriptor {
	data, _ := json.Marshal(v)
	return b.add(mediaType, data)
}

func tarOf(files ...string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		name, content := files[i], files[i+1]
		if target, ok := strings.CutPrefix(content, "→"); ok {
			_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
			continue
		}
		_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644})
		_, _ = tw.Write([]byte(content))
	}
	_ = tw.Close()
	return buf.Bytes()
}

func gz(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes()
}

// addImage makes an OCI image of two gzip layers.
func (b blobs) addImage(platform string) ocispec.Descriptor {
	p := platforms.MustParse(platform)
	config := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}, Config: ocispec.ImageConfig{Cmd: []string{"/bin/sh"}}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, content := range []string{"one", "two " + platform} {
		layer := tarOf("etc/"+content[:3], content)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
		m.Layers = append(m.Layers, b.add(ocispec.MediaTypeImageLayerGzip, gz(layer)))
	}
	m.Config = b.addJSON(ocispec.MediaTypeImageConfig, config)
	d := b.addJSON(m.MediaType, m)
	d.Platform = &p
	return d
}

func (b blobs) addIndex(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	return b.addJSON(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
}

func write(t *testing.T, b blobs, o WriteOptions, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(t.Context(), &buf, entries, b, o); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestRoundTrip(t *testing.T) {
	src := blobs{}
	amd, arm := src.addImage("linux/amd64"), src.addImage("linux/arm64")
	entries := []Entry{{"docker.io/library/multi:1", src.addIndex(amd, arm)}, {"example.org/one:2", amd}}
	data := write(t, src, WriteOptions{Want: image.Want{All: true}}, entries...)
	if again := write(t, src, WriteOptions{Want: image.Want{All: true}}, entries[1], entries[0]); !bytes.Equal(data, again) {
		t.Error("the same images gave different archives")
	}
	var z bytes.Buffer
	zw, _ := zstd.NewWriter(&z)
	_, _ = zw.Write(data)
	_ = zw.Close()
	for name, form := range map[string][]byte{"plain": data, "gzip": gz(data), "zstd": z.Bytes()} {
		dst := blobs{}
		c, err := Read(t.Context(), bytes.NewReader(form), dst.put)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(dst) != len(src) {
			t.Errorf("%s: %d blobs, want %d", name, len(dst), len(src))
		}
		var names []string
		for _, d := range c.Index.Manifests {
			names = append(names, Naming{}.Names(d)...)
		}
		if want := []string{"docker.io/library/multi:1", "example.org/one:2"}; !slices.Equal(names, want) || c.Docker {
			t.Errorf("%s: names %v, docker %v", name, names, c.Docker)
		}
		if c.Index.Manifests[0].Digest != entries[0].Target.Digest {
			t.Errorf("%s: target changed", name)
		}
	}
}

func TestWriteOnePlatform(t *testing.T) {
	src := blobs{}
	amd, arm := src.addImage("linux/amd64"), src.addImage("linux/arm64")
	index := src.addIndex(amd, arm)
	want, _ := image.ParseWant([]string{"linux/amd64"}, false)
	dst := blobs{}
	if _, err := Read(t.Context(), bytes.NewReader(write(t, src, WriteOptions{Want: want}, Entry{"a:1", index})), dst.put); err != nil {
		t.Fatal(err)
	}
	if _, ok := dst[arm.Digest]; ok || len(dst) != 5 {
		t.Errorf("%d blobs, the other platform's manifest: %v", len(dst), ok)
	}
	delete(src, amd.Digest)
	err := Write(t.Context(), io.Discard, []Entry{{"a:1", index}}, src, WriteOptions{Want: want})
	if !errdefs.IsNotFound(err) {
		t.Errorf("missing manifest: %v", err)
	}
}

func TestReadDockerOld(t *testing.T) {
	one, two := tarOf("a", "1"), tarOf("b", "2")
	config, _ := json.Marshal(ocispec.Image{Platform: image.Host(), RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{digest.FromBytes(one), digest.FromBytes(two), digest.FromBytes(one)}}})
	manifest := `[{"Config":"abc.json","RepoTags":["busybox:1","quay.io/x/y:2"],"Layers":["l1/layer.tar","l2/layer.tar","l3/layer.tar"]}]`
	// manifest.json before, between and after the layers; a layer that is a link to one that comes later.
	files := []string{"l3/layer.tar", "→../l1/layer.tar", "l1/VERSION", "1.0", "l1/json", "{}", "l1/layer.tar", string(one), "l2/layer.tar", string(gz(two)),
		"abc.json", string(config), "repositories", "{}"}
	for name, archive := range map[string][]byte{
		"first": tarOf(append([]string{"manifest.json", manifest}, files...)...),
		"last":  tarOf(append(files, "./manifest.json", manifest)...),
	} {
		b := blobs{}
		c, err := Read(t.Context(), bytes.NewReader(archive), b.put)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !c.Docker || len(c.Index.Manifests) != 2 {
			t.Fatalf("%s: %+v", name, c)
		}
		d := c.Index.Manifests[0]
		m, err := image.ParseManifest(d.MediaType, b[d.Digest])
		if err != nil {
			t.Fatal(err)
		}
		if m.Layers[0].MediaType != image.DockerLayer || m.Layers[1].MediaType != image.DockerLayerGzip || m.Layers[2].Digest != m.Layers[0].Digest {
			t.Errorf("%s: layers %+v", name, m.Layers)
		}
		if got := (Naming{}).Names(c.Index.Manifests[1]); !slices.Equal(got, []string{"quay.io/x/y:2"}) {
			t.Errorf("%s: names %v", name, got)
		}
		if len(b) != 4 {
			t.Errorf("%s: %d blobs", name, len(b))
		}
	}
}

func TestReadRefuses(t *testing.T) {
	config, _ := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{digest.FromString("other")}}})
	manifest := `[{"Config":"c.json","Layers":["l.tar"]}]`
	for name, c := range map[string]struct {
		data  []byte
		class error
		says  string
	}{
		"empty":         {nil, errdefs.ErrInvalidArgument, "empty"},
		"no archive":    {[]byte(strings.Repeat("hello ", 200)), errdefs.ErrInvalidArgument, "not a tar"},
		"a rootfs":      {tarOf("bin/sh", "x"), errdefs.ErrInvalidArgument, "not an image archive"},
		"wrong blob":    {tarOf("blobs/sha256/"+strings.Repeat("0", 64), "x", "index.json", `{"manifests":[]}`), errdefs.ErrDataLoss, "blob"},
		"no config":     {tarOf("manifest.json", manifest), errdefs.ErrInvalidArgument, "config"},
		"no layer":      {tarOf("manifest.json", manifest, "c.json", string(config)), errdefs.ErrInvalidArgument, "layer"},
		"wrong layer":   {tarOf("manifest.json", manifest, "c.json", string(config), "l.tar", "x"), errdefs.ErrDataLoss, "config says"},
		"link loop":     {tarOf("manifest.json", manifest, "c.json", "→c.json"), errdefs.ErrInvalidArgument, "config"},
		"cut short":     {tarOf("index.json", `{"manifests":[]}`)[:520], errdefs.ErrInvalidArgument, "cut short"},
		"broken gzip":   {gz(tarOf("a", strings.Repeat("x", 5000)))[:40], errdefs.ErrInvalidArgument, "cut short"},
		"short gzip":    {[]byte{0x1f, 0x8b, 8, 0}, errdefs.ErrInvalidArgument, "archive"},
		"schema 1 blob": {tarOf("index.json", `{"manifests":[{"digest":"`+digest.FromString(`{"schemaVersion":1}`).String()+`"}]}`, BlobPath(digest.FromString(`{"schemaVersion":1}`)), `{"schemaVersion":1}`), errdefs.ErrNotImplemented, "schema 1"},
	} {
		_, err := Read(t.Context(), bytes.NewReader(c.data), blobs{}.put)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v saying %q", name, err, c.class, c.says)
		}
	}
}

func TestNames(t *testing.T) {
	d := func(full, ref string) ocispec.Descriptor {
		a := map[string]string{}
		if full != "" {
			a[AnnotationName] = full
		}
		if ref != "" {
			a[ocispec.AnnotationRefName] = ref
		}
		return ocispec.Descriptor{Digest: digest.FromString("x"), Annotations: a}
	}
	at := "@" + digest.FromString("x").String()
	for _, c := range []struct {
		n    Naming
		d    ocispec.Descriptor
		want string
	}{
		{Naming{}, d("docker.io/library/a:1", "1"), "docker.io/library/a:1"},
		{Naming{}, d("", "1"), ""},
		{Naming{}, d("", "quay.io/a:1"), "quay.io/a:1"},
		{Naming{}, d("", "busybox:1"), "docker.io/library/busybox:1"},
		{Naming{Base: "import-2020"}, d("", "1"), "docker.io/library/import-2020:1"},
		{Naming{Base: "quay.io/a", Filter: true}, d("quay.io/b:1", ""), ""},
		{Naming{Base: "quay.io/a", Filter: true}, d("quay.io/ab:1", ""), ""},
		{Naming{Base: "quay.io/a", Filter: true}, d("quay.io/a/b:1", ""), "quay.io/a/b:1"},
		{Naming{Base: "busybox", Filter: true}, d("docker.io/library/busybox:1", ""), "docker.io/library/busybox:1"},
		{Naming{Base: "quay.io/a", Digests: true}, d("", "v"), "quay.io/a:v quay.io/a" + at},
		{Naming{Base: "quay.io/a", Digests: true, SkipDigestForNamed: true}, d("", "v"), "quay.io/a:v"},
		{Naming{Base: "quay.io/a", Digests: true, SkipDigestForNamed: true}, d("", ""), "quay.io/a" + at},
		{Naming{Base: "a"}, d("", "UP_PER:1"), ""},
	} {
		if got := strings.Join(c.n.Names(c.d), " "); got != c.want {
			t.Errorf("%+v of %v: %q, want %q", c.n, c.d.Annotations, got, c.want)
		}
	}
}

// tool runs a program of the host, or skips the test.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestSkopeo(t *testing.T) {
	src, dir := blobs{}, t.TempDir()
	host := src.addImage(platforms.Format(image.Host()))
	ours := filepath.Join(dir, "ours.tar")
	if err := os.WriteFile(ours, write(t, src, WriteOptions{}, Entry{"docker.io/library/a:1", host}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"oci-archive:" + ours, "docker-archive:" + ours} {
		tool(t, "skopeo", "--insecure-policy", "inspect", from)
		for _, form := range []string{"oci-archive", "docker-archive"} {
			theirs := filepath.Join(t.TempDir(), "theirs.tar")
			tool(t, "skopeo", "--insecure-policy", "copy", from, form+":"+theirs+":docker.io/library/b:2")
			f, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Read(t.Context(), f, blobs{}.put)
			_ = f.Close()
			if err != nil || len(c.Index.Manifests) != 1 {
				t.Fatalf("%s written by skopeo: %+v, %v", form, c, err)
			}
			if got := (Naming{}).Names(c.Index.Manifests[0]); !slices.Equal(got, []string{"docker.io/library/b:2"}) {
				t.Errorf("%s: names %v", form, got)
			}
		}
	}
}

func TestUmoci(t *testing.T) {
	src, dir := blobs{}, t.TempDir()
	host := src.addImage(platforms.Format(image.Host()))
	ours := filepath.Join(dir, "ours.tar")
	if err := os.WriteFile(ours, write(t, src, WriteOptions{}, Entry{"docker.io/library/a:1", host}), 0o644); err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(dir, "layout")
	_ = os.Mkdir(layout, 0o755)
	tool(t, "tar", "-xf", ours, "-C", layout)
	tool(t, "umoci", "unpack", "--rootless", "--image", layout+":1", filepath.Join(dir, "bundle"))
	if data, err := os.ReadFile(filepath.Join(dir, "bundle/rootfs/etc/one")); err != nil || string(data) != "one" {
		t.Errorf("umoci unpacked %q, %v", data, err)
	}
}

func FuzzRead(f *testing.F) {
	src := blobs{}
	var buf bytes.Buffer
	_ = Write(context.Background(), &buf, []Entry{{"a:1", src.addImage("linux/amd64")}}, src, WriteOptions{Want: image.Want{All: true}})
	f.Add(buf.Bytes())
	f.Add(gz(buf.Bytes()))
	f.Add(tarOf("l/layer.tar", "x", "c.json", "{}", "manifest.json", `[{"Config":"c.json","Layers":[]}]`, "a", "→../../../a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := blobs{}
		c, err := Read(t.Context(), io.LimitReader(bytes.NewReader(data), 1<<20), b.put)
		if err != nil {
			return
		}
		for _, d := range c.Index.Manifests {
			if image.CheckDescriptor(d) != nil {
				t.Fatalf("accepted %+v", d)
			}
			Naming{Base: "x", Digests: true}.Names(d)
		}
	})
}

// Docker 25 writes an OCI layout whose index may name nothing, with the names in manifest.json.
func TestReadDockerNew(t *testing.T) {
	src := blobs{}
	d := src.addImage("linux/amd64")
	m, _ := image.ParseManifest(d.MediaType, src[d.Digest])
	var files []string
	for k, data := range src {
		files = append(files, BlobPath(k), string(data))
	}
	bare := d
	bare.Platform = nil
	index, _ := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{bare}})
	files = append(files, "oci-layout", `{"imageLayoutVersion":"1.0.0"}`, "index.json", string(index),
		"manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":["busybox:1","other:2"],"Layers":[]}]`, BlobPath(m.Config.Digest)))
	c, err := Read(t.Context(), bytes.NewReader(tarOf(files...)), blobs{}.put)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range c.Index.Manifests {
		names = append(names, Naming{}.Names(d)...)
	}
	if want := []string{"docker.io/library/busybox:1", "docker.io/library/other:2"}; !slices.Equal(names, want) || c.Docker {
		t.Errorf("names %v, docker %v", names, c.Docker)
	}
}

// A few bytes must not stand for terabytes of zeros.
func TestReadRefusesSparse(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Size: 2, Mode: 0o644})
	_, _ = tw.Write([]byte("{}"))
	_ = tw.Close()
	data := buf.Bytes()
	data[156] = tar.TypeGNUSparse
	copy(data[257:], "ustar  \x00")                    // GNU
	copy(data[386:], "00000000000\x0000000000002\x00") // one piece of 2 bytes
	copy(data[483:], "77777777777\x00")                // of 8 GiB
	var sum int64
	copy(data[148:], "        ")
	for _, c := range data[:512] {
		sum += int64(c)
	}
	copy(data[148:], fmt.Sprintf("%06o\x00 ", sum))
	_, err := Read(t.Context(), bytes.NewReader(data), blobs{}.put)
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("%v", err)
	}
}
