// Package registrytest is a small real registry in memory, for tests: blobs,
// uploads, manifests, tags, catalog and referrers of the OCI distribution
// specification, with logins, and with faults on demand. It verifies what it
// is sent as a registry does. It keeps nothing and limits nothing.
package registrytest

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Auth is how a registry wants requests to identify themselves.
type Auth string

// The kinds of Auth.
const (
	AuthNone  Auth = ""
	AuthBasic Auth = "basic"
	AuthToken Auth = "token" // a token server is at /token of the same host
)

// Options say what the registry is like. The zero value is an open registry
// that speaks plain HTTP.
type Options struct {
	TLS        bool
	ClientCert bool // with TLS: a client certificate is asked for, any will do
	Auth       Auth
	// Username and Password are the only login; with AuthToken, requests that
	// only pull are let in without it when PublicPull is set.
	Username, Password string
	IdentityToken      string // with AuthToken: the refresh token that is accepted
	PublicPull         bool
	NoReferrers        bool   // no referrers API, no OCI-Subject
	NoMount            bool   // cross-repository mounts start an upload
	NoRange            bool   // Range is ignored
	NoHead             bool   // HEAD of manifests is refused with 405
	PageSize           int    // entries of a page of tags, catalog or referrers; 0: all
	BlobRedirect       string // base URL that GETs of blobs are redirected to
	Prefix             string // path before /v2
}

// Request is one that the registry received.
type Request struct {
	Method, Path, Query string
	Header              http.Header
}

// Registry is a running one. It ends with the test.
type Registry struct {
	opts   Options
	server *httptest.Server

	mu        sync.Mutex
	repos     map[string]*repository
	uploads   map[string]*upload
	tokens    map[string]string // token → scopes
	faults    []*Fault
	requests  []Request
	uploadSeq int
	sent      map[digest.Digest]int64 // bytes of blobs
}

type repository struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

type manifest struct {
	mediaType string
	data      []byte
}

type upload struct {
	repo string
	data []byte
}

// New starts a registry on a random port of the loopback interface.
func New(t testing.TB, o Options) *Registry {
	t.Helper()
	r := &Registry{opts: o, repos: map[string]*repository{}, uploads: map[string]*upload{}, tokens: map[string]string{}, sent: map[digest.Digest]int64{}}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // faults are on purpose
	if o.TLS {
		if o.ClientCert {
			r.server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		}
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// Host is the registry's host:port, as it is written in a reference.
func (r *Registry) Host() string { return r.server.Listener.Addr().String() }

// URL is scheme://host:port.
func (r *Registry) URL() string { return r.server.URL }

// CA is the PEM of the certificate to trust, with Options.TLS. It is valid for
// 127.0.0.1 and example.com.
func (r *Registry) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// Stop makes the registry refuse connections.
func (r *Registry) Stop() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Requests returns those received so far, in order.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Count says how many requests have the method and a path that contains part.
func (r *Registry) Count(method, part string) int {
	n := 0
	for _, q := range r.Requests() {
		if (method == "" || q.Method == method) && strings.Contains(q.Path, part) {
			n++
		}
	}
	return n
}

// Sent says how many bytes of a blob were sent, by all answers that have ended.
func (r *Registry) Sent(d digest.Digest) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[d]
}

func (r *Registry) repo(name string) *repository {
	if r.repos[name] == nil {
		r.repos[name] = &repository{blobs: map[digest.Digest][]byte{}, manifests: map[digest.Digest]manifest{}, tags: map[string]digest.Digest{}}
	}
	return r.repos[name]
}

// PutBlob stores a blob.
func (r *Registry) PutBlob(repo string, data []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(data)
	r.repo(repo).blobs[d] = slices.Clone(data)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(data))}
}

// PutManifest stores a manifest under its digest and, unless it is "", a tag.
func (r *Registry) PutManifest(repo, tag, mediaType string, data []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(data)
	r.repo(repo).manifests[d] = manifest{mediaType: mediaType, data: slices.Clone(data)}
	if tag != "" {
		r.repo(repo).tags[tag] = d
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// PutImage stores an image of these layers (any bytes) and this configuration
// document ("{}" when nil) and returns its manifest.
func (r *Registry) PutImage(repo, tag string, config []byte, layers ...[]byte) (ocispec.Descriptor, ocispec.Manifest) {
	if config == nil {
		config = []byte("{}")
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = r.PutBlob(repo, config)
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	for _, l := range layers {
		m.Layers = append(m.Layers, r.PutBlob(repo, l))
	}
	data, _ := json.Marshal(m) // has only marshalable fields
	return r.PutManifest(repo, tag, m.MediaType, data), m
}

// Blob returns a stored blob, or nil.
func (r *Registry) Blob(repo string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.repo(repo).blobs[d])
}

// Manifest returns what a tag or digest names, or nil.
func (r *Registry) Manifest(repo, reference string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, m, ok := r.repo(repo).find(reference)
	if !ok {
		return nil
	}
	return slices.Clone(m.data)
}

// find looks a tag or a digest up.
func (p *repository) find(reference string) (digest.Digest, manifest, bool) {
	d := digest.Digest(reference)
	if tagged, ok := p.tags[reference]; ok {
		d = tagged
	}
	m, ok := p.manifests[d]
	return d, m, ok
}
