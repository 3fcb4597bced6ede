package cri

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/registry"
)

func imageOf(ref string) *v1.ImageSpec { return &v1.ImageSpec{Image: ref} }

func TestImages(t *testing.T) {
	w := newWorld(t)
	id := digest.FromString("busybox")
	w.names.names["docker.io/library/other:2"] = id
	w.names.names["docker.io/library/nginx:1"] = digest.FromString("nginx")
	w.names.user = "1000:5"
	list, err := w.images.ListImages(t.Context(), &v1.ListImagesRequest{})
	if err != nil || len(list.Images) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	st, err := w.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: imageOf("busybox:1"), Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	i := st.Image
	if i.Id != id.String() || !slices.Equal(i.RepoTags, []string{"docker.io/library/busybox:1", "docker.io/library/other:2"}) ||
		len(i.RepoDigests) != 2 || i.Size != 1234 || i.Uid.GetValue() != 1000 || i.Username != "" || !strings.Contains(st.Info["info"], "imageSpec") {
		t.Errorf("status is %v, %v", i, st.Info)
	}
	for _, ref := range append(i.RepoDigests, i.Id, i.RepoTags[1]) {
		if r, err := w.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: imageOf(ref)}); err != nil || r.Image.GetId() != i.Id {
			t.Errorf("%s: %v, %v", ref, r, err)
		}
		if r, err := w.images.ListImages(t.Context(), &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: imageOf(ref)}}); err != nil || len(r.Images) != 1 {
			t.Errorf("%s: %v, %v", ref, r, err)
		}
	}
	if r, err := w.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: imageOf("nosuch")}); err != nil || r.Image != nil {
		t.Errorf("an image that is not there: %v, %v", r, err)
	}
	_, err = w.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{})
	wants(t, err, codes.InvalidArgument, "name is empty")
	for range 2 {
		if _, err := w.images.RemoveImage(t.Context(), &v1.RemoveImageRequest{Image: imageOf("other:2")}); err != nil {
			t.Fatal(err)
		}
	}
	if names := sortedKeys(w.names.names); !slices.Equal(names, []string{"docker.io/library/nginx:1"}) {
		t.Errorf("left are %v", names)
	}
}

func TestPullImage(t *testing.T) {
	w := newWorld(t)
	r, err := w.images.PullImage(t.Context(), &v1.PullImageRequest{
		Image: imageOf("reg.example/a:1"), Auth: &v1.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://reg.example"}})
	if err != nil || r.ImageRef != digest.FromString("reg.example/a:1").String() {
		t.Fatalf("%v, %v", r, err)
	}
	if o := w.names.pulled[0].Registry.Override; o.Username != "u" || o.Host != "reg.example" {
		t.Errorf("credentials are %+v", o)
	}
	spec := imageOf("b")
	spec.RuntimeHandler = "kata"
	_, err = w.images.PullImage(t.Context(), &v1.PullImageRequest{Image: spec})
	wants(t, err, codes.InvalidArgument, "runtime handler")
	_, err = w.images.PullImage(t.Context(), &v1.PullImageRequest{})
	wants(t, err, codes.InvalidArgument, "name is empty")
}

func TestRegistryAuth(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("u:p:q"))
	for name, tc := range map[string]struct {
		auth *v1.AuthConfig
		want *registry.HostOverride
	}{
		"none":     {nil, nil},
		"empty":    {&v1.AuthConfig{ServerAddress: "x"}, nil},
		"password": {&v1.AuthConfig{Username: "u", Password: "p"}, &registry.HostOverride{Username: "u", Password: "p"}},
		"auth":     {&v1.AuthConfig{Auth: basic, ServerAddress: "reg:5000/v2/"}, &registry.HostOverride{Username: "u", Password: "p:q", Host: "reg:5000"}},
		"identity": {&v1.AuthConfig{IdentityToken: "t"}, &registry.HostOverride{IdentityToken: "t"}},
		"registry": {&v1.AuthConfig{RegistryToken: "t", ServerAddress: "https://index.docker.io/v1/"}, &registry.HostOverride{RegistryToken: "t", Host: "docker.io"}},
	} {
		got, err := registryAuth(tc.auth)
		if err != nil || (got == nil) != (tc.want == nil) || got != nil && *got != *tc.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.want)
		}
	}
	for _, auth := range []string{"!!!", base64.StdEncoding.EncodeToString([]byte("secretwithoutcolon"))} {
		_, err := registryAuth(&v1.AuthConfig{Auth: auth})
		if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), auth) {
			t.Errorf("%s: %v", auth, err)
		}
	}
}

func TestImageUser(t *testing.T) {
	for user, want := range map[string]struct {
		uid  *v1.Int64Value
		name string
	}{
		"": {&v1.Int64Value{}, ""}, "1000": {&v1.Int64Value{Value: 1000}, ""}, "7:8": {&v1.Int64Value{Value: 7}, ""}, "www": {nil, "www"}, "www:x": {nil, "www"},
		"-1": {nil, "-1"},
	} {
		uid, name := imageUser(user)
		if (uid == nil) != (want.uid == nil) || uid.GetValue() != want.uid.GetValue() || name != want.name {
			t.Errorf("%q: %v %q", user, uid, name)
		}
	}
}

func TestImageFsInfo(t *testing.T) {
	w := newWorld(t)
	w.container(t, w.pod(t, "web"), "c", false)
	r, err := w.images.ImageFsInfo(t.Context(), &v1.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	i, c := r.ImageFilesystems, r.ContainerFilesystems
	if len(i) != 1 || i[0].UsedBytes.Value != 1000 || i[0].InodesUsed.Value != 10 || i[0].Timestamp == 0 || i[0].FsId.Mountpoint != "/var/lib/minid/snapshots" ||
		len(c) != 1 || c[0].UsedBytes.Value != 77 {
		t.Errorf("%v", r)
	}
}
