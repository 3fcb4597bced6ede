package grpcx

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Peer is the process that connected to a Unix socket, as the kernel knew it then (SO_PEERCRED, see unix(7)). PID is 0
// when it is not visible in this pid namespace.
type Peer struct {
	credentials.CommonAuthInfo
	PID int32
	UID uint32
	GID uint32
}

// AuthType names the kind of credentials.
func (Peer) AuthType() string { return "peercred" }

// PeerOf returns the process behind a request.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	info, ok := p.AuthInfo.(Peer)
	return info, ok
}

// PeerCredentials are a server's transport credentials on a Unix socket: nothing is encrypted, the kernel vouches for
// the client. Other sockets are left to Remote; without it they are refused.
type PeerCredentials struct {
	Remote credentials.TransportCredentials
}

// ServerHandshake asks the kernel who is there.
func (c PeerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := conn.(*net.UnixConn)
	switch {
	case !ok && c.Remote != nil:
		return c.Remote.ServerHandshake(conn)
	case !ok:
		return nil, nil, errors.New("not a Unix socket: there is nobody to vouch for the client")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, nil, err
	}
	if credErr != nil {
		return nil, nil, credErr
	}
	return conn, Peer{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		PID:            cred.Pid, UID: cred.Uid, GID: cred.Gid,
	}, nil
}

// ClientHandshake is not for servers.
func (PeerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are a server's: a client uses insecure ones")
}

// Info describes the protocol.
func (PeerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

// Clone returns the same: there is no state.
func (c PeerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName has no meaning on a Unix socket.
func (PeerCredentials) OverrideServerName(string) error { return nil }
