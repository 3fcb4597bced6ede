package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Interceptors is the one pair that stands before every handler.
type Interceptors struct {
	Log *slog.Logger
	// Observe, when set, is told of each finished call: the method as "/service/Method".
	Observe func(method string, code codes.Code, took time.Duration)
}

// Unary stands before the handlers of single requests.
func (i Interceptors) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer i.finish(ctx, info.FullMethod, time.Now(), &err)
	return handler(ctx, req)
}

// Stream stands before the handlers of streams.
func (i Interceptors) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer i.finish(ss.Context(), info.FullMethod, time.Now(), &err)
	return handler(srv, ss)
}

// finish is deferred: it recovers from a panic, gives the error its code, logs it once and tells Observe.
func (i Interceptors) finish(ctx context.Context, method string, start time.Time, err *error) {
	if cause := recover(); cause != nil {
		i.Log.ErrorContext(ctx, "a request panicked", "method", method, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "%s: the daemon has a fault: its log has the stack", method)
	}
	took := time.Since(start)
	s := Status(timedOut(ctx, *err))
	i.log(ctx, method, s, took)
	if *err = s.Err(); i.Observe != nil {
		i.Observe(method, s.Code(), took)
	}
}

// timedOut lets a call that failed because its own time was up say so, whatever gave up first on its way.
func timedOut(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return status.Error(codes.DeadlineExceeded, err.Error())
}

func (i Interceptors) log(ctx context.Context, method string, s *status.Status, took time.Duration) {
	level := Level(s.Code())
	if !i.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("method", method), slog.Duration("took", took.Round(time.Microsecond))}
	if s.Code() != codes.OK {
		attrs = append(attrs, slog.String("code", s.Code().String()), slog.String("error", s.Message()))
	}
	if p, ok := PeerOf(ctx); ok {
		attrs = append(attrs, slog.Int("peer_pid", int(p.PID)), slog.Int("peer_uid", int(p.UID)))
	} else if address, name, ok := remoteOf(ctx); ok {
		attrs = append(attrs, slog.String("peer_addr", address), slog.String("peer_name", name))
	}
	i.Log.LogAttrs(ctx, level, "request", attrs...)
}

// Level is how loudly an outcome is logged: errors are the daemon's own faults, warnings are what the host or a
// registry refused, everything else is the client's business.
func Level(code codes.Code) slog.Level {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unimplemented:
		return slog.LevelError
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
