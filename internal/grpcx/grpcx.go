// Package grpcx is what every gRPC socket of the suite has in common: the one mapping between error classes and
// status codes, the interceptors that apply it (and log, time and survive a panic), the limits of a message, and who is
// at the other end of a socket. No service lives here.
package grpcx

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// MaxMessage is the largest message in bytes, either way; CRI-O's. A CRI list of some thousand containers needs more than
// gRPC's own default of 4 MiB.
const MaxMessage = 80 << 20

// ChunkSize is how many bytes a stream of data carries in one message.
const ChunkSize = 256 << 10

// ServerOptions are those of a server on a local Unix socket, and on TCP with the credentials given for it; nil: TCP is
// refused.
func ServerOptions(i Interceptors, remote credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(PeerCredentials{Remote: remote}),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ChainUnaryInterceptor(i.Unary),
		grpc.ChainStreamInterceptor(i.Stream),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}
