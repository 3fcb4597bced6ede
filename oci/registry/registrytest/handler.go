package registrytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fail writes the protocol's error document.
func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

// ServeHTTP implements the API.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone()})
	r.mu.Unlock()
	f := r.fault(req)
	if f != nil {
		if f.refuse(w, req) {
			return
		}
		w = &faultyWriter{ResponseWriter: w, fault: f}
	}
	if req.URL.Path == "/token" {
		r.token(w, req)
		return
	}
	path, ok := strings.CutPrefix(req.URL.Path, r.opts.Prefix+"/v2/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	repo, kind, rest := split(path)
	if !r.authorized(w, req, repo) {
		return
	}
	switch kind {
	case "":
		w.WriteHeader(http.StatusOK)
	case "_catalog":
		r.catalog(w, req)
	case "tags":
		r.tags(w, req, repo)
	case "manifests":
		r.manifests(w, req, repo, rest)
	case "referrers":
		r.referrers(w, req, repo, digest.Digest(rest))
	case "blobs":
		r.blobs(w, req, repo, digest.Digest(rest))
	case "uploads":
		r.serveUploads(w, req, repo, rest, f)
	default:
		http.NotFound(w, req)
	}
}

var pathPattern = regexp.MustCompile(`^(.+?)/(blobs/uploads|blobs|manifests|tags|referrers)/(.*)$`)

// split reads NAME/KIND/REST.
func split(path string) (repo, kind, rest string) {
	m := pathPattern.FindStringSubmatch(path)
	if m == nil {
		return "", path, ""
	}
	return m[1], strings.TrimPrefix(m[2], "blobs/"), m[3]
}

func (r *Registry) blobs(w http.ResponseWriter, req *http.Request, repo string, d digest.Digest) {
	data := r.Blob(repo, d)
	if data == nil {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if r.opts.BlobRedirect != "" && req.Method == http.MethodGet {
		http.Redirect(w, req, r.opts.BlobRedirect+req.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.opts.NoRange {
		req.Header.Del("Range")
	}
	counted := &countingWriter{ResponseWriter: w}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent[d] += counted.sent
	}()
	http.ServeContent(counted, req, "", time.Time{}, bytes.NewReader(data))
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	sent int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

func (r *Registry) manifests(w http.ResponseWriter, req *http.Request, repo, reference string) {
	switch req.Method {
	case http.MethodPut:
		r.putManifest(w, req, repo, reference)
		return
	case http.MethodHead:
		if r.opts.NoHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
	}
	r.mu.Lock()
	d, m, ok := r.repo(repo).find(reference)
	r.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodGet {
		_, _ = w.Write(m.data)
	}
}

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, repo, reference string) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var m struct {
		Config    *ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
		Subject   *ocispec.Descriptor
	}
	if json.Unmarshal(data, &m) != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest is not JSON")
		return
	}
	d := digest.FromBytes(data)
	tag := reference
	if strings.Contains(reference, ":") {
		if tag = ""; reference != d.String() {
			fail(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
			return
		}
	}
	if m.Config != nil {
		for _, b := range append(m.Layers, *m.Config) {
			if r.Blob(repo, b.Digest) == nil {
				fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry: "+b.Digest.String())
				return
			}
		}
	}
	for _, child := range m.Manifests {
		if r.Manifest(repo, child.Digest.String()) == nil {
			fail(w, http.StatusBadRequest, "MANIFEST_UNKNOWN", "manifest unknown: "+child.Digest.String())
			return
		}
	}
	r.PutManifest(repo, tag, req.Header.Get("Content-Type"), data)
	if m.Subject != nil && !r.opts.NoReferrers {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Location", r.opts.Prefix+"/v2/"+repo+"/manifests/"+d.String())
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) tags(w http.ResponseWriter, req *http.Request, repo string) {
	r.mu.Lock()
	p, ok := r.repos[repo]
	var all []string
	if ok {
		all = slices.Sorted(maps.Keys(p.tags))
	}
	r.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	writeJSON(w, "application/json", map[string]any{"name": repo, "tags": r.page(w, req, all)})
}

func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	all := slices.Sorted(maps.Keys(r.repos))
	r.mu.Unlock()
	writeJSON(w, "application/json", map[string]any{"repositories": r.page(w, req, all)})
}

func writeJSON(w http.ResponseWriter, mediaType string, v any) {
	w.Header().Set("Content-Type", mediaType)
	_ = json.NewEncoder(w).Encode(v)
}

// page cuts a sorted list after the parameter last and announces the next page.
func (r *Registry) page(w http.ResponseWriter, req *http.Request, all []string) []string {
	q := req.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	size := r.opts.PageSize
	if n, err := strconv.Atoi(q.Get("n")); err == nil && n > 0 && (size == 0 || n < size) {
		size = n
	}
	if size == 0 || len(all) <= size {
		return all
	}
	all = all[:size]
	q.Set("last", all[size-1])
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, req.URL.Path, q.Encode()))
	return all
}

func (r *Registry) referrers(w http.ResponseWriter, req *http.Request, repo string, subject digest.Digest) {
	if r.opts.NoReferrers {
		http.NotFound(w, req)
		return
	}
	byDigest := map[string]ocispec.Descriptor{}
	r.mu.Lock()
	for d, m := range r.repo(repo).manifests {
		var doc ocispec.Manifest
		if json.Unmarshal(m.data, &doc) != nil || doc.Subject == nil || doc.Subject.Digest != subject {
			continue
		}
		entry := ocispec.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.data)), ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
		if entry.ArtifactType == "" {
			entry.ArtifactType = doc.Config.MediaType
		}
		byDigest[d.String()] = entry
	}
	r.mu.Unlock()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, d := range r.page(w, req, slices.Sorted(maps.Keys(byDigest))) {
		index.Manifests = append(index.Manifests, byDigest[d])
	}
	writeJSON(w, ocispec.MediaTypeImageIndex, index)
}

func (r *Registry) serveUploads(w http.ResponseWriter, req *http.Request, repo, id string, f *Fault) {
	if req.Method == http.MethodPost {
		r.startUpload(w, req, repo)
		return
	}
	r.mu.Lock()
	u := r.uploads[id]
	r.mu.Unlock()
	if u == nil || u.repo != repo {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		return
	}
	switch req.Method {
	case http.MethodGet:
		r.uploadStatus(w, repo, id, http.StatusNoContent)
	case http.MethodDelete:
		r.mu.Lock()
		delete(r.uploads, id)
		r.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		if r.receive(w, req, u, f) {
			r.uploadStatus(w, repo, id, http.StatusAccepted)
		}
	case http.MethodPut:
		if r.receive(w, req, u, f) {
			r.finishUpload(w, req, repo, id, u)
		}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (r *Registry) startUpload(w http.ResponseWriter, req *http.Request, repo string) {
	q := req.URL.Query()
	mount := digest.Digest(q.Get("mount"))
	if mount != "" && !r.opts.NoMount {
		if data := r.Blob(q.Get("from"), mount); data != nil {
			r.PutBlob(repo, data)
			w.Header().Set("Location", r.opts.Prefix+"/v2/"+repo+"/blobs/"+mount.String())
			w.WriteHeader(http.StatusCreated)
			return
		}
	}
	r.mu.Lock()
	r.uploadSeq++
	id := strconv.Itoa(r.uploadSeq)
	r.uploads[id] = &upload{repo: repo}
	r.mu.Unlock()
	r.uploadStatus(w, repo, id, http.StatusAccepted)
}

func (r *Registry) uploadStatus(w http.ResponseWriter, repo, id string, status int) {
	r.mu.Lock()
	n := len(r.uploads[id].data)
	r.mu.Unlock()
	w.Header().Set("Location", r.opts.Prefix+"/v2/"+repo+"/blobs/uploads/"+id+"?state=x%2Fy")
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(n-1, 0)))
	w.WriteHeader(status)
}

// receive appends a request's body; bytes that arrived before a cut are kept.
func (r *Registry) receive(w http.ResponseWriter, req *http.Request, u *upload, f *Fault) bool {
	r.mu.Lock()
	have := len(u.data)
	r.mu.Unlock()
	if span := req.Header.Get("Content-Range"); span != "" {
		first, _, _ := strings.Cut(span, "-")
		if n, err := strconv.Atoi(first); err != nil || n != have {
			fail(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "blob upload invalid")
			return false
		}
	}
	body := io.Reader(req.Body)
	if f != nil && f.CutRequest > 0 {
		body = io.LimitReader(body, f.CutRequest)
	}
	data, err := io.ReadAll(body)
	r.mu.Lock()
	u.data = append(u.data, data...)
	r.mu.Unlock()
	if f != nil && f.CutRequest > 0 {
		panic(http.ErrAbortHandler)
	}
	return err == nil
}

func (r *Registry) finishUpload(w http.ResponseWriter, req *http.Request, repo, id string, u *upload) {
	want := digest.Digest(req.URL.Query().Get("digest"))
	r.mu.Lock()
	data := u.data
	delete(r.uploads, id)
	r.mu.Unlock()
	if want.Validate() != nil || want.Algorithm().FromBytes(data) != want {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	r.mu.Lock()
	r.repo(repo).blobs[want] = data
	r.mu.Unlock()
	w.Header().Set("Docker-Content-Digest", want.String())
	w.Header().Set("Location", r.opts.Prefix+"/v2/"+repo+"/blobs/"+want.String())
	w.WriteHeader(http.StatusCreated)
}

// authorized checks a request's login, and answers when it is not enough.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request, repo string) bool {
	switch r.opts.Auth {
	case AuthBasic:
		user, password, ok := req.BasicAuth()
		if ok && user == r.opts.Username && password == r.opts.Password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registrytest"`)
	case AuthToken:
		scope := wantedScope(req, repo)
		r.mu.Lock()
		granted, ok := r.tokens[strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")]
		r.mu.Unlock()
		if ok && covers(granted, scope) {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registrytest",scope="%s"`, r.URL(), scope))
	default:
		return true
	}
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// covers reports whether one of the granted scopes includes the wanted one.
func covers(granted, wanted string) bool {
	for _, g := range strings.Fields(granted) {
		if g == wanted || g == wanted+",push" {
			return true
		}
	}
	return false
}

func wantedScope(req *http.Request, repo string) string {
	if repo == "" {
		return "registry:catalog:*"
	}
	if req.Method == http.MethodGet && !strings.Contains(req.URL.Path, "/blobs/uploads/") || req.Method == http.MethodHead {
		return "repository:" + repo + ":pull"
	}
	return "repository:" + repo + ":pull,push"
}

// token is the token server. A login is checked; without one, only pulls of a
// registry with PublicPull are granted.
func (r *Registry) token(w http.ResponseWriter, req *http.Request) {
	if err := req.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "UNSUPPORTED", "bad form")
		return
	}
	scopes := strings.Fields(strings.Join(url.Values(req.Form)["scope"], " "))
	user, password, given := req.BasicAuth()
	known := given && user == r.opts.Username && password == r.opts.Password
	if req.Method == http.MethodPost {
		given = true
		known = req.Form.Get("grant_type") == "refresh_token" && r.opts.IdentityToken != "" && req.Form.Get("refresh_token") == r.opts.IdentityToken
	}
	if given && !known {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	var granted []string
	for _, s := range scopes {
		if known || r.opts.PublicPull && strings.HasSuffix(s, ":pull") {
			granted = append(granted, s)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(granted, " ") + strconv.Itoa(len(r.Requests()))))
	token := hex.EncodeToString(sum[:])
	r.mu.Lock()
	r.tokens[token] = strings.Join(granted, " ")
	r.mu.Unlock()
	writeJSON(w, "application/json", map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// ForgetTokens makes all tokens given so far invalid.
func (r *Registry) ForgetTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.tokens)
}
