package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
)

// odd answers as the name of the service that is asked for says.
type odd struct {
	healthpb.UnimplementedHealthServer
	gone chan struct{} // the call of "wait" was cancelled
}

func (o *odd) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	switch {
	case r.Service == "wait":
		<-ctx.Done()
		close(o.gone)
		return nil, status.FromContextError(ctx.Err()).Err()
	case r.Service == "error":
		return nil, status.Error(codes.NotFound, "no 100% \"ü\"\nfound")
	case r.Service == "details":
		s, err := status.New(codes.FailedPrecondition, "it is so").WithDetails(&healthpb.HealthCheckRequest{Service: "why"})
		return nil, errors.Join(err, s.Err())
	case strings.HasPrefix(r.Service, "deadline"):
		if _, ok := ctx.Deadline(); !ok {
			return nil, status.Error(codes.Internal, "no deadline came")
		}
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// many lists more than one window of HTTP/2 holds.
type many struct {
	api.UnimplementedContainersServer
}

func (many) List(context.Context, *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	out := &api.ListContainersResponse{}
	for range 20000 {
		out.Containers = append(out.Containers, &api.Container{Id: strings.Repeat("x", 64)})
	}
	return out, nil
}

func oddServer(t *testing.T) (*Client, *odd, *grpc.Server) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: slog.New(slog.DiscardHandler)}, nil)...)
	o := &odd{gone: make(chan struct{})}
	healthpb.RegisterHealthServer(server, o)
	api.RegisterContainersServer(server, many{})
	go server.Serve(l)
	t.Cleanup(server.Stop)
	c, err := Dial(t.Context(), Options{Address: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, o, server
}

func (c *Client) check(ctx context.Context, service string) error {
	_, err := c.Health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	return err
}

// TestDirect makes calls one after the other over the first connection; the library's is never needed.
func TestDirect(t *testing.T) {
	c, _, _ := oddServer(t)
	for range 3 {
		if err := c.check(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := c.check(t.Context(), "error"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no 100% \"ü\"\nfound") {
			t.Errorf("an error became %v", err)
		}
	}
	if err := c.check(t.Context(), "details"); len(status.Convert(err).Details()) != 1 || !errdefs.IsFailedPrecondition(err) {
		t.Errorf("an error with details became %v", err)
	}
	for _, in := range []time.Duration{time.Minute, 1000 * time.Hour} {
		ctx, cancel := context.WithTimeout(t.Context(), in)
		if err := c.check(ctx, "deadline"); err != nil {
			t.Errorf("with %v: %v", in, err)
		}
		cancel()
	}
	for range 3 {
		list, err := c.Containers.List(t.Context(), &api.ListContainersRequest{})
		if err != nil || len(list.Containers) != 20000 {
			t.Fatalf("%d containers, %v", len(list.GetContainers()), err)
		}
	}
	if _, err := c.System.Version(t.Context(), &api.VersionRequest{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a service that is not there: %v", err)
	}
	if c.conn != nil {
		t.Error("the library's connection was made")
	}
}

// TestDirectOrLibrary leaves to the library what the first connection is not made for.
func TestDirectOrLibrary(t *testing.T) {
	c, _, _ := oddServer(t)
	if err := c.check(t.Context(), strings.Repeat("x", maxFrame+1)); err != nil {
		t.Errorf("a large request: %v", err)
	}
	if c.conn == nil {
		t.Error("it went over the first connection")
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 20 { // in all, more than the first connection may send
				if err := c.check(t.Context(), strings.Repeat("x", 1000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// TestDirectCancelled ends a call on both sides, and the client goes on.
func TestDirectCancelled(t *testing.T) {
	for name, want := range map[string]codes.Code{"cancel": codes.Canceled, "deadline": codes.DeadlineExceeded} {
		c, o, _ := oddServer(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if name == "cancel" {
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		if err := c.check(ctx, "wait"); status.Code(err) != want {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		select {
		case <-o.gone:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the server goes on", name)
		}
		if err := c.check(t.Context(), ""); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		if err := c.check(ctx, ""); status.Code(err) != want {
			t.Errorf("%s, before the call: %v", name, err)
		}
	}
}

// TestDirectIdle lets a server end that has clients who do not use their connections.
func TestDirectIdle(t *testing.T) {
	c, _, server := oddServer(t)
	if err := c.check(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	server.GracefulStop()
	if took := time.Since(began); took > 10*linger {
		t.Errorf("the server waited %v for a client that does nothing", took)
	}
}

// TestDirectServerEnds says so, and uses a new connection when the server is back.
func TestDirectServerEnds(t *testing.T) {
	c, _, server := oddServer(t)
	if err := c.check(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- c.check(t.Context(), "wait") }()
	time.Sleep(50 * time.Millisecond)
	server.Stop()
	if err := <-done; !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "the connection to the daemon at") {
		t.Errorf("a server that ends: %v", err)
	}
	if err := c.check(t.Context(), ""); !errdefs.IsUnavailable(err) {
		t.Errorf("a server that has ended: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := c.check(t.Context(), ""); err == nil {
		t.Error("a closed client made a call")
	}
}

// FuzzDirectAnswer reads what a server that is none may send.
func FuzzDirectAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		go func() {
			buf := make([]byte, 4096)
			for {
				if _, err := theirs.Read(buf); err != nil {
					return
				}
			}
		}()
		d := newDirect(ours)
		go func() {
			theirs.SetWriteDeadline(time.Now().Add(time.Second))
			theirs.Write(answer)
			theirs.Close()
		}()
		err := d.call(t.Context(), "/x/y", authority, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
		if _, isStatus := status.FromError(err); err != nil && !isStatus {
			t.Errorf("%v is no status", err)
		}
	})
}
