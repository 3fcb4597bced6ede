package scenario_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
)

// lazyImage is an image of eStargz layers in a registry: busybox, and a file that is too large to be fetched unnoticed.
type lazyImage struct {
	ref    string
	layers []ocispec.Descriptor
	size   int64  // of the layers
	sum    string // SHA-256 of /big

	layout, manifest string // the OCI layout that it is in, and its digest
}

// pushLazy makes the image and pushes it. pack makes a layer of a tar file, and says its diff ID and annotations.
func pushLazy(t *testing.T, r *testenv.RegistryServer, pack func(tar, blob string) (string, map[string]string)) lazyImage {
	t.Helper()
	testenv.Need(t, "skopeo")
	dir := testenv.Dir(t)
	blobs := filepath.Join(dir, "layout/blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 8<<20)
	_, _ = rand.Read(big) // never fails
	sum := sha256.Sum256(big)
	image := lazyImage{ref: r.Ref("lazy"), sum: hex.EncodeToString(sum[:])}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	document := func(mediaType string, v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, data)
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	config.Config.Cmd = []string{"sh"}
	for i, file := range []string{layerOf(t, "busybox", dir), tarWith(t, dir, "big", big)} {
		blob := filepath.Join(dir, fmt.Sprint("layer", i))
		diffID, annotations := pack(file, blob)
		data, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		d := put(ocispec.MediaTypeImageLayerGzip, data)
		d.Annotations = annotations
		image.layers, image.size = append(image.layers, d), image.size+d.Size
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(diffID))
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: document(ocispec.MediaTypeImageConfig, config), Layers: image.layers}
	m := document(ocispec.MediaTypeImageManifest, manifest)
	image.layout, image.manifest = filepath.Join(dir, "layout"), m.Digest.String()
	m.Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{m}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "layout/index.json"), index, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "layout/oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+dir+"/layout:latest", "docker://"+image.ref)
	return image
}

func tarWith(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	file := filepath.Join(dir, name+".tar")
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// served is how many bytes of the layers the registry has sent, by its access log.
func (i lazyImage) served(t *testing.T, r *testenv.RegistryServer) int64 {
	t.Helper()
	var sum int64
	for _, line := range regexp.MustCompile(`"GET /v2/lazy/blobs/(sha256:[0-9a-f]+) HTTP/1.1" 20[06] (\d+)`).FindAllStringSubmatch(r.Log(), -1) {
		n, err := strconv.ParseInt(line[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range i.layers {
			if l.Digest.String() == line[1] {
				sum += n
			}
		}
	}
	return sum
}

// TestLazyPull has an image in upstream's stargz snapshotter: it starts before its layers are fetched, and what is read is
// fetched then. The snapshotter is killed and comes back.
func TestLazyPull(t *testing.T) {
	s := testenv.Lazy(t, "stargz")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	image := pushLazy(t, r, func(tar, blob string) (string, map[string]string) {
		diffID, toc := testenv.StargzLayer(t, tar, blob)
		return diffID, map[string]string{"containerd.io/snapshot/stargz/toc.digest": toc}
	})
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[snapshotters.stargz]\ntype = \"proxy\"\naddress = %q\n", s.Socket)})
	run := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(d.Minictr(append([]string{"run", "--rm", "--snapshotter", "stargz", image.ref, "id" + strconv.Itoa(len(args)) + "x"}, args...)...))
	}
	d.Minictr("images", "pull", "-q", "--snapshotter", "stargz", image.ref)
	if got := run("echo", "hello"); got != "hello" {
		t.Errorf("it says %q", got)
	}
	early := image.served(t, r)
	if early == 0 || early > image.size/4 {
		t.Errorf("the registry has sent %d bytes of layers of %d before the file was read", early, image.size)
	}
	if got, _, _ := strings.Cut(run("sha256sum", "/big"), " "); got != image.sum {
		t.Errorf("the file has the sum %s, want %s", got, image.sum)
	}
	if late := image.served(t, r); late < 8<<20 {
		t.Errorf("the registry has sent %d bytes, and the file was read", late)
	}
	testenv.Measured(t, "layers of %d bytes: %d sent before the container ran", image.size, early)
	d.Minictr("check")
	again := image.served(t, r)
	d.Minictr("images", "pull", "-q", "--snapshotter", "stargz", image.ref)
	if now := image.served(t, r); now != again {
		t.Errorf("a second pull had %d bytes sent", now-again)
	}
	refused(t, d.Try("run", "--rm", image.ref, "x", "true"), "pull the image again")
	// The kernel maps no ids of a FUSE filesystem that does not ask for it (Linux 6.12).
	refused(t, d.Try("run", "--rm", "--snapshotter", "stargz", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", image.ref, "mapped", "true"),
		"does not support idmapped mounts")
	lazyDiff(t, d, image.ref)
	lazyOutage(t, d, s, image.ref, run)
	// What is not eStargz is unpacked as by any other snapshotter.
	d.Minictr("images", "pull", "-q", "--snapshotter", "stargz", r.Ref("busybox"))
	if got := d.Minictr("run", "--rm", "--snapshotter", "stargz", r.Ref("busybox"), "plain", "echo", "plain"); got != "plain\n" {
		t.Errorf("it says %q", got)
	}
	// And by another snapshotter the image is like any other.
	d.Minictr("images", "pull", "-q", image.ref)
	if got := d.Minictr("run", "--rm", image.ref, "y", "echo", "here"); got != "here\n" {
		t.Errorf("it says %q", got)
	}
	d.Minictr("images", "rm", "--sync", image.ref, r.Ref("busybox"))
	for _, sn := range []string{"stargz", "overlay"} {
		if left := d.Minictr("snapshots", "--snapshotter", sn, "ls", "-q"); left != "" {
			t.Errorf("left in %s: %s", sn, left)
		}
	}
}

// lazyDiff: what a container has changed is told without the layers being read.
func lazyDiff(t *testing.T, d *testenv.DaemonProcess, ref string) {
	t.Helper()
	d.Minictr("run", "--snapshotter", "stargz", ref, "writer", "sh", "-c", "echo new > /new; rm /bin/ls")
	layer := tarNames(t, gunzip(t, d.Minictr("snapshots", "--snapshotter", "stargz", "diff", "writer")))
	if got := strings.Join(layer, " "); !strings.Contains(got, "bin/.wh.ls") || !strings.Contains(got, "new") || strings.Contains(got, "big") {
		t.Errorf("the layer has %s", got)
	}
	if usage := d.Minictr("snapshots", "--snapshotter", "stargz", "usage", "writer"); !strings.Contains(usage, "writer") {
		t.Errorf("usage: %s", usage)
	}
}

// lazyOutage kills the snapshotter, and then the daemon too, and brings them back.
func lazyOutage(t *testing.T, d *testenv.DaemonProcess, s *testenv.LazySnapshotter, ref string, run func(...string) string) {
	t.Helper()
	s.Kill()
	refused(t, d.Try("run", "--rm", "--snapshotter", "stargz", ref, "z", "true"), "snapshotter stargz does not answer at "+s.Socket)
	refused(t, d.Try("containers", "rm", "writer"), "does not answer")
	refused(t, d.Try("check"), "problems")
	d.Kill9()
	d.Start() // without it
	if list := d.Minictr("containers", "ls"); !strings.Contains(list, "writer") {
		t.Errorf("the container on it is lost:\n%s", list)
	}
	s.Start()
	testenv.Eventually(t, 30*time.Second, "the snapshotter to be found again", func() bool {
		return d.Try("snapshots", "--snapshotter", "stargz", "usage", "writer").Code == 0
	})
	if got := run("cat", "/etc/passwd", "/proc/version"); !strings.Contains(got, "root:") {
		t.Errorf("after its return: %s", got)
	}
	d.Minictr("containers", "rm", "writer")
}
