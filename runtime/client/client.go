// Package client talks to minid's native API. Most of it is the generated clients, with errors that a person can read
// and a program can test with errdefs; there are wrappers only where a call is more than a call: attachments (attach.go),
// transfers with progress (transfer.go), archives and blobs as readers and writers (archive.go, blob.go).
//
// Every request names its namespace itself; an empty one is "default".
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
)

// DefaultAddress is where minid listens unless its configuration says otherwise.
const DefaultAddress = "/run/minid/minid.sock"

const defaultConnectTimeout = 10 * time.Second

// Options say where the daemon is.
type Options struct {
	// Address is the path of a Unix socket, with or without unix://, or host:port, with or without tcp://. Empty:
	// DefaultAddress.
	Address string
	// TLS is what a daemon at tcp:// wants; nil: it is spoken to in the clear, at a loopback address only.
	TLS *TLS
	// ConnectTimeout bounds the connecting, not the calls; 0: 10 seconds.
	ConnectTimeout time.Duration
	// Trace is told of each call that has ended, for a person; nil: nobody. What was sent is not told: it may have
	// passwords.
	Trace func(string)
}

// Client has the services of one daemon.
type Client struct {
	System     api.SystemClient
	Namespaces api.NamespacesClient
	Images     api.ImagesClient
	Content    api.ContentClient
	Snapshots  api.SnapshotsClient
	Leases     api.LeasesClient
	Networks   api.NetworksClient
	Volumes    api.VolumesClient
	Containers api.ContainersClient
	Processes  api.ProcessesClient
	Archives   api.ArchivesClient
	Health     healthpb.HealthClient

	conn    *grpc.ClientConn
	address string
	plain   bool // TCP without TLS
	trace   func(string)
}

// Dial connects to the daemon, and says what to do when there is none: ErrUnavailable, ErrPermissionDenied, or
// ErrUnauthenticated where certificates do not fit.
func Dial(ctx context.Context, o Options) (*Client, error) {
	network, address := split(o.Address)
	timeout := o.ConnectTimeout
	if timeout == 0 {
		timeout = defaultConnectTimeout
	}
	connect, err := connector(network, address, timeout, o.TLS)
	if err != nil {
		return nil, err
	}
	first, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	var ready atomic.Pointer[net.Conn] // the first connection is the one just made
	ready.Store(&first)
	c := &Client{address: address, plain: network == "tcp" && o.TLS == nil, trace: o.Trace}
	c.conn, err = grpc.NewClient("passthrough:///minid",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if conn := ready.Swap(nil); conn != nil {
				return *conn, nil
			}
			return connect(ctx)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcx.MaxMessage), grpc.MaxCallSendMsgSize(grpcx.MaxMessage)),
		grpc.WithUnaryInterceptor(c.unary), grpc.WithStreamInterceptor(c.stream),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", address, err), first.Close())
	}
	c.services()
	c.conn.Connect()
	return c, nil
}

func (c *Client) services() {
	c.System = api.NewSystemClient(c.conn)
	c.Namespaces = api.NewNamespacesClient(c.conn)
	c.Images = api.NewImagesClient(c.conn)
	c.Content = api.NewContentClient(c.conn)
	c.Snapshots = api.NewSnapshotsClient(c.conn)
	c.Leases = api.NewLeasesClient(c.conn)
	c.Containers = api.NewContainersClient(c.conn)
	c.Processes = api.NewProcessesClient(c.conn)
	c.Networks = api.NewNetworksClient(c.conn)
	c.Volumes = api.NewVolumesClient(c.conn)
	c.Archives = api.NewArchivesClient(c.conn)
	c.Health = healthpb.NewHealthClient(c.conn)
}

// Conn is the connection, for services that are not of the native API.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Address is where the daemon was found.
func (c *Client) Address() string { return c.address }

// Close ends the connection and what still runs over it.
func (c *Client) Close() error { return c.conn.Close() }

// split tells Unix sockets from TCP addresses: what has a slash, or no colon, is a path.
func split(address string) (network, rest string) {
	switch {
	case address == "":
		return "unix", DefaultAddress
	case strings.HasPrefix(address, "unix:"):
		return "unix", strings.TrimPrefix(strings.TrimPrefix(address, "unix:"), "//")
	case strings.HasPrefix(address, "tcp://"):
		return "tcp", strings.TrimPrefix(address, "tcp://")
	case strings.Contains(address, "/") || !strings.Contains(address, ":"):
		return "unix", address
	}
	return "tcp", address
}

// dialError says what a failed connect means to a person.
func dialError(address string, err error) error {
	say := func(code codes.Code, format string) error {
		return grpcx.Error(status.Errorf(code, format, address))
	}
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return say(codes.Unavailable, "no daemon at %s: start it with `minid` or pass --address")
	case errors.Is(err, fs.ErrPermission):
		return say(codes.PermissionDenied, "no access to %s: be root, or a member of the socket's group")
	case errors.Is(err, syscall.ECONNREFUSED):
		return say(codes.Unavailable, "nobody listens at %s: the daemon has ended: start it with `minid`")
	case errors.As(err, &timeout) && timeout.Timeout():
		return say(codes.Unavailable, "%s does not accept the connection in time: is the daemon busy or stopped?")
	}
	return grpcx.Error(status.Errorf(codes.Unavailable, "connect to %s: %s", address, err))
}

// call gives a finished call's error its class; what gRPC says of a broken connection is said so that it helps.
func (c *Client) call(err error) error {
	if status.Code(err) == codes.Unavailable {
		message := status.Convert(err).Message()
		if strings.HasPrefix(message, "error reading from server") || strings.HasPrefix(message, "connection error") ||
			strings.HasPrefix(message, "transport is closing") || strings.HasPrefix(message, "closing transport") {
			guess := "is it restarting?"
			if c.plain {
				guess = "does it want TLS (--tlsverify), or is it restarting?"
			}
			return grpcx.Error(status.Errorf(codes.Unavailable, "the connection to the daemon at %s broke: %s (%s)", c.address, guess, message))
		}
	}
	return grpcx.Error(err)
}

func (c *Client) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	began := time.Now()
	err := c.call(invoke(ctx, method, req, reply, conn, opts...))
	c.traced(method, began, err)
	return err
}

func (c *Client) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	began := time.Now()
	s, err := streamer(ctx, desc, conn, method, opts...)
	if err != nil {
		err = c.call(err)
		c.traced(method, began, err)
		return nil, err
	}
	return &clientStream{s, c, method, began, !desc.ServerStreams}, nil
}

func (c *Client) traced(method string, began time.Time, err error) {
	if c.trace == nil {
		return
	}
	result := "ok"
	if err != nil && !errors.Is(err, io.EOF) {
		result = err.Error()
	}
	c.trace(fmt.Sprintf("%s %s %s: %s", c.address, strings.TrimPrefix(method, "/"), time.Since(began).Round(time.Microsecond), result))
}

// clientStream gives the errors of a stream their class.
type clientStream struct {
	grpc.ClientStream
	client *Client
	method string
	began  time.Time
	single bool // one answer only
}

func (s *clientStream) SendMsg(m any) error { return s.client.call(s.ClientStream.SendMsg(m)) }

// RecvMsg gets an answer. The call ends with an error, io.EOF too, or with the only answer.
func (s *clientStream) RecvMsg(m any) error {
	err := s.client.call(s.ClientStream.RecvMsg(m))
	if err != nil || s.single {
		s.client.traced(s.method, s.began, err)
	}
	return err
}

func (s *clientStream) CloseSend() error { return s.client.call(s.ClientStream.CloseSend()) }
