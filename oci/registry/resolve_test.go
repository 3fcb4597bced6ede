package registry

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestResolve(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"plain":   {},
		"tls":     {TLS: true}, // on loopback nothing is verified unless a ca is configured
		"no head": {NoHead: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, o)
			want, _ := r.PutImage("a/b", "1", nil, []byte("layer"))
			c := client(t, Options{}, nil)
			got, err := c.Resolve(t.Context(), ref(t, r, "a/b:1"))
			if err != nil || got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
			pinned := ref(t, r, "a/b:other").WithDigest(want.Digest)
			if got, err = c.Resolve(t.Context(), pinned); err != nil || got.Digest != want.Digest {
				t.Fatalf("by digest: got %+v, %v", got, err)
			}
			data, err := c.Manifest(t.Context(), ref(t, r, "a/b:1"), got)
			if err != nil || digest.FromBytes(data) != want.Digest {
				t.Fatalf("got %s, %v", data, err)
			}
		})
	}
}

func TestResolveAccepts(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.PutImage("a", "1", nil)
	if _, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "a:1")); err != nil {
		t.Fatal(err)
	}
	accept := r.Requests()[0].Header.Get("Accept")
	for _, want := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerManifest, dockerManifestList} {
		if !strings.Contains(accept, want) {
			t.Errorf("Accept %q lacks %s", accept, want)
		}
	}
}

func TestResolveMediaTypes(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, nil)
	for i, m := range []struct{ contentType, body, want string }{
		{dockerManifestList, `{"manifests":[]}`, dockerManifestList},
		{"application/json", `{"mediaType":"` + dockerManifest + `"}`, dockerManifest},
		{"text/plain", `{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{"", `{"schemaVersion":2,"config":{}}`, ocispec.MediaTypeImageManifest},
	} {
		r.PutManifest("a", "t", m.contentType, []byte(m.body))
		if got, err := c.Resolve(t.Context(), ref(t, r, "a:t")); err != nil || got.MediaType != m.want {
			t.Errorf("%d: got %q, %v", i, got.MediaType, err)
		}
	}
	r.PutManifest("a", "old", dockerSchema1Jws, []byte(`{"schemaVersion":1}`))
	_, err := c.Resolve(t.Context(), ref(t, r, "a:old"))
	fails(t, err, errdefs.ErrNotImplemented, "schema 1")
	r.PutManifest("a", "html", "text/html", []byte(`<html>`))
	_, err = c.Resolve(t.Context(), ref(t, r, "a:html"))
	fails(t, err, errdefs.ErrUnavailable, "is this a registry?")
}

func TestErrorNamesEveryHost(t *testing.T) {
	dead := closedPort(t)
	r := registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + r.URL() + "\"\n[host.\"http://" + dead + "\"]"})
	_, err := c.Resolve(t.Context(), parseRef(t, "reg.example/library/x:1"))
	fails(t, err, errdefs.ErrNotFound)
	want := "resolve reg.example/library/x:1: mirror http://" + dead + ": connection refused; " + r.URL() + ": 404 manifest unknown: check the name and the tag"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if n := r.Count("HEAD", "/manifests/1"); n != 1 {
		t.Errorf("a 404 was asked for %d times", n)
	}
	if q := r.Requests()[0].Query; q != "ns=reg.example" {
		t.Errorf("query %q", q)
	}
}

func TestMirrorIsAskedFirst(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{Prefix: "/cache"}), registrytest.New(t, registrytest.Options{})
	want, _ := mirror.PutImage("a", "1", nil)
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "/cache/v2\"]\noverride_path=true\nheader = {X-Extra = \"yes\"}"})
	got, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	if err != nil || got.Digest != want.Digest {
		t.Fatalf("got %+v, %v", got, err)
	}
	if len(origin.Requests()) != 0 {
		t.Error("the registry was asked although the mirror answered")
	}
	q := mirror.Requests()[0]
	if q.Header.Get("X-Extra") != "yes" || q.Query != "ns=reg.example" || q.Path != "/cache/v2/a/manifests/1" {
		t.Errorf("got %+v", q)
	}
}

func TestPullOnlyMirrorDoesNotResolveTags(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	mirror.PutImage("a", "1", nil, []byte("evil"))
	want, _ := origin.PutImage("a", "1", nil)
	mirror.PutImage("a", "", nil)
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]\ncapabilities = [\"pull\"]"})
	got, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	if err != nil || got.Digest != want.Digest || len(mirror.Requests()) != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err = c.Resolve(t.Context(), parseRef(t, "reg.example/a").WithDigest(want.Digest)); err != nil || len(mirror.Requests()) != 1 {
		t.Errorf("a digest may be asked of it: %v", err)
	}
}

func TestManifestIsVerified(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	want, _ := origin.PutImage("a", "1", nil)
	mirror.PutImage("a", "1", nil)
	mirror.Fail(registrytest.Fault{Method: "GET", Path: "/manifests/", Corrupt: true})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	if _, err := c.Manifest(t.Context(), parseRef(t, "reg.example/a:1"), want); err != nil {
		t.Fatalf("the registry has it right: %v", err)
	}
	origin.Fail(registrytest.Fault{Method: "GET", Path: "/manifests/", Corrupt: true})
	_, err := c.Manifest(t.Context(), parseRef(t, "reg.example/a:1"), want)
	fails(t, err, errdefs.ErrDataLoss, "mirror "+mirror.URL(), "its digest is")
}

func TestWrongDigestHeader(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	want, _ := r.PutImage("a", "1", nil)
	lie := digest.FromString("lie")
	r.Fail(registrytest.Fault{Path: "/manifests/", Digest: lie.String()})
	c := client(t, Options{}, nil)
	_, err := c.Resolve(t.Context(), ref(t, r, "a").WithDigest(want.Digest))
	fails(t, err, errdefs.ErrDataLoss, want.Digest.String(), lie.String())
	_, err = c.Manifest(t.Context(), ref(t, r, "a"), want)
	fails(t, err, errdefs.ErrDataLoss, lie.String())
}

func TestManifestLimit(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	big := append([]byte(`{"schemaVersion":2,"config":{},"x":"`), bytes.Repeat([]byte("x"), ManifestLimit)...)
	big = append(big, `"}`...)
	desc := r.PutManifest("a", "1", ocispec.MediaTypeImageManifest, big)
	c := client(t, Options{}, nil)
	_, err := c.Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrDataLoss, "limit")
	_, err = c.Manifest(t.Context(), ref(t, r, "a:1"), desc)
	fails(t, err, errdefs.ErrDataLoss, "limit")
	err = c.PushManifest(t.Context(), ref(t, r, "a:1"), desc, big)
	fails(t, err, errdefs.ErrInvalidArgument, "more than")
}

func TestTLSVerification(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, ClientCert: false})
	want, _ := r.PutImage("a", "1", nil)
	toml := `server = "` + r.URL() + `"`
	_, err := client(t, Options{}, map[string]string{"reg.example": toml}).Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	fails(t, err, errdefs.ErrUnavailable, "unknown authority", "ca in hosts.toml", "--skip-verify")
	if len(r.Requests()) != 0 {
		t.Error("a request was sent to a host that is not trusted")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, string(r.CA()))
	for name, c := range map[string]*Client{
		"ca in hosts.toml":  client(t, Options{}, map[string]string{"reg.example": toml + "\nca = \"" + ca + "\""}),
		"ca given":          client(t, Options{Override: &HostOverride{CA: ca}}, map[string]string{"reg.example": toml}),
		"skip_verify":       client(t, Options{}, map[string]string{"reg.example": toml + "\nskip_verify = true"}),
		"skip verify given": client(t, Options{Override: &HostOverride{SkipVerify: true}}, map[string]string{"reg.example": toml}),
	} {
		if got, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1")); err != nil || got.Digest != want.Digest {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := client(t, Options{Override: &HostOverride{SkipVerify: true}}, map[string]string{"reg.example": toml + "\nskip_verify = false"})
	_, err = c.Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	fails(t, err, errdefs.ErrUnavailable, "unknown authority")
}

func TestPlainHTTPIsExplained(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "https://` + r.Host() + `"`})
	_, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	fails(t, err, errdefs.ErrUnavailable, "speaks plain HTTP", "--plain-http")
}

// TestErrorsNameTheSchemeSpoken: a registry on loopback that was found to speak HTTP is called so.
func TestErrorsNameTheSchemeSpoken(t *testing.T) {
	for _, tls := range []bool{false, true} {
		r := registrytest.New(t, registrytest.Options{TLS: tls})
		_, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "absent:1"))
		fails(t, err, errdefs.ErrNotFound, ": "+r.URL()+": ")
	}
}

func TestRedirectsKeepSecrets(t *testing.T) {
	other := registrytest.New(t, registrytest.Options{})
	r := registrytest.New(t, registrytest.Options{Auth: registrytest.AuthBasic, Username: "u", Password: "p", BlobRedirect: other.URL()})
	desc := r.PutBlob("a", content(100))
	other.PutBlob("a", content(100))
	c := client(t, Options{Override: &HostOverride{Username: "u", Password: "p"}}, map[string]string{"reg.example": "server = \"" + r.URL() + "\"\nheader = {X-Key = \"secret\"}"})
	blob, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), desc, 50)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, content(100)[50:])
	q := other.Requests()[0]
	if q.Header.Get("Authorization") != "" || q.Header.Get("X-Key") != "" {
		t.Errorf("another port of the same host was shown %v", q.Header)
	}
	if q.Header.Get("Range") != "bytes=50-" {
		t.Errorf("the range was lost: %v", q.Header)
	}
	var last registrytest.Request
	for _, q := range r.Requests() {
		last = q
	}
	if last.Header.Get("Authorization") == "" || last.Header.Get("X-Key") != "secret" {
		t.Errorf("the registry was shown %v", last.Header)
	}
}

func TestRedirectToPlainHTTPIsRefused(t *testing.T) {
	check := checkRedirect(&endpoint{})
	from, _ := http.NewRequest("GET", "https://reg.example/x", nil)
	to, _ := http.NewRequest("GET", "http://reg.example/x", nil)
	fails(t, check(to, []*http.Request{from}), errdefs.ErrFailedPrecondition, "redirected from https")
}
