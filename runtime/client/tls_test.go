package client

import (
	"bytes"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/internal/tlsfile"
	"github.com/minirt/mini/runtime/api"
)

// lines is a log that several goroutines write.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), part)
}

// secureServer serves at a loopback address with the certificate of a file.
func secureServer(t *testing.T, cert, key, ca string) (address string, log *lines) {
	t.Helper()
	config, err := tlsfile.Mutual(cert, key, ca, func(err error) { t.Error(err) }, "h2")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &lines{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: logger}, grpcx.NewRemoteCredentials(config, logger))...)
	api.RegisterImagesServer(s, fakeImages{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), log
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	ours, other := testenv.NewAuthority(t, file("ca.pem")), testenv.NewAuthority(t, file("other.pem"))
	ours.Issue(t, "server", file("server.pem"), file("server.key"), tomorrow)
	ours.Issue(t, "late", file("late.pem"), file("late.key"), yesterday)
	ours.Issue(t, "alice", file("alice.pem"), file("alice.key"), tomorrow)
	other.Issue(t, "mallory", file("mallory.pem"), file("mallory.key"), tomorrow)
	address, log := secureServer(t, file("server.pem"), file("server.key"), file("ca.pem"))
	late, _ := secureServer(t, file("late.pem"), file("late.key"), file("ca.pem"))
	_, port, _ := net.SplitHostPort(address)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 a server of something else\r\n"))
			c.Close()
		}
	}()

	good := TLS{CA: file("ca.pem"), Cert: file("alice.pem"), Key: file("alice.key")}
	with := func(change func(*TLS)) *TLS {
		o := good
		change(&o)
		return &o
	}
	for _, tc := range []struct {
		name, address string
		tls           *TLS
		want          string // empty: it is let in
	}{
		{"good", address, &good, ""},
		{"by name", "localhost:" + port, &good, ""},
		{"any certificate of the daemon", address, with(func(o *TLS) { o.CA, o.SkipVerify = "", true }), ""},
		{"another authority for the daemon", address, with(func(o *TLS) { o.CA = file("other.pem") }), "the daemon's certificate is not signed by " + file("other.pem")},
		{"the system's authorities", address, with(func(o *TLS) { o.CA = "" }), "is not signed by an authority of this system: pass its authority by --tlscacert"},
		{"no certificate", address, with(func(o *TLS) { o.Cert, o.Key = "", "" }), "wants a certificate from its clients: pass one by --tlscert and --tlskey"},
		{"of another authority", address, with(func(o *TLS) { o.Cert, o.Key = file("mallory.pem"), file("mallory.key") }), "refuses the certificate " + file("mallory.pem") + ": it is not signed by the authority that the daemon trusts"},
		{"expired", address, with(func(o *TLS) { o.Cert, o.Key = file("late.pem"), file("late.key") }), "refuses the certificate " + file("late.pem") + ": it is not valid now: renew it"},
		{"the daemon's has expired", late, &good, "the daemon's certificate is not valid now"},
		{"no TLS there", plain.Addr().String(), &good, "there is no TLS"},
		{"no TLS here", "192.0.2.1:2376", nil, "is another machine: what is sent there needs TLS: pass --tlsverify"},
		{"half a pair", address, with(func(o *TLS) { o.Key = "" }), "name both the certificate and the key"},
		{"no such file", address, with(func(o *TLS) { o.CA = file("none") }), "no such file"},
	} {
		c, err := Dial(t.Context(), Options{Address: "tcp://" + tc.address, TLS: tc.tls})
		if err == nil {
			_, err = c.Images.Get(t.Context(), &api.GetImageRequest{Namespace: "default", Name: "x"})
			if errdefs.IsNotFound(err) {
				err = nil // the fake's answer
			}
			c.Close()
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	for _, want := range []string{"a remote client has connected", "peer_name=alice", "a remote client is refused"} {
		if !log.has(want) {
			t.Errorf("the log does not have %q", want)
		}
	}
}

// TestPlainClient talks without TLS to a daemon that wants it, by a forwarded port.
func TestPlainClient(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	testenv.NewAuthority(t, file("ca.pem")).Issue(t, "server", file("server.pem"), file("server.key"), time.Now().Add(time.Hour))
	address, _ := secureServer(t, file("server.pem"), file("server.key"), file("ca.pem"))
	c, err := Dial(t.Context(), Options{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Images.Get(t.Context(), &api.GetImageRequest{}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "does it want TLS") {
		t.Error(err)
	}
}
