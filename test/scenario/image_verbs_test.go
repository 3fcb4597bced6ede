package scenario_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestImageVerbs goes through what minictr does with the names of images.
func TestImageVerbs(t *testing.T) {
	i := testenv.Image(t, "mixed")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := r.Ref("mixed")
	if out := d.Minictr("images", "pull", "--label", "a=b", "--print-chainid", "--max-concurrent-downloads", "1", ref); !strings.Contains(out, "image chain id: sha256:") {
		t.Errorf("pull --print-chainid: %q", out)
	}
	list := d.Minictr("images", "ls")
	header(t, list, "REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS")
	for _, want := range []string{ref, i.Digest, i.MediaType, "linux/amd64", "a=b"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in the list:\n%s", want, list)
		}
	}
	if got := d.Minictr("images", "tag", ref, "short", "other.example/name:v2"); got != "docker.io/library/short:latest\nother.example/name:v2\n" {
		t.Errorf("tag: %q", got)
	}
	d.Minictr("images", "pull", "-q", r.Ref("busybox"))
	refused(t, d.Try("images", "tag", r.Ref("busybox"), "short"), "short", "force")
	d.Minictr("images", "tag", "--force", r.Ref("busybox"), "short")
	if got := d.Minictr("images", "ls", "-q", "digest=="+i.Digest); got != ref+"\nother.example/name:v2\n" {
		t.Errorf("list by digest: %q", got)
	}
	if got := d.Minictr("images", "label", ref, "c=d"); got != "a=b,c=d\n" {
		t.Errorf("label: %q", got)
	}
	if got := d.Minictr("images", "label", "-r", ref, "e=f"); got != "e=f\n" {
		t.Errorf("label -r: %q", got)
	}
	tree := d.Minictr("images", "inspect", "--content", "other.example/name:v2")
	for _, layer := range manifestOf(t, i).Layers {
		if !strings.Contains(tree, layer.Digest.String()) || !strings.Contains(tree, layer.MediaType) {
			t.Errorf("inspect does not show layer %s:\n%s", layer.Digest, tree)
		}
	}
	if !strings.Contains(tree, `"rootfs"`) {
		t.Errorf("inspect --content does not show the config:\n%s", tree)
	}
	header(t, d.Minictr("images", "usage", ref), "IMAGE", "CONTENT", "SNAPSHOTS", "INODES")
	image := decode[struct{ ID string }](t, d.Minictr("images", "inspect", "-o", "json", ref))
	refused(t, d.Try("images", "rm", image.ID[:19]), "2 names", "force")
	if got := d.Minictr("images", "rm", "-f", image.ID[:19]); got != ref+"\nother.example/name:v2\n" {
		t.Errorf("rm by id: %q", got)
	}
	refused(t, d.Try("images", "rm", ref, r.Ref("nothing")), ref, r.Ref("nothing"), "not in namespace")
	d.Minictr("images", "rm", "--sync", "short", r.Ref("busybox"))
	if got := d.Minictr("content", "ls", "-q") + d.Minictr("snapshots", "ls", "-q"); got != "" {
		t.Errorf("left after the last name was removed with --sync: %s", got)
	}
	refused(t, d.Try("images", "ls", "nonsense"), "nonsense")
}

// TestImageCheck takes blobs away and finds out; a pull mends it.
func TestImageCheck(t *testing.T) {
	i := testenv.Image(t, "mixed")
	layer := manifestOf(t, i).Layers[1].Digest.String()
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := r.Ref("mixed")
	d.Minictr("images", "pull", ref)
	header(t, d.Minictr("images", "check"), "REF", "TYPE", "DIGEST", "STATUS", "SIZE", "UNPACKED")
	d.Minictr("content", "rm", layer)
	if got := d.Minictr("images", "check", ref); !strings.Contains(got, "incomplete (4/5)") {
		t.Errorf("without a layer:\n%s", got)
	}
	d.Minictr("images", "pull", ref)
	whole(t, d, ref)

	blob := filepath.Join(d.Root, "content/blobs/sha256", strings.TrimPrefix(layer, "sha256:"))
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, data, 0o444); err != nil {
		t.Fatal(err)
	}
	refused(t, d.Try("check"), "problem")
	d.Try("check", "--repair")
	d.Minictr("images", "pull", ref)
	whole(t, d, ref)
	if o := d.Try("check"); o.Code != 0 {
		t.Errorf("after the repair: %s%s", o.Stdout, o.Stderr)
	}
}

// TestImagePrune removes what no container uses.
func TestImagePrune(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	used, free, untagged := r.Ref("gzip"), r.Ref("schema2"), r.Address+"/busybox@"+i.Digest
	for _, ref := range []string{used, free, untagged} {
		d.Minictr("images", "pull", "-q", ref)
	}
	d.Minictr("containers", "create", used, "user")
	if out := d.Minictr("images", "prune"); !strings.HasPrefix(out, untagged+"\nfreed ") {
		t.Errorf("prune: %q", out)
	}
	if out := d.Minictr("images", "prune", "--all"); !strings.HasPrefix(out, free+"\nfreed ") {
		t.Errorf("prune --all: %q", out)
	}
	if got := d.Minictr("images", "ls", "-q"); got != used+"\n" {
		t.Errorf("left: %q", got)
	}
	if got := d.Minictr("run", "--rm", used, "after", "echo", "alive"); got != "alive\n" {
		t.Errorf("a container after the prunes wrote %q", got)
	}
}

// TestImageMount mounts an image, writes into it, and leaves it to the collection.
func TestImageMount(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref, dir := r.Ref("busybox"), filepath.Join(testenv.Dir(t), "mounted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d.Minictr("images", "pull", "--no-unpack", ref)
	if got := d.Minictr("images", "mount", ref, dir); got != dir+"\n" {
		t.Errorf("mount printed %q", got)
	}
	if os.WriteFile(filepath.Join(dir, "file"), nil, 0o644) == nil {
		t.Error("it can be written to without --rw")
	}
	refused(t, d.Try("images", "mount", ref, dir), dir)
	d.Minictr("images", "unmount", "--rm", dir)
	if _, err := os.Stat(filepath.Join(dir, "bin")); err == nil {
		t.Error("it is still mounted")
	}
	d.Minictr("images", "mount", "--rw", "--label", "x=y", "-x", "1500ms", ref, dir)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("written"), 0o644); err != nil {
		t.Error(err)
	}
	if got := d.Minictr("snapshots", "ls", "-q", "labels.x==y"); got != dir+"\n" {
		t.Errorf("the labelled snapshot: %q", got)
	}
	if layer := tarNames(t, gunzip(t, d.Minictr("snapshots", "diff", dir))); !slices.Contains(layer, "file") {
		t.Errorf("what was written is not in the difference: %v", layer)
	}
	d.Minictr("content", "prune")
	if got := d.Minictr("snapshots", "ls", "-q", "labels.x==y"); got == "" {
		t.Error("the collection took the snapshot before its time")
	}
	d.Minictr("images", "umount", dir)
	testenv.Eventually(t, 10*time.Second, "the snapshot goes when its time is over", func() bool {
		d.Minictr("content", "prune")
		return d.Minictr("snapshots", "ls", "-q", "labels.x==y") == ""
	})
	refused(t, d.Try("images", "mount", ref, filepath.Join(dir, "not/there")), "not/there")
	if got := lines(d.Minictr("snapshots", "ls", "-q")); len(got) != 1 {
		t.Errorf("the failed mount has left a snapshot: %v", got)
	}
}

// TestImageConvert changes the form of images; the tree stays.
func TestImageConvert(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	tests := []struct {
		repo  string
		flags []string
		types []string // of manifest and layers
	}{
		{"mixed", []string{"--uncompress"}, []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayer}},
		{"uncompressed", []string{"--compression", "zstd"}, []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerZstd}},
		{"zstd", []string{"--compression", "gzip"}, []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerGzip}},
		{"schema2", []string{"--oci"}, []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerGzip}},
	}
	for _, test := range tests {
		t.Run(test.repo, func(t *testing.T) {
			i, d := testenv.Image(t, test.repo), d.In(t)
			d.Minictr("images", "pull", "-q", r.Ref(test.repo))
			target := "converted.example/" + test.repo + ":v1"
			got := strings.TrimSpace(d.Minictr(append(append([]string{"images", "convert"}, test.flags...), r.Ref(test.repo), target)...))
			m := decode[ocispec.Manifest](t, d.Minictr("content", "get", got))
			if m.MediaType != test.types[0] || len(m.Layers) != i.Layers {
				t.Errorf("manifest: %+v", m)
			}
			for _, l := range m.Layers {
				if l.MediaType != test.types[1] {
					t.Errorf("layer of type %s, want %s", l.MediaType, test.types[1])
				}
			}
			config := decode[ocispec.Image](t, d.Minictr("content", "get", m.Config.Digest.String()))
			for n, id := range config.RootFS.DiffIDs {
				if id.String() != i.DiffIDs[n] {
					t.Errorf("diff id %d is %s, was %s", n, id, i.DiffIDs[n])
				}
			}
			d.Minictr("images", "rm", "--sync", r.Ref(test.repo))
			if out := d.Minictr("run", "--rm", target, "converted", "echo", "runs"); out != "runs\n" {
				t.Errorf("the converted image wrote %q", out)
			}
		})
	}
	d.Minictr("images", "pull", "-q", "--all-platforms", r.Ref("schema2-list"))
	got := strings.TrimSpace(d.Minictr("images", "convert", "--oci", "--platform", "linux/amd64", "--platform", "linux/386", r.Ref("schema2-list"), "two.example/platforms:v1"))
	if index := decode[ocispec.Index](t, d.Minictr("content", "get", got)); index.MediaType != ocispec.MediaTypeImageIndex || len(index.Manifests) != 2 {
		t.Errorf("converted with two platforms: %+v", index)
	}
	refused(t, d.Try("images", "convert", "--compression", "xz", r.Ref("schema2-list"), "x"), "xz")
}
