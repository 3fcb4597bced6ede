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
	"slices"
	"strings"
	"sync"
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

// authority is what a server is called in a call: a name that nobody looks up.
const authority = "minid"

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

	connect func(context.Context) (net.Conn, error)
	first   *direct
	lock    sync.Mutex // of what follows
	conn    *grpc.ClientConn
	closed  bool

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
	c := &Client{address: address, plain: network == "tcp" && o.TLS == nil, trace: o.Trace, connect: connect, first: newDirect(first)}
	c.services()
	return c, nil
}

// library is the connection of gRPC's library, which is made when it is first needed.
func (c *Client) library() (*grpc.ClientConn, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	if c.closed {
		return nil, grpcx.Error(status.Errorf(codes.Canceled, "the connection to %s is closed", c.address))
	}
	conn, err := grpc.NewClient("passthrough:///"+authority,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.connect(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcx.MaxMessage), grpc.MaxCallSendMsgSize(grpcx.MaxMessage), grpc.ForceCodecV2(codec{})),
		grpc.WithStreamInterceptor(c.stream),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.address, err)
	}
	conn.Connect()
	c.conn = conn
	c.first.retire() // there is one connection from now on, and one that listens to the server
	return conn, nil
}

// Invoke makes a call with one answer: by the first connection if it can be, else by the library's.
func (c *Client) Invoke(ctx context.Context, method string, request, answer any, options ...grpc.CallOption) error {
	began := time.Now()
	err := errElsewhere
	if !slices.ContainsFunc(options, matters) {
		err = c.first.call(ctx, method, authority, request, answer)
	}
	if err == errElsewhere {
		var conn *grpc.ClientConn
		if conn, err = c.library(); err == nil {
			err = conn.Invoke(ctx, method, request, answer, options...)
		}
	}
	err = c.call(err)
	c.traced(method, began, err)
	return err
}

// matters says whether an option changes a call: that the method's name is a constant, which every generated call says, does
// not.
func matters(o grpc.CallOption) bool {
	_, static := o.(grpc.StaticMethodCallOption)
	return !static
}

// NewStream begins a call with streams.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := c.library()
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, options...)
}

func (c *Client) services() {
	c.System = api.NewSystemClient(c)
	c.Namespaces = api.NewNamespacesClient(c)
	c.Images = api.NewImagesClient(c)
	c.Content = api.NewContentClient(c)
	c.Snapshots = api.NewSnapshotsClient(c)
	c.Leases = api.NewLeasesClient(c)
	c.Containers = api.NewContainersClient(c)
	c.Processes = api.NewProcessesClient(c)
	c.Networks = api.NewNetworksClient(c)
	c.Volumes = api.NewVolumesClient(c)
	c.Archives = api.NewArchivesClient(c)
	c.Health = healthpb.NewHealthClient(c)
}

// Conn is the connection, for services that are not of the native API.
func (c *Client) Conn() grpc.ClientConnInterface { return c }

// Address is where the daemon was found.
func (c *Client) Address() string { return c.address }

// Close ends the connection and what still runs over it.
func (c *Client) Close() error {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.closed = true
	c.first.idle.Stop()
	err := c.first.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if c.conn != nil {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

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
