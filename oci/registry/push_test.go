package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func layer(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func opener(data []byte) func(int64) (io.ReadCloser, error) {
	return func(offset int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data[offset:])), nil }
}

func TestPushBlob(t *testing.T) {
	const uploads = "/blobs/uploads/"
	for name, c := range map[string]struct {
		registry registrytest.Options
		size     int
		chunk    int64
		faults   []registrytest.Fault
		patches  int // at least
	}{
		"monolithic":                   {size: 100_000},
		"empty":                        {size: 0},
		"empty in chunks":              {size: 0, chunk: 10},
		"one byte in chunks":           {size: 1, chunk: 10, patches: 1},
		"chunks":                       {size: 100_000, chunk: 30_000, patches: 4},
		"chunks of one byte":           {size: 3, chunk: 1, patches: 3},
		"token":                        {registry: registrytest.Options{Auth: "token", Username: "u", Password: "p"}, size: 1000, chunk: 300},
		"basic":                        {registry: registrytest.Options{Auth: "basic", Username: "u", Password: "p"}, size: 1000},
		"monolithic, cut, goes on":     {size: 5_000_000, faults: []registrytest.Fault{{Method: "PUT", CutRequest: 1_000_000, Times: 1}}, patches: 1},
		"chunk cut, goes on":           {size: 5_000_000, chunk: 2_000_000, faults: []registrytest.Fault{{Method: "PATCH", Skip: 1, CutRequest: 500_000, Times: 1}}, patches: 4},
		"session lost, starts again":   {size: 1000, chunk: 300, faults: []registrytest.Fault{{Method: "PATCH", Skip: 1, Status: 404, Code: "BLOB_UPLOAD_UNKNOWN", Times: 1}}, patches: 4},
		"status refused, starts again": {size: 1000, chunk: 300, faults: []registrytest.Fault{{Method: "PATCH", Skip: 1, Status: 500, Times: 1}, {Method: "GET", Path: uploads, Status: 400}}, patches: 4},
		"start unavailable":            {size: 1000, faults: []registrytest.Fault{{Method: "POST", Status: 503, Times: 2}}},
		"end unavailable":              {size: 1000, chunk: 500, faults: []registrytest.Fault{{Method: "PUT", Status: 502, Times: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, c.registry)
			for _, f := range c.faults {
				r.Fail(f)
			}
			data := content(c.size)
			var last int64
			o := PushOptions{ChunkSize: c.chunk, Progress: func(n int64) { last = n }}
			p, err := client(t, given("u", "p"), nil).PushBlob(t.Context(), ref(t, r, "a"), layer(data), opener(data), o)
			if err != nil || p != (Pushed{}) {
				t.Fatalf("got %+v, %v", p, err)
			}
			if !bytes.Equal(r.Blob("a", digest.FromBytes(data)), data) {
				t.Error("the registry has something else")
			}
			if last != int64(c.size) {
				t.Errorf("the progress ended at %d", last)
			}
			if n := r.Count("PATCH", uploads); n < c.patches || c.patches == 0 && c.chunk == 0 && n > 0 {
				t.Errorf("%d chunks", n)
			}
		})
	}
}

func TestPushIsSkipped(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "token", Username: "u", Password: "p"})
	c := client(t, given("u", "p"), nil)
	data := content(1000)
	desc := r.PutBlob("base/x", data)
	unread := func(int64) (io.ReadCloser, error) {
		t.Error("the blob was read")
		return nil, io.EOF
	}
	p, err := c.PushBlob(t.Context(), ref(t, r, "base/x"), desc, unread, PushOptions{})
	if err != nil || !p.Exists {
		t.Errorf("got %+v, %v", p, err)
	}
	from := []string{"docker.io/base/x", "no/thing", r.Host() + "/base/x"}
	p, err = c.PushBlob(t.Context(), ref(t, r, "mine"), desc, unread, PushOptions{MountFrom: from})
	if err != nil || !p.Mounted || r.Blob("mine", desc.Digest) == nil {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestMountSources(t *testing.T) {
	got := mountSources([]string{"library/a", "reg.example/b/c", "quay.io/d", "reg.example/own", "", "e"}, parseRef(t, "reg.example/own:1"))
	if want := "[library/a b/c e]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestPushWithoutMount(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{NoMount: true})
	data := content(1000)
	r.PutBlob("base", data)
	p, err := client(t, Options{}, nil).PushBlob(t.Context(), ref(t, r, "mine"), layer(data), opener(data), PushOptions{MountFrom: []string{"base"}})
	if err != nil || p.Mounted || r.Blob("mine", layer(data).Digest) == nil {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestPushFails(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, nil)
	data := content(1000)
	wrong := append([]byte{1}, data[1:]...)
	_, err := c.PushBlob(t.Context(), ref(t, r, "a"), layer(data), opener(wrong), PushOptions{})
	fails(t, err, errdefs.ErrDataLoss, "push blob "+layer(data).Digest.String(), "did not match")
	r.Fail(registrytest.Fault{Method: "PUT", Status: 413})
	_, err = c.PushBlob(t.Context(), ref(t, r, "a"), layer(data), opener(data), PushOptions{})
	fails(t, err, errdefs.ErrInvalidArgument, "413", "chunks")
	r.Heal()
	r.Fail(registrytest.Fault{Method: "POST", Status: 405, Code: "UNSUPPORTED"})
	_, err = c.PushBlob(t.Context(), ref(t, r, "a"), layer(data), opener(data), PushOptions{})
	fails(t, err, errdefs.ErrNotImplemented, "read-only")
	_, err = c.PushBlob(t.Context(), ref(t, r, "a"), layer(data), func(int64) (io.ReadCloser, error) { return nil, io.ErrClosedPipe }, PushOptions{})
	if err == nil {
		t.Error("a blob that cannot be read was pushed")
	}
}

func TestPushGoesOnlyWhereItMay(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]\ncapabilities = [\"pull\", \"resolve\"]"})
	data := content(10)
	if _, err := c.PushBlob(t.Context(), parseRef(t, "reg.example/a"), layer(data), opener(data), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(mirror.Requests()) != 0 || origin.Blob("a", layer(data).Digest) == nil {
		t.Error("pushed to the mirror")
	}
}

func TestPushManifest(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	c := client(t, Options{}, nil)
	config := r.PutBlob("a", []byte("{}"))
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config}
	data, _ := json.Marshal(m)
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := c.PushManifest(t.Context(), ref(t, r, "a:1"), desc, data); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Manifest("a", "1"), data) {
		t.Error("the tag names something else")
	}
	m.Annotations = map[string]string{"x": "y"}
	data, _ = json.Marshal(m)
	desc.Digest, desc.Size = digest.FromBytes(data), int64(len(data))
	if err := c.PushManifest(t.Context(), ref(t, r, "a").TrimVersion().WithDigest(desc.Digest), desc, data); err != nil {
		t.Fatal(err)
	}
	if r.Manifest("a", desc.Digest.String()) == nil {
		t.Error("not there by digest")
	}
	err := c.PushManifest(t.Context(), ref(t, r, "a:1"), desc, append(data, ' '))
	fails(t, err, errdefs.ErrDataLoss, "digest")
	r.Fail(registrytest.Fault{Method: "PUT", Digest: digest.FromString("lie").String()})
	err = c.PushManifest(t.Context(), ref(t, r, "a:1"), desc, data)
	fails(t, err, errdefs.ErrDataLoss, "the registry stored")
}

func TestPushManifestWithoutItsBlobs(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	data := []byte(`{"schemaVersion":2,"config":{"digest":"` + digest.FromString("absent").String() + `"}}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	err := client(t, Options{}, nil).PushManifest(t.Context(), ref(t, r, "a:1"), desc, data)
	fails(t, err, errdefs.ErrInvalidArgument, "push manifest "+r.Host()+"/a:1", "400 blob unknown to registry")
}

func TestParseUploadRange(t *testing.T) {
	for in, want := range map[string]int64{"0-99": 100, "bytes=0-9": 10, "0-0": 0, "": -1, "5-9": -1, "0-": -1, "0--5": -1, "0-9223372036854775807": -1} {
		got, ok := parseUploadRange(in)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

func TestResolveURL(t *testing.T) {
	e := &endpoint{hostConfig: hostConfig{scheme: "https", host: "reg:5000"}}
	for in, want := range map[string]string{
		"/v2/a?x=%2Fy":             "https://reg:5000/v2/a?x=%2Fy",
		"?n=1":                     "https://reg:5000/v2/base?n=1",
		"http://reg:5000/u":        "https://reg:5000/u",
		"http://reg/u":             "https://reg:5000/u",
		"https://storage.example/": "https://storage.example/",
		"http://storage.example/":  "http://storage.example/",
	} {
		if got, err := resolveURL("https://reg:5000/v2/base", in, e); err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "http://[", "%zz"} {
		if _, err := resolveURL("https://reg:5000/v2/base", bad, e); err == nil || !strings.Contains(err.Error(), "location") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
