package stream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

func TestTokens(t *testing.T) {
	now := time.Now()
	tok := newTokens(time.Minute)
	tok.now = func() time.Time { return now }
	issue := func() string {
		token, err := tok.issue(request{verb: "exec", container: "c"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	a := issue()
	if r, ok := tok.redeem("exec", a); !ok || r.container != "c" {
		t.Errorf("redeem: %v, %t", r, ok)
	}
	if _, ok := tok.redeem("exec", a); ok {
		t.Error("a token was good twice")
	}
	a = issue()
	if _, ok := tok.redeem("attach", a); ok {
		t.Error("a token was good for another verb")
	}
	a = issue()
	now = now.Add(time.Minute)
	if _, ok := tok.redeem("exec", a); ok {
		t.Error("a token was good after its time")
	}
	for range maxTokens {
		issue()
	}
	if _, err := tok.issue(request{}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one more than there may be: %v", err)
	}
	now = now.Add(time.Minute)
	issue() // the old ones have expired
	if n := len(tok.open); n != 1 {
		t.Errorf("%d tokens are kept, want 1", n)
	}
}

func TestReachable(t *testing.T) {
	for _, test := range []struct{ listens, want string }{
		{"127.0.0.1:80", "127.0.0.1:80"}, {"0.0.0.0:80", "127.0.0.1:80"}, {"[::]:80", "127.0.0.1:80"}, {"[::1]:80", "[::1]:80"},
		{"10.0.0.1:80", "10.0.0.1:80"},
	} {
		a, err := net.ResolveTCPAddr("tcp", test.listens)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(a); got != test.want {
			t.Errorf("%s is reached at %s, want %s", test.listens, got, test.want)
		}
	}
}

func TestUnknownAddresses(t *testing.T) {
	s, _, _ := serve(t, Config{})
	for path, want := range map[string]int{"/exec/x": 404, "/attach/x": 404, "/portforward/x": 404, "/": 404, "/exec/": 404} {
		response, err := http.Post(s.base.String()+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, response.Status, want)
		}
	}
	// A client that does not want to take the connection over has used its address up.
	address, err := s.ExecURL("c", []string{"true"}, Options{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{400, 404} {
		response, err := http.Post(address, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("an ordinary request: %s, want %d", response.Status, want)
		}
	}
}

// A client that does not open the streams it has asked for is not waited for.
func TestCreationTimeout(t *testing.T) {
	s, e, _ := serve(t, Config{CreationTimeout: 50 * time.Millisecond})
	address, err := s.ExecURL("c", []string{"true"}, Options{Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// Its end without a word is a success to client-go.
	_ = client{executor: transports[0].executor}.stream(t.Context(), address, remotecommand.StreamOptions{Stdout: io.Discard})
	if time.Since(began) > 5*time.Second || e.proc("x1") != nil {
		t.Errorf("ended after %s; the command ran: %t", time.Since(began), e.proc("x1") != nil)
	}
}

func TestIdleTimeout(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			s, _, w := serve(t, Config{IdleTimeout: 100 * time.Millisecond})
			address, err := s.ExecURL("c", []string{"sleep", "60"}, Options{Stdout: true})
			if err != nil {
				t.Fatal(err)
			}
			go client{executor: tr.executor}.stream(t.Context(), address, remotecommand.StreamOptions{Stdout: io.Discard})
			select {
			case <-w.ended:
			case <-time.After(5 * time.Second):
				t.Error("an idle connection was left open")
			}
		})
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	c := Config{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
	first := certificate(t, c, 1)
	s, _, _ := serve(t, c)
	if !strings.HasPrefix(s.base.String(), "https://127.0.0.1:") {
		t.Errorf("serves at %s", &s.base)
	}
	for _, tr := range transports {
		var out bytes.Buffer
		address, err := s.ExecURL("c", []string{"echo", "secret"}, Options{Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		x, err := tr.executor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: first}}, address)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "secret\n" {
			t.Errorf("%s: %q, error %v", tr.name, out.String(), err)
		}
	}
	serial := func() int64 {
		conn, err := tls.Dial("tcp", s.base.Host, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	certificate(t, c, 2)
	if n := serial(); n != 2 {
		t.Errorf("certificate %d is served, want the new one", n)
	}
	if err := os.WriteFile(c.CertFile, []byte("spoiled"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 2 {
		t.Errorf("certificate %d is served, want the last good one", n)
	}
	certificate(t, c, 3)
	if n := serial(); n != 3 {
		t.Errorf("certificate %d is served, want the new one", n)
	}
}

func TestConfigThatCannotBe(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for what, c := range map[string]Config{
		"a certificate without a key": {CertFile: "/x"},
		"no such files":               {CertFile: "/no/such/cert", KeyFile: "/no/such/key"},
		"an address of others":        {Address: "192.0.2.1:0"},
	} {
		if s, err := New(c, nil, log); err == nil {
			s.Stop()
			t.Errorf("%s: no error", what)
		}
	}
	s, err := New(Config{Address: "0.0.0.0:0"}, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	s.Stop() // without Serve
	if _, err := net.Dial("tcp", s.base.Host); err == nil {
		t.Error("a stopped server listens")
	}
}

// certificate writes a pair for 127.0.0.1, signed by itself, and returns it.
func certificate(t *testing.T, c Config, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, data := range map[string][]byte{
		c.KeyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), c.CertFile: cert,
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}
