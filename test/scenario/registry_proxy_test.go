package scenario_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// proxy stands in front of a real registry and does with blobs what networks and broken registries do.
type proxy struct {
	*httptest.Server
	mu     sync.Mutex
	gets   map[string]int // of blobs, by digest
	ranges []string
	// blob may change what is delivered; nth counts the deliveries of this blob from 1.
	blob func(digest string, nth int, body io.ReadCloser) io.ReadCloser
}

func newProxy(t *testing.T, r *testenv.RegistryServer, blob func(digest string, nth int, body io.ReadCloser) io.ReadCloser) *proxy {
	t.Helper()
	backend, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{gets: map[string]int{}, blob: blob}
	reverse := &httputil.ReverseProxy{
		Rewrite:        func(x *httputil.ProxyRequest) { x.SetURL(backend) },
		ModifyResponse: p.deliver,
		FlushInterval:  -1,                         // what has come is passed on, however little it is
		ErrorLog:       log.New(io.Discard, "", 0), // what it breaks itself
	}
	p.Server = httptest.NewServer(reverse)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) deliver(resp *http.Response) error {
	_, digest, ok := strings.Cut(resp.Request.URL.Path, "/blobs/")
	if !ok || resp.Request.Method != http.MethodGet {
		return nil
	}
	p.mu.Lock()
	p.gets[digest]++
	nth := p.gets[digest]
	if r := resp.Request.Header.Get("Range"); r != "" {
		p.ranges = append(p.ranges, r)
	}
	p.mu.Unlock()
	if p.blob != nil {
		resp.Body = p.blob(digest, nth, resp.Body)
	}
	return nil
}

// requests are how often each blob was asked for.
func (p *proxy) requests() (gets map[string]int, ranges []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gets = map[string]int{}
	for k, v := range p.gets {
		gets[k] = v
	}
	return gets, append(ranges, p.ranges...)
}

// broken is a body of which only the first bytes come; then the connection ends, or waits for the channel first.
type broken struct {
	io.ReadCloser
	left int64
	wait <-chan struct{}
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if b.wait != nil {
			<-b.wait
		}
		return 0, errors.New("the connection is cut")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// altered is a body with its first byte changed.
type altered struct {
	io.ReadCloser
	done bool
}

func (a *altered) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 && !a.done {
		p[0], a.done = p[0]^0xff, true
	}
	return n, err
}

// gated is a body that waits for the channel before its first byte.
type gated struct {
	io.ReadCloser
	open <-chan struct{}
}

func (g gated) Read(p []byte) (int, error) {
	<-g.open
	return g.ReadCloser.Read(p)
}

// hostsDir has a hosts.toml for a registry of a made-up name, with these mirrors in order.
func hostsDir(t *testing.T, name string, mirrors ...string) string {
	t.Helper()
	text := "server = \"http://127.0.0.1:1\"\n"
	for _, m := range mirrors {
		url, rest, _ := strings.Cut(m, "\n")
		text += fmt.Sprintf("[host.%q]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n%s\n", url, rest)
	}
	dir := testenv.Dir(t)
	if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
