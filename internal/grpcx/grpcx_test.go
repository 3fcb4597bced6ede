package grpcx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		err     error
		code    codes.Code
		message string
	}{
		{fmt.Errorf("container x: not in namespace y: %w", errdefs.ErrNotFound), codes.NotFound, "container x: not in namespace y"},
		{errdefs.ErrNotFound, codes.NotFound, "not found"},
		{fmt.Errorf("outer: %w", fmt.Errorf("inner (%w) end", errdefs.ErrAlreadyExists)), codes.AlreadyExists, "outer: inner (already exists) end"},
		{errors.Join(errors.New("first"), fmt.Errorf("second: %w", errdefs.ErrDataLoss)), codes.DataLoss, "first\nsecond"},
		{fmt.Errorf("pull: %w", context.Canceled), codes.Canceled, "pull"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "context deadline exceeded"},
		{fmt.Errorf("save: %w", errdefs.ErrConflict), codes.Aborted, "save"},
		{errors.New("no class"), codes.Internal, "no class"},
		{fmt.Errorf("open: %w", os.ErrNotExist), codes.Internal, "open: file does not exist"},
		{errdefs.ErrUnknown, codes.Internal, "unknown"},
		{status.Error(codes.OutOfRange, "kept"), codes.OutOfRange, "kept"},
	} {
		s := Status(tc.err)
		if s.Code() != tc.code || s.Message() != tc.message {
			t.Errorf("Status(%v) = %s %q, want %s %q", tc.err, s.Code(), s.Message(), tc.code, tc.message)
		}
	}
	if Status(nil) != nil {
		t.Error("the status of no error is not nil")
	}
}

// TestRoundTrip: a class survives the wire, and the client's message does not speak of RPCs.
func TestRoundTrip(t *testing.T) {
	for _, c := range classes {
		if c.class == errdefs.ErrNotModified || c.class == errdefs.ErrConflict || c.class == errdefs.ErrUnknown {
			continue // share a code with another class
		}
		got := Error(Status(fmt.Errorf("object o: why: %w", c.class)).Err())
		if !errors.Is(got, c.class) {
			t.Errorf("%v came back as %v", c.class, errors.Unwrap(got))
		}
		if got.Error() != "object o: why" {
			t.Errorf("%v: message is %q", c.class, got)
		}
		if again := Error(got); again != got {
			t.Errorf("%v: mapped twice", c.class)
		}
		if status.Code(got) != c.code {
			t.Errorf("%v: relayed with code %s, want %s", c.class, status.Code(got), c.code)
		}
	}
	if Error(io.EOF) != io.EOF || Error(nil) != nil {
		t.Error("the end of a stream was changed")
	}
}

func TestMessage(t *testing.T) {
	err := errors.Join(fmt.Errorf("a: b: %w", errdefs.ErrNotFound), fmt.Errorf("c: %w", errdefs.ErrInvalidArgument), errors.New("d"))
	if got := Message(err); got != "a: b\nc\nd" {
		t.Errorf("message is %q", got)
	}
	if got := Message(errdefs.ErrNotFound); got != "not found" {
		t.Errorf("a bare class is %q", got)
	}
	// Over the wire: the class goes, the kernel's word stays, whatever stands around it.
	sent := fmt.Errorf("mount x: permission denied: %w", errdefs.ErrInvalidArgument)
	come := fmt.Errorf("container c: %w", Error(Status(sent).Err()))
	if got := Message(errors.Join(come, errdefs.ErrNotFound)); got != "container c: mount x: permission denied\nnot found" {
		t.Errorf("what came over the wire is told as %q", got)
	}
}

type panicky struct {
	healthpb.UnimplementedHealthServer
	peer chan Peer
}

func (p panicky) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if who, ok := PeerOf(ctx); ok {
		p.peer <- who
	}
	if r.Service == "panic" {
		panic("boom")
	}
	return nil, fmt.Errorf("service %s: %w", r.Service, errdefs.ErrNotFound)
}

func serve(t *testing.T, i Interceptors, impl healthpb.HealthServer) healthpb.HealthClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(ServerOptions(i, nil)...)
	healthpb.RegisterHealthServer(s, impl)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

func TestInterceptors(t *testing.T) {
	var out bytes.Buffer
	type seen struct {
		method string
		code   codes.Code
	}
	observed := make(chan seen, 2)
	i := Interceptors{
		Log:     slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observe: func(m string, c codes.Code, _ time.Duration) { observed <- seen{m, c} },
	}
	impl := panicky{peer: make(chan Peer, 2)}
	c := serve(t, i, impl)

	_, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "x"})
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "service x" {
		t.Errorf("error is %v, want NOT_FOUND \"service x\"", err)
	}
	if got := <-observed; got != (seen{"/grpc.health.v1.Health/Check", codes.NotFound}) {
		t.Errorf("observed %v", got)
	}
	who := <-impl.peer
	if int(who.PID) != os.Getpid() || int(who.UID) != os.Getuid() {
		t.Errorf("peer is %+v, want this process", who)
	}

	_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "panic"})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "boom") {
		t.Errorf("after a panic the error is %v, want INTERNAL without the cause", err)
	}
	<-observed
	log := out.String()
	for _, want := range []string{"boom", "panicky.Check", "level=ERROR", "level=DEBUG msg=request", "code=NotFound"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not have %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "code=NotFound"); n != 1 {
		t.Errorf("one failure was logged %d times", n)
	}
}

func TestStreamInterceptor(t *testing.T) {
	observed := make(chan codes.Code, 1)
	i := Interceptors{Log: slog.New(slog.DiscardHandler), Observe: func(_ string, c codes.Code, _ time.Duration) { observed <- c }}
	c := serve(t, i, health.NewServer())
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if code := <-observed; code != codes.Canceled {
		t.Errorf("a stream whose client went away is observed as %s, want Canceled", code)
	}
}

func TestPeerCredentialsWantUnix(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, err := (PeerCredentials{}).ServerHandshake(a); err == nil {
		t.Error("a connection that is no Unix socket was let in")
	}
}
