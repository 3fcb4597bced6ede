package grpcx

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// RemoteCredentials are a server's on TCP. Each client that comes or is refused is logged, with its name.
type RemoteCredentials struct {
	credentials.TransportCredentials
	log *slog.Logger
}

// NewRemoteCredentials serves TLS as config says; nil: the bytes go as they are, and nobody vouches for the client.
func NewRemoteCredentials(config *tls.Config, log *slog.Logger) RemoteCredentials {
	if config == nil {
		return RemoteCredentials{insecure.NewCredentials(), log}
	}
	return RemoteCredentials{credentials.NewTLS(config), log}
}

// ServerHandshake is of credentials.TransportCredentials.
func (c RemoteCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	from := conn.RemoteAddr().String()
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	switch {
	case errors.Is(err, io.EOF): // a port that is tried, and nothing said
		c.log.Debug("a remote connection ended before it began", "peer_addr", from)
	case err != nil:
		c.log.Warn("a remote client is refused", "peer_addr", from, "error", err)
	default:
		name, serial := certified(info)
		c.log.Info("a remote client has connected", "peer_addr", from, "peer_name", name, "peer_serial", serial)
	}
	return secured, info, err
}

// Clone returns the same: there is no state.
func (c RemoteCredentials) Clone() credentials.TransportCredentials { return c }

// remoteOf returns the address and the certified name of a client on TCP.
func remoteOf(ctx context.Context) (address, name string, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil || p.Addr.Network() != "tcp" {
		return "", "", false
	}
	name, _ = certified(p.AuthInfo)
	return p.Addr.String(), name, true
}

// certified is what a client's certificate calls it; both are empty without one.
func certified(info credentials.AuthInfo) (name, serial string) {
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.PeerCertificates) == 0 {
		return "", ""
	}
	c := t.State.PeerCertificates[0]
	return cmp.Or(c.Subject.CommonName, alternative(c), c.Subject.String()), c.SerialNumber.Text(16)
}

// alternative is the first of a certificate's names beside its subject (RFC 5280, 4.2.1.6).
func alternative(c *x509.Certificate) string {
	for _, list := range [][]string{c.DNSNames, c.EmailAddresses} {
		if len(list) > 0 {
			return list[0]
		}
	}
	if len(c.URIs) > 0 {
		return c.URIs[0].String()
	}
	return ""
}
