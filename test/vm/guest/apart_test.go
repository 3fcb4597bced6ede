package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// putSmall puts an image of one file into a registry, and returns its layer's digest.
func putSmall(t *testing.T, r *registrytest.Registry) digest.Digest {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: 4})
	if err == nil {
		_, err = w.Write([]byte("file"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	d := r.PutBlob("small", layer.Bytes())
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{d.Digest}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := r.PutBlob("small", config)
	c.MediaType = ocispec.MediaTypeImageConfig
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: c, Layers: []ocispec.Descriptor{d},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.PutManifest("small", "1", ocispec.MediaTypeImageManifest, manifest)
	return d.Digest
}

// TestSystemdPulls pulls in the slice of a pod, where systemd has the groups.
func TestSystemdPulls(t *testing.T) {
	testenv.Need(t, "systemd-run")
	r := registrytest.New(t, registrytest.Options{})
	layer := putSmall(t, r)
	r.Fail(registrytest.Fault{Path: "/blobs/" + layer.String(), Hang: 3 * time.Second, Times: 1})
	d := testenv.Daemon(t, testenv.DaemonOptions{Root: "/var/lib/mini", Config: "[image]\nseparate_pull_cgroup = \"pod\"\n"})
	c := testenv.DialCRI(t, d.Address)
	pulled := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := c.Images.PullImage(ctx, &runtimeapi.PullImageRequest{
			Image:         &runtimeapi.ImageSpec{Image: r.Host() + "/small:1"},
			SandboxConfig: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}, Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "pods-pull.slice"}},
		})
		pulled <- err
	}()
	procs := func() string {
		found, err := filepath.Glob("/sys/fs/cgroup/pods.slice/pods-pull.slice/minid-pull-*.scope/cgroup.procs")
		if err != nil || len(found) == 0 {
			return ""
		}
		data, _ := os.ReadFile(found[0])
		return strings.TrimSpace(string(data))
	}
	testenv.Eventually(t, 20*time.Second, "a process in the pod's slice", func() bool { return procs() != "" || len(pulled) > 0 })
	if procs() == "" {
		t.Error("nobody pulled in the pod's slice")
	}
	if err := <-pulled; err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 20*time.Second, "the scope is gone", func() bool { return procs() == "" })
	d.Minictr("-n", "k8s.io", "images", "rm", "--sync", r.Host()+"/small:1")
}
