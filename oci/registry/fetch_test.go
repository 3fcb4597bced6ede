package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestFetch(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	data := content(100_000)
	desc := r.PutBlob("a", data)
	image, _ := r.PutImage("a", "1", nil)
	c := client(t, Options{}, nil)
	for _, offset := range []int64{0, 1, 99_999, 100_000} {
		blob, err := c.Fetch(t.Context(), ref(t, r, "a"), desc, offset)
		if err != nil {
			t.Fatal(err)
		}
		readBlob(t, blob, data[offset:])
	}
	noSize := desc
	noSize.Size = 0
	blob, err := c.Fetch(t.Context(), ref(t, r, "a"), noSize, 7)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, data[7:])
	for _, mediaType := range []string{image.MediaType, ""} {
		blob, err := c.Fetch(t.Context(), ref(t, r, "a"), ocispec.Descriptor{MediaType: mediaType, Digest: image.Digest, Size: image.Size}, 0)
		if err != nil {
			t.Fatal(err)
		}
		readBlob(t, blob, r.Manifest("a", "1"))
	}
}

func TestFetchResumes(t *testing.T) {
	data := content(100_000)
	for name, c := range map[string]struct {
		o     registrytest.Options
		fault registrytest.Fault
	}{
		"cut once":                  {fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Cut: true, CutAfter: 60_000, Times: 1}},
		"cut again and again":       {fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Cut: true, CutAfter: 7_000, Times: 14}},
		"cut, and Range ignored":    {o: registrytest.Options{NoRange: true}, fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Cut: true, CutAfter: 60_000, Times: 2}},
		"cut before the first byte": {fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Cut: true, Times: 2}},
		"unavailable, then it is":   {fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Status: 503, Times: 3}},
		"limited, then it is not":   {fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Status: 429, Header: http.Header{"Retry-After": {"3"}}, Times: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, c.o)
			desc := r.PutBlob("a", data)
			r.Fail(c.fault)
			blob, err := client(t, Options{}, nil).Fetch(t.Context(), ref(t, r, "a"), desc, 5)
			if err != nil {
				t.Fatal(err)
			}
			readBlob(t, blob, data[5:])
		})
	}
}

func TestFetchAsksForTheRestOnly(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	desc := r.PutBlob("a", content(100_000))
	r.Fail(registrytest.Fault{Method: "GET", Cut: true, CutAfter: 60_000, Times: 1})
	blob, err := client(t, Options{}, nil).Fetch(t.Context(), ref(t, r, "a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, content(100_000))
	if got := r.Requests()[1].Header.Get("Range"); got != "bytes=60000-" {
		t.Errorf("Range %q", got)
	}
}

func TestFetchGivesUp(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{NoRange: true})
	desc := r.PutBlob("a", content(100_000))
	r.Fail(registrytest.Fault{Method: "GET", Cut: true, CutAfter: 60_000})
	blob, err := client(t, Options{}, nil).Fetch(t.Context(), ref(t, r, "a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	_, err = io.ReadAll(blob)
	fails(t, err, errdefs.ErrUnavailable, "fetch "+desc.Digest.String(), "the connection was cut")
	if n := len(r.Requests()); n > 10 {
		t.Errorf("%d requests", n)
	}
}

func TestMirrorFailsMidway(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	data := content(100_000)
	desc := mirror.PutBlob("a", data)
	origin.PutBlob("a", data)
	mirror.Fail(registrytest.Fault{Method: "GET", Cut: true, CutAfter: 60_000, Times: 1})
	mirror.Fail(registrytest.Fault{Method: "GET", Status: 502})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	blob, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, data)
	if q := origin.Requests(); len(q) != 1 || q[0].Header.Get("Range") != "bytes=60000-" {
		t.Errorf("the registry got %+v", q)
	}
}

func TestDeadMirrorIsPassedOver(t *testing.T) {
	dead := closedPort(t)
	origin := registrytest.New(t, registrytest.Options{})
	desc := origin.PutBlob("a", content(1000))
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"http://" + dead + "\"]"})
	for range 2 {
		blob, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), desc, 0)
		if err != nil {
			t.Fatal(err)
		}
		readBlob(t, blob, content(1000))
	}
	_, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	fails(t, err, errdefs.ErrNotFound, "mirror http://"+dead+": connection refused (", "not tried again); "+origin.URL()+": 404")
}

func TestRejectedMirrorIsAskedLast(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	data := content(1000)
	desc := mirror.PutBlob("a", data)
	origin.PutBlob("a", data)
	mirror.Fail(registrytest.Fault{Method: "GET", Corrupt: true})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	first, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(first); err != nil || digest.FromBytes(got) == desc.Digest {
		t.Fatalf("the mirror should have spoilt it: %v", err)
	}
	first.Close()
	c.Reject(first)
	second, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, second, data)
}

func TestFetchOfOtherContent(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	desc := origin.PutBlob("a", content(1000))
	mirror.PutBlob("a", content(1000))
	bigger := desc
	bigger.Size = 2000
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	for _, offset := range []int64{0, 10} {
		_, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), bigger, offset)
		fails(t, err, errdefs.ErrDataLoss, "1000 bytes", "2000 are expected", "mirror "+mirror.URL())
	}
	_, err := c.Fetch(t.Context(), parseRef(t, "reg.example/a"), ocispec.Descriptor{Digest: digest.FromString("absent"), Size: 3}, 0)
	fails(t, err, errdefs.ErrNotFound, "404 blob unknown")
}

func TestFetchOfForeignLayer(t *testing.T) {
	r, elsewhere := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	desc := elsewhere.PutBlob("x", content(1000))
	desc.URLs = []string{"file:///etc/passwd", elsewhere.URL() + "/v2/x/blobs/" + desc.Digest.String()}
	blob, err := client(t, Options{}, nil).Fetch(t.Context(), ref(t, r, "a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, content(1000))
}

func TestStalledConnection(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	desc := r.PutBlob("a", content(1000))
	r.Fail(registrytest.Fault{Method: "GET", Hang: time.Hour, Times: 1})
	c := client(t, Options{Retry: Retry{Stall: 50 * time.Millisecond}}, nil)
	blob, err := c.Fetch(t.Context(), ref(t, r, "a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	readBlob(t, blob, content(1000))
	r.Fail(registrytest.Fault{Hang: time.Hour})
	_, err = c.Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrUnavailable, "no byte arrived")
}

func TestFetchEndsWithItsContext(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	desc := r.PutBlob("a", content(1_000_000))
	r.Fail(registrytest.Fault{Method: "GET", Cut: true, CutAfter: 1000})
	ctx, cancel := context.WithCancel(t.Context())
	blob, err := client(t, Options{}, nil).Fetch(ctx, ref(t, r, "a"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := io.ReadFull(blob, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err = io.ReadAll(blob); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := len(r.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string]string{
		"bytes 5-9/10": "5 10", "bytes 0-0/*": "0 -1",
		"": "bad", "bytes */10": "bad", "bytes 5-9": "bad", "bytes -1-9/10": "bad", "bytes 10-11/10": "bad", "items 0-1/2": "bad",
	} {
		first, total, err := parseContentRange(in)
		got := fmt.Sprint(first, total)
		if err != nil {
			got = "bad"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-/9223372036854775808")
	f.Fuzz(func(t *testing.T, s string) {
		first, total, err := parseContentRange(s)
		if err == nil && (first < 0 || total != -1 && total <= first) {
			t.Errorf("%q: %d, %d", s, first, total)
		}
	})
}
