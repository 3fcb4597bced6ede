package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/tlsfile"
)

// TLS is what a client brings to a daemon on another machine.
type TLS struct {
	// CA is a PEM file of the authority that has signed the daemon's certificate; empty: the system's authorities.
	CA string
	// Cert and Key are PEM files of this client's certificate; both empty: it has none.
	Cert, Key string
	// SkipVerify takes any certificate from the daemon, which can then be anybody.
	SkipVerify bool
}

// config reads the files. address is where the daemon is, for the name in its certificate.
func (t TLS) config(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: write tcp://HOST:PORT: %w", address, errdefs.ErrInvalidArgument)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ServerName: host, InsecureSkipVerify: t.SkipVerify}
	if t.CA != "" {
		if c.RootCAs, err = tlsfile.ReadAuthorities(t.CA); err != nil {
			return nil, err
		}
	}
	switch {
	case t.Cert != "" && t.Key != "":
		pair, err := tlsfile.ReadPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		// Sent whatever the authorities that the daemon names: it says better than silence what is wrong with it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	case t.Cert != t.Key:
		return nil, fmt.Errorf("tls: name both the certificate and the key: %w", errdefs.ErrInvalidArgument)
	}
	return c, nil
}

// connector makes connections to one daemon, each within the timeout.
func connector(network, address string, timeout time.Duration, o *TLS) (func(context.Context) (net.Conn, error), error) {
	dialer := net.Dialer{Timeout: timeout}
	plain := func(ctx context.Context) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, dialError(address, err)
		}
		return conn, nil
	}
	if network == "unix" {
		return plain, nil
	}
	if o == nil {
		if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
			return nil, fmt.Errorf("tcp://%s is another machine: what is sent there needs TLS: pass --tlsverify, with --tlscacert, --tlscert and --tlskey: %w",
				address, errdefs.ErrInvalidArgument)
		}
		return plain, nil
	}
	config, err := o.config(address)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := plain(ctx)
		if err != nil {
			return nil, err
		}
		secured, err := secure(ctx, conn, config, timeout)
		if err != nil {
			conn.Close()
			return nil, tlsError(address, o, err)
		}
		return secured, nil
	}, nil
}

// secure makes a connection safe, and waits for the first byte from the other side. In TLS 1.3 a server looks at the
// client's certificate after the client's part of the handshake (RFC 8446, 2): a refusal comes in place of that byte, and
// is lost when the client has written meanwhile. A server of gRPC begins with its settings, unasked (RFC 9113, 3.4).
func secure(ctx context.Context, conn net.Conn, config *tls.Config, timeout time.Duration) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(secured, first); err != nil {
		return nil, err
	}
	return &begun{Conn: secured, first: first}, conn.SetDeadline(time.Time{})
}

// begun is a connection of which the first byte has been read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// tlsError says what a failed handshake means to a person.
func tlsError(address string, o *TLS, err error) error {
	say := func(format string, args ...any) error {
		return grpcx.Error(status.Errorf(codes.Unauthenticated, "tcp://"+address+": "+format, args...))
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &unknown):
		authority := "an authority of this system"
		if o.CA != "" {
			authority = o.CA
		}
		return say("the daemon's certificate is not signed by %s: pass its authority by --tlscacert", authority)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return say("the daemon's certificate is not valid now (from %s to %s): renew it there, or mend this machine's clock",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &host):
		return say("the daemon's certificate has another name: %s: address it by that, or give it one with this name", strings.TrimPrefix(host.Error(), "x509: "))
	case errors.As(err, &record):
		return say("there is no TLS: leave --tls and --tlsverify out, or look for the daemon elsewhere")
	case errors.As(err, &timeout) && timeout.Timeout():
		return dialError(address, err)
	}
	if refusal := refusal(err, o); refusal != "" {
		return say("%s", refusal)
	}
	return grpcx.Error(status.Errorf(codes.Unavailable, "tcp://%s: TLS: %s", address, err))
}

// refusal explains an alert (RFC 8446, 6.2) by which the daemon has refused this client; empty for other errors. Go tells
// alerts apart by their text only.
func refusal(err error, o *TLS) string {
	text, alert := "", err.Error()
	if !strings.Contains(alert, "remote error: tls: ") {
		return ""
	}
	switch {
	case strings.HasSuffix(alert, "certificate required"), o.Cert == "":
		return "the daemon wants a certificate from its clients: pass one by --tlscert and --tlskey"
	case strings.HasSuffix(alert, "expired certificate"):
		text = "it is not valid now: renew it"
	case strings.HasSuffix(alert, "unknown certificate authority"):
		text = "it is not signed by the authority that the daemon trusts (its tls_ca)"
	default:
		text = strings.TrimPrefix(alert, "remote error: tls: ")
	}
	return fmt.Sprintf("the daemon refuses the certificate %s: %s", o.Cert, text)
}
