package scenario_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestArchiveOfSeveral writes several images into one archive, and reads them back in all the ways there are: the digests
// stay.
func TestArchiveOfSeveral(t *testing.T) {
	testenv.Need(t, "skopeo")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dir := testenv.Dir(t)
	archive := filepath.Join(dir, "several.tar")
	digests := map[string]string{}
	var refs []string
	for _, repo := range []string{"busybox", "names", "mixed"} {
		ref := "example.com/" + repo + ":of-" + repo // OCI's own name of an image is its tag
		digests[ref] = testenv.Image(t, repo).Digest
		d.Minictr("images", "pull", r.Ref(repo))
		d.Minictr("images", "tag", r.Ref(repo), ref)
		refs = append(refs, ref)
	}
	d.Minictr(append([]string{"images", "export", archive}, refs...)...)
	for ref, digest := range digests {
		_, tag, _ := strings.Cut(ref, ":")
		if got := strings.TrimSpace(testenv.Run(t, "skopeo", "inspect", "--format", "{{.Digest}}", "oci-archive:"+archive+":"+tag)); got != digest {
			t.Errorf("skopeo sees %s as %s, want %s", ref, got, digest)
		}
		testenv.Run(t, "skopeo", "inspect", "docker-archive:"+archive+":"+ref)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{"plain": string(data), "gzip": packed.String()} {
		ns := []string{"-n", name}
		out := feed(t, d, in, append(ns, "images", "import", "-")...)
		for ref, digest := range digests {
			if !strings.Contains(out, ref+"\t"+digest) {
				t.Errorf("import of the %s archive from standard input does not say %s %s:\n%s", name, ref, digest, out)
			}
			if got := d.Minictr(append(ns, "run", "--rm", ref, "imported", "echo", ref)...); got != ref+"\n" {
				t.Errorf("the imported %s wrote %q", ref, got)
			}
		}
	}
	if o := d.Try("images", "export", filepath.Join(dir, "none.tar"), "no/such"); o.Code == 0 {
		t.Error("an image that is not there was exported")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "none.tar*")); left != nil {
		t.Errorf("the failed export has left %v", left)
	}
}

// TestArchiveToStandardOutput writes to a pipe, OCI only and for all platforms.
func TestArchiveToStandardOutput(t *testing.T) {
	testenv.Need(t, "skopeo")
	i := testenv.Image(t, "multi")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("images", "pull", "--all-platforms", r.Ref("multi"))
	out := d.Minictr("images", "export", "--all-platforms", "--skip-manifest-json", "-", r.Ref("multi"))
	names := tarNames(t, out)
	if slices.Contains(names, "manifest.json") || !slices.Contains(names, "index.json") || !slices.Contains(names, "oci-layout") {
		t.Errorf("names in the archive: %v", names)
	}
	archive := filepath.Join(testenv.Dir(t), "all.tar")
	if err := os.WriteFile(archive, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := testenv.Run(t, "skopeo", "inspect", "--raw", "oci-archive:"+archive)
	if raw != string(testenv.Blob(t, i.Digest)) {
		t.Errorf("skopeo does not find the index: %s", raw)
	}
	d.Minictr("-n", "other", "images", "import", "--all-platforms", "--digests", archive)
	if list := d.Minictr("-n", "other", "images", "ls"); !strings.Contains(list, i.Digest) || !strings.Contains(list, "linux/arm/v7") {
		t.Errorf("imported with all platforms:\n%s", list)
	}
	d.Minictr("-n", "one", "images", "import", "--platform", "linux/386", "--no-unpack", "--index-name", "example.com/all:1", "--label", "from=archive", archive)
	if list := d.Minictr("-n", "one", "images", "ls", "name==example.com/all:1"); !strings.Contains(list, "from=archive") {
		t.Errorf("imported under a name for the index:\n%s", list)
	}
}

// TestImportNames imports archives that name their images badly, or not at all.
func TestImportNames(t *testing.T) {
	testenv.Need(t, "skopeo")
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	tagged, nameless := filepath.Join(testenv.Dir(t), "tagged.tar"), filepath.Join(testenv.Dir(t), "nameless.tar")
	testenv.Run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+r.Ref("busybox"), "oci-archive:"+tagged+":v7")
	testenv.Run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+r.Ref("busybox"), "oci-archive:"+nameless)
	for _, test := range []struct {
		flags []string
		file  string
		want  string // in the list of names
		fails string
	}{
		{[]string{"--base-name", "example.com/named"}, tagged, "example.com/named:v7", ""},
		{[]string{"--base-name", "example.com/digests", "--digests"}, nameless, "example.com/digests@" + i.Digest, ""},
		{nil, "/no/such/file", "", "no such file"},
		{nil, "/etc/passwd", "", "archive"},
	} {
		o := d.Try(append(append([]string{"images", "import"}, test.flags...), test.file)...)
		if test.fails != "" {
			refused(t, o, test.fails)
			continue
		}
		if list := lines(d.Minictr("images", "ls", "-q")); o.Code != 0 || !slices.Contains(list, test.want) {
			t.Errorf("%v: code %d, no %s in %v: %s", test.flags, o.Code, test.want, list, o.Stderr)
		}
	}
	cut, err := os.ReadFile(tagged)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, call{stdin: bytes.NewReader(cut[:len(cut)/2])}.run(t, d, "-n", "cut", "images", "import", "-"), "archive")
	if left := d.Minictr("-n", "cut", "images", "ls", "-q"); left != "" {
		t.Errorf("half an archive has left %s", left)
	}
}

func tarNames(t *testing.T, archive string) (names []string) {
	t.Helper()
	in := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestDockerArchives goes both ways with a real Docker: it loads what minictr exports, and minictr imports what it saves.
func TestDockerArchives(t *testing.T) {
	docker := newDocker(t)
	testenv.Image(t, "user-no-passwd")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dir := testenv.Dir(t)
	ours, single, several := filepath.Join(dir, "ours.tar"), filepath.Join(dir, "single.tar"), filepath.Join(dir, "several.tar")
	d.Minictr("images", "pull", r.Ref("user-no-passwd"))
	d.Minictr("images", "tag", r.Ref("user-no-passwd"), "example.com/ours:1")
	d.Minictr("images", "tag", r.Ref("user-no-passwd"), "docked:one")
	d.Minictr("images", "export", ours, "example.com/ours:1", "docked:one")
	if out := docker("load", "-i", ours); !strings.Contains(out, "example.com/ours:1") || !strings.Contains(out, "docked:one") {
		t.Errorf("docker load: %s", out)
	}
	if out := docker("image", "inspect", "--format", "{{.Config.User}}", "docked:one"); out != "1234:5678\n" {
		t.Errorf("the user of the loaded image: %q", out)
	}
	docker("import", "--change", "CMD [\"/bin/id\"]", layerOf(t, "user-no-passwd", dir), "docked:two")
	docker("save", "-o", single, "docked:one")
	docker("save", "-o", several, "docked:one", "docked:two")
	d.Minictr("-n", "single", "images", "import", single)
	if out := d.Minictr("-n", "single", "run", "--rm", "docked:one", "it"); !strings.HasPrefix(out, "uid=1234 gid=5678") {
		t.Errorf("of docker save: %q", out)
	}
	data, err := os.ReadFile(several)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, d, string(data), "-n", "several", "images", "import", "--compress-blobs", "-")
	for name, want := range map[string]string{"docked:one": "uid=1234 gid=5678", "docked:two": "uid=0 gid=0"} {
		if out := d.Minictr("-n", "several", "run", "--rm", name, "it"); !strings.HasPrefix(out, want) {
			t.Errorf("%s of docker save of two wrote %q", name, out)
		}
	}
	if tree := d.Minictr("-n", "several", "images", "inspect", "docked:two"); !strings.Contains(tree, "gzip") {
		t.Errorf("with --compress-blobs:\n%s", tree)
	}
}

// layerOf writes the first layer of an image to a file, uncompressed.
func layerOf(t *testing.T, repo, dir string) string {
	t.Helper()
	file := filepath.Join(dir, repo+".tar")
	l := manifestOf(t, testenv.Image(t, repo)).Layers[0]
	data, err := io.ReadAll(unpacked(t, testenv.Blob(t, l.Digest.String())))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newDocker starts a Docker daemon of its own, without networks, and returns its command line.
func newDocker(t *testing.T) func(args ...string) string {
	t.Helper()
	socket := startDocker(t)
	return func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "docker", append([]string{"--host", socket}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

// startDocker starts a Docker daemon of its own, without networks, and returns its socket.
func startDocker(t *testing.T) string {
	t.Helper()
	return testenv.StartDocker(t, "--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=vfs").Host
}

func gunzip(t *testing.T, data string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}
