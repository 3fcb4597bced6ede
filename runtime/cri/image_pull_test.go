package cri

import (
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/cri/policy"
)

func TestPullSnapshotter(t *testing.T) {
	s := &imageServer{Deps: Deps{Policy: func() *policy.Settings {
		return &policy.Settings{Handlers: map[string]policy.Handler{"kata": {Snapshotter: "erofs"}, "lazy": {Snapshotter: "stargz"}}}
	}}}
	annotations := func(handler string) map[string]string { return map[string]string{handlerAnnotation: handler} }
	for _, test := range []struct {
		name string
		r    *v1.PullImageRequest
		want string
	}{
		{"nothing", &v1.PullImageRequest{}, ""},
		{"the field", &v1.PullImageRequest{Image: &v1.ImageSpec{RuntimeHandler: "kata", Annotations: annotations("lazy")}}, "erofs"},
		{"the image's annotation", &v1.PullImageRequest{Image: &v1.ImageSpec{Annotations: annotations("lazy")}}, "stargz"},
		{"the pod's annotation", &v1.PullImageRequest{SandboxConfig: &v1.PodSandboxConfig{Annotations: annotations("kata")}}, "erofs"},
		{"an unknown one", &v1.PullImageRequest{SandboxConfig: &v1.PodSandboxConfig{Annotations: annotations("runsc")}}, ""},
	} {
		if got := s.pullSnapshotter(test.r); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
