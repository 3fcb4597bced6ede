package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtime is a CRI runtime with what was asked of it.
type runtime struct {
	cri.RuntimeServiceClient
	images cri.ImageServiceClient
	settings
	// address is where the runtime service is, or the image service when there is only that.
	address address
	// lacks are the streaming calls that this runtime turned out not to have.
	lacks map[string]bool
	conns []*grpc.ClientConn
	// console is where a person is told things: the standard error.
	console func(format string, args ...any)
}

// service is what a command wants of a runtime.
type service int

const (
	containersAndPods service = 1 << iota
	imageStore
	both = containersAndPods | imageStore
)

// with runs a command that talks to a runtime.
func with(wanted service, act func(*cli.Context, *runtime) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		r, err := connect(c, s, wanted)
		if err != nil {
			return err
		}
		defer r.close()
		return act(c, r)
	}
}

func (r *runtime) close() {
	for _, conn := range r.conns {
		_ = conn.Close() // nothing is in flight any more
	}
}

// connect finds the runtime's sockets and connects to those that the command wants.
func connect(c *cli.Context, s settings, wanted service) (*runtime, error) {
	r := &runtime{settings: s, lacks: map[string]bool{}}
	r.console = func(format string, args ...any) { fmt.Fprintf(c.App.ErrWriter, format+"\n", args...) }
	endpoint := s.RuntimeEndpoint
	if wanted == imageStore && s.ImageEndpoint != "" {
		endpoint = s.ImageEndpoint
	}
	conn, at, err := r.dial(c.Context, endpoint)
	if err != nil {
		return nil, err
	}
	r.address, r.RuntimeServiceClient, r.images = at, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	if wanted == both && s.ImageEndpoint != "" && s.ImageEndpoint != endpoint {
		if conn, _, err = r.dial(c.Context, s.ImageEndpoint); err != nil {
			r.close()
			return nil, err
		}
		r.images = cri.NewImageServiceClient(conn)
	}
	return r, nil
}

// dial connects to an endpoint, or to what discovery finds when it is empty.
func (r *runtime) dial(ctx context.Context, endpoint string) (*grpc.ClientConn, address, error) {
	var at address
	if endpoint == "" {
		f, err := discover(ctx, wellKnown(), exists, r.ask)
		if err != nil {
			return nil, at, err
		}
		r.console("%s: %s", program, f.notice())
		at = f.Address
	} else {
		var err error
		if at, err = parseEndpoint(endpoint); err != nil {
			return nil, at, err
		}
		if err := r.reach(ctx, at); err != nil {
			return nil, at, err
		}
	}
	conn, err := r.open(at)
	if err != nil {
		return nil, at, err
	}
	r.conns = append(r.conns, conn)
	return conn, at, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// ask finds out whether a CRI runtime answers at an address.
func (r *runtime) ask(ctx context.Context, at address) error {
	if err := r.once(ctx, at); err != nil {
		return err
	}
	conn, err := r.open(at)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	_, err = cri.NewRuntimeServiceClient(conn).Version(ctx, &cri.VersionRequest{Version: "v1"})
	return err
}

// reach makes sure that somebody listens, so that a wrong path is told at once and in plain words. A runtime that is just
// restarting is waited for as long as a retry would.
func (r *runtime) reach(ctx context.Context, at address) error {
	return repeat(ctx, r.MaxRetries, func() error { return r.once(ctx, at) }, func(err error) bool {
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func (r *runtime) once(ctx context.Context, at address) error {
	dialer := net.Dialer{Timeout: r.Timeout}
	conn, err := dialer.DialContext(ctx, at.network, at.path)
	if err != nil {
		return dialError(at, err)
	}
	return conn.Close()
}

// dialError says what a failed connect means to a person.
func dialError(at address, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no runtime at %s: the socket does not exist: start the runtime or pass --runtime-endpoint: %w", at, errdefs.ErrUnavailable)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no access to %s: be root, or a member of the socket's group: %w", at, errdefs.ErrPermissionDenied)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: the runtime has ended (%w): start it: %w", at, syscall.ECONNREFUSED, errdefs.ErrUnavailable)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s does not accept the connection in time: is the runtime stopped or busy? --timeout waits longer: %w", at, errdefs.ErrUnavailable)
	}
	return fmt.Errorf("connect to %s: %w", at, err)
}

func (r *runtime) open(at address) (*grpc.ClientConn, error) {
	dialer := net.Dialer{Timeout: r.Timeout}
	back := backoff.DefaultConfig
	back.BaseDelay = firstPause // as quick as the retries
	watch := interceptors{runtime: r, at: at}
	conn, err := grpc.NewClient("passthrough:///runtime",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, at.network, at.path)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: back, MinConnectTimeout: r.Timeout}),
		// A node's lists have no limit that a client could know.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithUnaryInterceptor(watch.unary), grpc.WithStreamInterceptor(watch.stream),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", at, err)
	}
	return conn, nil
}
