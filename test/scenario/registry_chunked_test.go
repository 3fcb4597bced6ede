package scenario_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// countedBody counts the bytes that pass.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestPartialPulls pulls what skopeo has pushed as zstd:chunked: of the second version of an image only what is new.
func TestPartialPulls(t *testing.T) {
	testenv.Need(t, "skopeo", "umoci")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	var sent atomic.Int64
	p := newProxy(t, r, func(_ string, _ int, body io.ReadCloser) io.ReadCloser { return countedBody{body, &sent} })
	files := filepath.Join(testenv.Dir(t), "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewSource(1))
	write := func(name string, size int) {
		data := make([]byte, size)
		_, _ = random.Read(data) // it cannot fail
		if err := os.WriteFile(filepath.Join(files, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		write(fmt.Sprint("file", i), 40000)
	}
	push := func(tag string) { pushChunked(t, r, files, "app", tag) }
	push("1")
	write("file50", 40000)
	push("2")
	write("file7", 10)
	push("3")

	hosts := hostsDir(t, "parts.example", p.URL)
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[registry]\nconfig_path = %q\n", hosts)})
	pull := func(tag string) int64 {
		before := sent.Load()
		d.Minictr("images", "pull", "parts.example/app:"+tag)
		return sent.Load() - before
	}
	first, second := pull("1"), pull("2")
	if first < 4_000_000 || second > first/20 {
		t.Errorf("%d bytes for the first version, %d for the second", first, second)
	}
	if third := pull("3"); third > first/20 {
		t.Errorf("%d bytes for the third version", third)
	}
	for name, tag := range map[string]string{"file50": "2", "file7": "3"} {
		want, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Minictr("run", "--rm", "parts.example/app:"+tag, "c"+tag, "/bin/cat", "/srv/"+name); !bytes.Equal([]byte(got), want) {
			t.Errorf("%s of version %s: %d other bytes", name, tag, len(got))
		}
	}
	if log := d.Log(); strings.Count(log, "layer is put together of others") != 2 || strings.Contains(log, "fetching them again") {
		t.Errorf("two layers are to be put together at the first try:\n%s", log)
	}
	d.Minictr("check")
}

// pushChunked pushes an image of busybox and some files in /srv, all in one layer.
func pushChunked(t *testing.T, r *testenv.RegistryServer, files, repo, tag string) {
	t.Helper()
	dir := testenv.Dir(t)
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	image := layout + ":it"
	testenv.Run(t, "umoci", "init", "--layout", layout)
	testenv.Run(t, "umoci", "new", "--image", image)
	testenv.Run(t, "umoci", "unpack", "--image", image, bundle)
	bin := filepath.Join(bundle, "rootfs", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"cp", "-a", files, filepath.Join(bundle, "rootfs", "srv")},
		{"cp", "-p", "/bin/busybox", filepath.Join(bin, "cat")},
		{"umoci", "repack", "--image", image, bundle},
		{"skopeo", "copy", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked", "oci:" + image, "docker://" + r.Address + "/" + repo + ":" + tag},
	} {
		testenv.Run(t, args[0], args[1:]...)
	}
}
