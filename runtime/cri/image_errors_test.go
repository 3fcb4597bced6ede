package cri

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/trust"
)

// TestImageError holds the texts to what a kubelet looks for: it drops the code UNKNOWN, and compares how the message begins.
func TestImageError(t *testing.T) {
	ref, err := name.Parse("127.0.0.1:1/none:1")
	if err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{Override: &registry.HostOverride{PlainHTTP: true}, Retry: registry.Retry{Attempts: 1}, DockerConfig: t.TempDir()})
	_, down := client.Resolve(t.Context(), ref)
	for _, row := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{nil, codes.OK, ""},
		{fmt.Errorf("pull x: %w", trust.ErrSignature), codes.Unknown, "SignatureValidationFailed: pull x"},
		{fmt.Errorf("pull x: %w", down), codes.Unknown, "RegistryUnavailable: pull x: resolve 127.0.0.1:1/none:1"},
		{fmt.Errorf("the daemon is stopping: %w", errdefs.ErrUnavailable), codes.Unavailable, "the daemon is stopping"},
		{fmt.Errorf("image x: %w", errdefs.ErrNotFound), codes.NotFound, "image x"},
	} {
		s := grpcx.Status(imageError(t.Context(), row.err))
		if s.Code() != row.code || !strings.HasPrefix(s.Message(), row.text) {
			t.Errorf("%v: %s %q, want %s %q", row.err, s.Code(), s.Message(), row.code, row.text)
		}
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if s := grpcx.Status(imageError(late, fmt.Errorf("pull x: %w", down))); s.Code() != codes.DeadlineExceeded || !strings.HasPrefix(s.Message(), "pull x") {
		t.Errorf("with no time left: %s %q", s.Code(), s.Message())
	}
}

// TestCreateContainerTrust asks for a container of an image that the policy of the pod's namespace refuses.
func TestCreateContainerTrust(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	w.names.distrusted = "ns user.example/bad:1"
	config := containerConfigOf("c")
	config.Image.UserSpecifiedImage = "user.example/bad:1"
	_, err := w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config})
	wants(t, err, codes.Unknown, "SignatureValidationFailed: image user.example/bad:1")
	config.Image.UserSpecifiedImage = "user.example/good:1"
	if _, err := w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config}); err != nil {
		t.Error(err)
	}
}
