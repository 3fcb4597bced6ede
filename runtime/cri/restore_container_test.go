package cri

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestRestoreContainer creates a container of an archive, which its start goes on from.
func TestRestoreContainer(t *testing.T) {
	w := newWorld(t)
	w.engine.bundles = t.TempDir()
	pod := w.pod(t, "web")
	was := w.container(t, pod, "was", true)
	location := filepath.Join(t.TempDir(), "c.tar")
	if _, err := w.CheckpointContainer(t.Context(), &v1.CheckpointContainerRequest{ContainerId: was, Location: location}); err != nil {
		t.Fatal(err)
	}
	create := func(image string) (string, error) {
		config := containerConfigOf("again")
		config.Image = &v1.ImageSpec{Image: image}
		out, err := w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: podConfigOf("web")})
		return out.GetContainerId(), err
	}
	id, err := create(location)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.engine.applied, []string{"diff of " + was}) {
		t.Errorf("applied %q", w.engine.applied)
	}
	c, err := w.engine.Get(t.Context(), Namespace, id)
	if err != nil || strings.Contains(c.Image, location) {
		t.Errorf("the image is %s, %v", c.Image, err)
	}
	restore := unpack(c).Restore
	if left := entriesOf(t, filepath.Dir(restore)); !slices.Equal(left, []string{"checkpoint", "config.dump", "spec.dump"}) {
		t.Errorf("the bundle has %v", left)
	}
	if _, err := os.Stat(filepath.Join(restore, "pages-1.img")); err != nil {
		t.Error(err)
	}
	again, err := create(location)
	if err != nil || again != id {
		t.Errorf("the same request made %s, %v", again, err)
	}

	dir := t.TempDir()
	for name, tc := range map[string]struct {
		content string
		code    codes.Code
		says    string
	}{
		"text":    {"no archive at all", codes.InvalidArgument, "no archive"},
		"empty":   {archiveOf(nil), codes.InvalidArgument, "no archive of a checkpoint"},
		"damaged": {archiveOf(map[string]string{"config.dump": "{"}), codes.InvalidArgument, "damaged"},
		"unnamed": {archiveOf(map[string]string{"config.dump": "{}"}), codes.InvalidArgument, "names no image"},
		"absent":  {archiveOf(map[string]string{"config.dump": `{"rootfsImageName":"nosuch:1"}`}), codes.NotFound, "pull its image first"},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := create(file)
		wants(t, err, tc.code, tc.says)
	}
	_, err = create(filepath.Join(dir, "nosuch"))
	wants(t, err, codes.NotFound, "no such file")
	w.runtime.criu = noCRIU
	_, err = create(location)
	wants(t, err, codes.FailedPrecondition, "criu")
}

// archiveOf is a tar with these files.
func archiveOf(files map[string]string) string {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600})
		w.Write([]byte(content))
	}
	w.Close()
	return out.String()
}

func FuzzDump(f *testing.F) {
	f.Add([]byte(archiveOf(map[string]string{"config.dump": `{"rootfsImageRef":"a","rootfsImageName":"b"}`})))
	f.Add([]byte(archiveOf(map[string]string{"./config.dump": `{"rootfsImageRef":1}`})))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		refs, err := readDump(bytes.NewReader(data))
		if err != nil && !errdefs.IsInvalidArgument(err) || err == nil && len(refs) == 0 {
			t.Errorf("%q, %v", refs, err)
		}
	})
}
