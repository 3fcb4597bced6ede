package tlsfile

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/testenv"
)

// handshake lets a client with a certificate meet a server, and says what the server made of it.
func handshake(t *testing.T, server *tls.Config, cert, key string) (name string, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair, err := ReadPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 1)
	go func() {
		// The client's view: only the server's name matters here.
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*pair}})
		if err != nil {
			names <- err.Error()
			return
		}
		defer conn.Close()
		names <- conn.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, _ = conn.Read(make([]byte, 1)) // until the server has looked
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	err = conn.(*tls.Conn).Handshake()
	conn.Close()
	return <-names, err
}

func TestMutualFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tomorrow := time.Now().Add(24 * time.Hour)
	first, second := testenv.NewAuthority(t, file("ca.pem")), testenv.NewAuthority(t, file("other.pem"))
	first.Issue(t, "one", file("cert.pem"), file("key.pem"), tomorrow)
	first.Issue(t, "alice", file("alice.pem"), file("alice.key"), tomorrow)
	second.Issue(t, "bob", file("bob.pem"), file("bob.key"), tomorrow)
	first.Issue(t, "late", file("late.pem"), file("late.key"), time.Now().Add(-time.Minute))
	var warnings []error
	server, err := Mutual(file("cert.pem"), file("key.pem"), file("ca.pem"), func(err error) { warnings = append(warnings, err) })
	if err != nil {
		t.Fatal(err)
	}
	meets := func(who, serverName string, letIn bool) {
		t.Helper()
		name, err := handshake(t, server, file(who+".pem"), file(who+".key"))
		if name != serverName || (err == nil) != letIn {
			t.Errorf("%s meets %s, want %s; let in: %v, want %v", who, name, serverName, err, letIn)
		}
	}
	meets("alice", "one", true)
	meets("bob", "one", false)
	meets("late", "one", false)

	t.Log("a new certificate, a new authority")
	first.Issue(t, "two, a longer name", file("cert.pem"), file("key.pem"), tomorrow)
	meets("alice", "two, a longer name", true)
	if err := os.Rename(file("other.pem"), file("ca.pem")); err != nil {
		t.Fatal(err)
	}
	meets("bob", "two, a longer name", true)
	meets("alice", "two, a longer name", false)

	t.Log("spoiled files leave the last good ones in use, and are told of once")
	if err := errors.Join(os.WriteFile(file("ca.pem"), []byte("nothing"), 0o600), os.Remove(file("key.pem"))); err != nil {
		t.Fatal(err)
	}
	warnings = nil
	meets("bob", "two, a longer name", true)
	meets("bob", "two, a longer name", true)
	if len(warnings) != 2 {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, filepath.Join(dir, "missing")} {
		if _, err := Mutual(file, file, file, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("pair %s: %v", file, err)
		}
		if _, err := ReadAuthorities(file); !errdefs.IsInvalidArgument(err) {
			t.Errorf("authority %s: %v", file, err)
		}
	}
}
