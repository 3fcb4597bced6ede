package scenario_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
)

// gzipLayer packs a tar file.
func gzipLayer(t *testing.T, tar, blob string) (diffID string) {
	t.Helper()
	data, err := os.ReadFile(tar)
	check(t, err)
	f, err := os.Create(blob)
	check(t, err)
	w := gzip.NewWriter(f)
	_, err = w.Write(data)
	check(t, err)
	check(t, w.Close())
	check(t, f.Close())
	return digest.FromBytes(data).String()
}

// pushIndex puts SOCI's index of an image into its repository, as one that refers to it: by the tag that registries without
// an API for that have (distribution-spec, "Referrers Tag Schema").
func pushIndex(t *testing.T, image lazyImage) {
	t.Helper()
	repository, _, _ := strings.Cut(strings.TrimSuffix(image.ref, ":latest"), "@")
	index, blobs := testenv.SociIndex(t, image.layout, image.manifest)
	names, err := os.ReadDir(blobs)
	check(t, err)
	var document json.RawMessage
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(blobs, n.Name()))
		check(t, err)
		if "sha256:"+n.Name() == index {
			document = data
			continue
		}
		putBlob(t, repository, "application/octet-stream", data)
	}
	putBlob(t, repository, "application/octet-stream", []byte("{}"))
	d := putManifest(t, repository+":soci", document)
	if d.Digest.String() != index {
		t.Fatalf("the index is %s, want %s", d.Digest, index)
	}
	d.ArtifactType = "application/vnd.amazon.soci.index.v1+json"
	putManifest(t, repository+":"+strings.Replace(image.manifest, ":", "-", 1), ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d},
	})
}

// TestSoci has an image in upstream's SOCI snapshotter: its layers are ordinary ones, an index in the registry says where
// their files are, and what is read is fetched then. An image without an index is pulled as ever.
func TestSoci(t *testing.T) {
	s := testenv.Lazy(t, "soci")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	image := pushLazy(t, r, func(tar, blob string) (string, map[string]string) { return gzipLayer(t, tar, blob), nil })
	pushIndex(t, image)
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[snapshotters.soci]\ntype = \"proxy\"\naddress = %q\n", s.Socket)})
	d.Minictr("images", "pull", "-q", "--snapshotter", "soci", image.ref)
	run := func(id, ref string, args ...string) string {
		t.Helper()
		return strings.TrimSpace(d.Minictr(append([]string{"run", "--rm", "--snapshotter", "soci", ref, id}, args...)...))
	}
	if got := run("one", image.ref, "echo", "hello"); got != "hello" {
		t.Errorf("it says %q", got)
	}
	early := image.served(t, r)
	if early > image.size/2 {
		t.Errorf("the registry has sent %d bytes of layers of %d before the file was read\n%s", early, image.size, s.Log())
	}
	if got, _, _ := strings.Cut(run("two", image.ref, "sha256sum", "/big"), " "); got != image.sum {
		t.Errorf("the file has the sum %s, want %s", got, image.sum)
	}
	if late := image.served(t, r); late < 8<<20 {
		t.Errorf("the registry has sent %d bytes, and the file was read", late)
	}
	testenv.Measured(t, "layers of %d bytes: %d sent before the container ran", image.size, early)
	d.Minictr("images", "pull", "-q", "--snapshotter", "soci", r.Ref("busybox"))
	if got := run("three", r.Ref("busybox"), "echo", "plain"); got != "plain" {
		t.Errorf("it says %q", got)
	}
	d.Minictr("check")
	d.Minictr("images", "rm", "--sync", image.ref, r.Ref("busybox"))
	if left := d.Minictr("snapshots", "--snapshotter", "soci", "ls", "-q"); left != "" {
		t.Errorf("left: %s", left)
	}
}
