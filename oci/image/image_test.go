package image

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMediaTypes(t *testing.T) {
	for _, c := range []struct {
		in, compression, want, oci string
		kind                       Kind
	}{
		{ocispec.MediaTypeImageLayerGzip, "zstd", ocispec.MediaTypeImageLayerZstd, ocispec.MediaTypeImageLayerGzip, KindLayer},
		{ocispec.MediaTypeImageLayer, "gzip", ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayer, KindLayer},
		{DockerLayerGzip, "", DockerLayer, ocispec.MediaTypeImageLayerGzip, KindLayer},
		{DockerLayer, "gzip", DockerLayerGzip, ocispec.MediaTypeImageLayer, KindLayer},
		{DockerForeignGzip, "", DockerForeign, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", KindLayer},
		{DockerManifest, "gzip", DockerManifest, ocispec.MediaTypeImageManifest, KindManifest},
		{DockerList, "", DockerList, ocispec.MediaTypeImageIndex, KindIndex},
		{DockerConfig, "", DockerConfig, ocispec.MediaTypeImageConfig, KindConfig},
		{"application/x-thing", "", "application/x-thing", "application/x-thing", KindBlob},
	} {
		if got := LayerType(c.in, c.compression); got != c.want {
			t.Errorf("LayerType(%s, %q) = %s, want %s", c.in, c.compression, got, c.want)
		}
		if got := ToOCI(c.in); got != c.oci {
			t.Errorf("ToOCI(%s) = %s, want %s", c.in, got, c.oci)
		}
		if got := KindOf(c.in); got != c.kind {
			t.Errorf("KindOf(%s) = %s, want %s", c.in, got, c.kind)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	d := `{"mediaType":"x","digest":"` + digest.FromString("x").String() + `","size":1}`
	for name, c := range map[string]struct {
		mediaType, data, says string
		class                 error
	}{
		"schema 1":             {ocispec.MediaTypeImageManifest, `{"schemaVersion":1,"fsLayers":[]}`, "schema 1", errdefs.ErrNotImplemented},
		"schema 1 by type":     {dockerSchema1JWS, `{}`, "schema 1", errdefs.ErrNotImplemented},
		"two documents in one": {ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[],"manifests":[]}`, "index", errdefs.ErrInvalidArgument},
		"type differs":         {DockerManifest, `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + d + `}`, "descriptor says", errdefs.ErrInvalidArgument},
		"html":                 {ocispec.MediaTypeImageManifest, `<html>`, "proxy", errdefs.ErrInvalidArgument},
		"no config":            {ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`, "config", errdefs.ErrInvalidArgument},
		"bad digest":           {ocispec.MediaTypeImageManifest, `{"config":{"digest":"sha256:../../x"}}`, "digest", errdefs.ErrInvalidArgument},
		"negative size":        {ocispec.MediaTypeImageManifest, `{"config":` + strings.Replace(d, `"size":1`, `"size":-1`, 1) + `}`, "negative", errdefs.ErrInvalidArgument},
		"too long":             {ocispec.MediaTypeImageManifest, strings.Repeat(" ", MaxManifestSize) + "{}", "more than", errdefs.ErrInvalidArgument},
		"an index":             {ocispec.MediaTypeImageIndex, `{}`, "is not an image manifest", errdefs.ErrInvalidArgument},
	} {
		_, err := ParseManifest(c.mediaType, []byte(c.data))
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v saying %q", name, err, c.class, c.says)
		}
	}
	if _, err := ParseIndex("", []byte(`{"manifests":[],"layers":[]}`)); err == nil {
		t.Error("an index with layers was accepted")
	}
}

func TestArtifact(t *testing.T) {
	d := func(mt string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mt, Digest: digest.FromString(mt), Size: 2}
	}
	subject := d(ocispec.MediaTypeImageManifest)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/sbom", Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{d("text/spdx")}, Subject: &subject, Annotations: map[string]string{"a": "b"}}
	m.SchemaVersion = 2
	data, _ := json.Marshal(m)
	got, err := ParseManifest(ocispec.MediaTypeImageManifest, data)
	if err != nil || !IsArtifact(got) || ArtifactType(got) != "application/sbom" || got.Subject.Digest != subject.Digest || got.Annotations["a"] != "b" {
		t.Fatalf("%+v, %v", got, err)
	}
	children, err := Children(d(ocispec.MediaTypeImageManifest), data)
	if err != nil || len(children) != 2 {
		t.Fatalf("children %v, %v", children, err)
	}
	if image := (ocispec.Manifest{Config: d(DockerConfig)}); IsArtifact(image) || ArtifactType(image) != "" {
		t.Error("an image is taken for an artifact")
	}
}

func TestChainID(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	ab := digest.FromString(a.String() + " " + b.String())
	abc := digest.FromString(ab.String() + " " + c.String())
	got := ChainIDs([]digest.Digest{a, b, c})
	if got[0] != a || got[1] != ab || got[2] != abc || ChainID([]digest.Digest{a, b, c}) != abc || ChainID(nil) != "" {
		t.Errorf("chain %v", got)
	}
}

func TestChoose(t *testing.T) {
	index := func(names ...string) (list []ocispec.Descriptor) {
		for _, n := range names {
			p := platforms.MustParse(n)
			list = append(list, ocispec.Descriptor{Digest: digest.FromString(n), Platform: &p, Annotations: map[string]string{"n": n}})
		}
		return append(list, ocispec.Descriptor{Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}})
	}
	for _, c := range []struct {
		want string
		have []ocispec.Descriptor
		got  string
	}{
		{"linux/amd64", index("linux/386", "linux/arm64", "linux/amd64"), "linux/amd64"},
		{"linux/amd64/v3", index("linux/amd64", "linux/amd64/v2", "linux/amd64/v4"), "linux/amd64/v2"},
		{"linux/amd64", index("linux/amd64/v3"), ""},
		{"linux/arm/v7", index("linux/arm/v5", "linux/arm/v6", "linux/arm64"), "linux/arm/v6"},
		{"linux/arm64/v8", index("linux/arm64"), "linux/arm64"},
		{"linux/arm64", index("linux/arm64/v8"), "linux/arm64/v8"},
		{"linux/s390x", index("linux/amd64", "windows/amd64"), ""},
	} {
		d, ok := Choose(c.have, platforms.MustParse(c.want))
		if ok != (c.got != "") || d.Annotations["n"] != c.got {
			t.Errorf("%s of %s: got %q, want %q", c.want, PlatformNames(c.have), d.Annotations["n"], c.got)
		}
	}
}

// documents is a set of documents by digest.
type documents map[digest.Digest][]byte

func (s documents) add(mediaType string, v any) ocispec.Descriptor {
	data, _ := json.Marshal(v)
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	s[d.Digest] = data
	return d
}

func (s documents) read(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	if data, ok := s[d.Digest]; ok {
		return data, nil
	}
	return nil, errdefs.ErrNotFound
}

func (s documents) image(platform string) ocispec.Descriptor {
	config := s.add(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: platforms.MustParse(platform)})
	return s.add(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("shared"), Size: 6}}})
}

func TestManifestsAndWalk(t *testing.T) {
	s := documents{}
	amd, arm := s.image("linux/amd64"), s.image("linux/arm64")
	nested := s.add(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{arm}})
	target := s.add(DockerList, ocispec.Index{Manifests: []ocispec.Descriptor{amd, nested}})

	w, err := ParseWant([]string{"arm64", "linux/amd64"}, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Manifests(t.Context(), s.read, target, w)
	if err != nil || len(got) != 2 || got[0].Digest != arm.Digest || got[1].Digest != amd.Digest {
		t.Fatalf("manifests %v, %v", got, err)
	}
	if got, err = Manifests(t.Context(), s.read, target, Want{All: true}); err != nil || len(got) != 2 {
		t.Fatalf("all manifests %v, %v", got, err)
	}
	w, _ = ParseWant([]string{"linux/s390x"}, false)
	if _, err = Manifests(t.Context(), s.read, target, w); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("missing platform: %v", err)
	}
	if got, err = Manifests(t.Context(), s.read, arm, w); err != nil || got[0].Digest != arm.Digest {
		t.Errorf("a manifest named directly: %v, %v", got, err)
	}
	if _, err := ParseWant([]string{"a/b/c/d"}, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad platform: %v", err)
	}

	visits := map[Kind]int{}
	err = Walk(t.Context(), s.read, target, func(d ocispec.Descriptor) error { visits[KindOf(d.MediaType)]++; return nil })
	if err != nil || visits[KindIndex] != 2 || visits[KindManifest] != 2 || visits[KindConfig] != 2 || visits[KindLayer] != 1 {
		t.Errorf("visits %v, %v", visits, err)
	}
}

func TestConvert(t *testing.T) {
	m := ocispec.Manifest{MediaType: DockerManifest, Config: ocispec.Descriptor{MediaType: DockerConfig}, Layers: []ocispec.Descriptor{{MediaType: DockerLayerGzip}}}
	got := ManifestToOCI(m)
	if got.MediaType != ocispec.MediaTypeImageManifest || got.Config.MediaType != ocispec.MediaTypeImageConfig || got.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("%+v", got)
	}
	if m.Layers[0].MediaType != DockerLayerGzip {
		t.Error("the original was changed")
	}
}

func FuzzParse(f *testing.F) {
	s := documents{}
	target := s.add(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{s.image("linux/amd64")}})
	for _, data := range s {
		f.Add(data)
	}
	f.Add([]byte(`{"schemaVersion":1}`))
	_ = target
	f.Fuzz(func(t *testing.T, data []byte) {
		mt, err := DetectType(data)
		if err == nil {
			if children, err := Children(ocispec.Descriptor{MediaType: mt}, data); err == nil {
				for _, c := range children {
					if CheckDescriptor(c) != nil {
						t.Fatalf("accepted child %+v", c)
					}
				}
			}
		}
		_, errIndex := ParseIndex("", data)
		_, errManifest := ParseManifest("", data)
		if errIndex == nil && errManifest == nil {
			t.Fatalf("read as index and as manifest: %s", data)
		}
		if c, err := ParseConfig(data); err == nil {
			ChainID(c.RootFS.DiffIDs)
		}
	})
}
