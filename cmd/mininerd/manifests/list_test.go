package manifests

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
)

func TestLists(t *testing.T) {
	ref, err := name.Parse("reg.example/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	s := Store{Dir: t.TempDir() + "/new"}
	if _, err := s.Load(ref); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "No such manifest: reg.example/team/app:1") {
		t.Errorf("%v", err)
	}
	l := &List{Name: ref.String()}
	item := func(ref, mediaType, arch string) Item {
		return Item{Ref: ref, Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(ref), Size: 3, Platform: &ocispec.Platform{OS: "linux", Architecture: arch}}, Manifest: []byte("{ }")}
	}
	l.Add(item("a", ocispec.MediaTypeImageManifest, "amd64"))
	l.Add(item("b", ocispec.MediaTypeImageManifest, ""))
	if _, _, err := l.Document(); err == nil || !strings.Contains(err.Error(), "manifest b must have an OS and Architecture") {
		t.Errorf("%v", err)
	}
	l.Add(item("b", ocispec.MediaTypeImageManifest, "arm64"))
	for want, change := range map[string]func(){
		ocispec.MediaTypeImageIndex: func() {},
		image.DockerList:            func() { l.Add(item("a", image.DockerManifest, "amd64")) },
	} {
		if want == image.DockerList {
			defer func() { _ = s.Remove(ref) }()
		}
		copied := &List{Name: l.Name, Items: append([]Item(nil), l.Items...)}
		old := l
		l = copied
		change()
		desc, data, err := l.Document()
		if err != nil || desc.MediaType != want || desc.Digest != digest.FromBytes(data) {
			t.Errorf("%v %v, want %s", desc, err, want)
		}
		if x, err := image.ParseIndex(desc.MediaType, data); err != nil || len(x.Manifests) != 2 {
			t.Errorf("%v, %v", x, err)
		}
		l = old
	}
	if err := s.Save(ref, l); err != nil {
		t.Fatal(err)
	}
	again, err := s.Load(ref)
	if err != nil || len(again.Items) != 2 || string(again.Items[0].Manifest) != "{ }" {
		t.Fatalf("%v, %v", again, err)
	}
	if _, err := again.Find("c"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(s.path(ref), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ref); !errdefs.IsDataLoss(err) {
		t.Errorf("%v", err)
	}
	if err := s.Remove(ref); err != nil {
		t.Error(err)
	}
	if err := s.Remove(ref); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}
