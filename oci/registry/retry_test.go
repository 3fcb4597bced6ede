package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestJudge(t *testing.T) {
	p := patience{attempts: 5, dials: 3, asked: time.Minute}
	broken := func(err error) error { return &problem{class: errdefs.ErrUnavailable, inner: err} }
	for _, c := range []struct {
		name  string
		err   error
		again int // how many failures are followed by another request
	}{
		{"503", &statusError{status: 503}, 4},
		{"429", &statusError{status: 429, retryAfter: time.Second}, 4},
		{"429 for long", &statusError{status: 429, retryAfter: time.Hour}, 0},
		{"404", &statusError{status: 404}, 0},
		{"401", &statusError{status: 401}, 0},
		{"501", &statusError{status: 501}, 0},
		{"refused", broken(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), 2},
		{"reset", broken(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), 4},
		{"no such host", broken(&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}), 0},
		{"canceled", broken(context.Canceled), 0},
		{"stalled", broken(errStalled), 4},
		{"plain http", broken(http.ErrSchemeMismatch), 0},
		{"data loss", dataLoss("x"), 0},
		{"other", errors.New("x"), 0},
	} {
		again := 0
		for done := 1; done <= 10; done++ {
			if _, yes := p.judge(c.err, done); yes {
				again = done
			}
		}
		if again != c.again {
			t.Errorf("%s: asked again %d times, want %d", c.name, again, c.again)
		}
	}
}

func TestPause(t *testing.T) {
	r := Retry{Base: time.Second, Max: 10 * time.Second}.withDefaults()
	for done, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 100: 10 * time.Second} {
		if low, high := r.pause(done, 0), r.pause(done, 0.999999); low != want/2 || high > want || high < want*9/10 {
			t.Errorf("%d: %v to %v, want %v to %v", done, low, high, want/2, want)
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.PutImage("a", "1", nil)
	r.Fail(registrytest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Times: 1})
	c := client(t, Options{}, nil)
	var slept []time.Duration
	c.sleep = func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }
	if _, err := c.Resolve(t.Context(), ref(t, r, "a:1")); err != nil {
		t.Fatal(err)
	}
	if len(slept) != 1 || slept[0] != 7*time.Second {
		t.Errorf("slept %v", slept)
	}
}

func TestRateLimitIsExplained(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.Fail(registrytest.Fault{Status: 429, Code: "TOOMANYREQUESTS", Header: http.Header{"Retry-After": {"3600"}, "Ratelimit-Limit": {"100;w=21600"}}})
	_, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrResourceExhausted, "429", "100 requests in 6h0m0s", "try again in 1h0m0s", "logging in or a mirror")
	if n := len(r.Requests()); n != 1 {
		t.Errorf("%d requests although the wait is too long", n)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "12": 12 * time.Second, "-3": 0, "x": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:05 GMT": 0,
	} {
		if got := parseRetryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestMirrorIsNotWaitedFor(t *testing.T) {
	mirror, origin := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{})
	origin.PutImage("a", "1", nil)
	mirror.Fail(registrytest.Fault{Status: 503})
	c := client(t, Options{}, map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"})
	if _, err := c.Resolve(t.Context(), parseRef(t, "reg.example/a:1")); err != nil {
		t.Fatal(err)
	}
	if n := len(mirror.Requests()); n != 2 {
		t.Errorf("the mirror was asked %d times, want 2", n)
	}
}
