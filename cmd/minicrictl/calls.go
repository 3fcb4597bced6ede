package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/grpcx"
)

// firstPause is how long the first repetition waits; each further one waits twice as long, up to lastPause.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
)

// debugLimit in bytes is how much of a message --debug prints.
const debugLimit = 8 << 10

// kind says what may be done about a call that did not go through.
type kind struct {
	repeatable bool // doing it twice is doing it once (the CRI's own word for the removals)
	question   bool // it changes nothing, and a runtime that works answers soon
}

// kindOf knows the calls of the CRI.
func kindOf(method string) kind {
	name := path.Base(method)
	switch {
	case strings.HasPrefix(name, "List"), strings.HasPrefix(name, "Stream"), strings.HasSuffix(name, "Status"), strings.HasSuffix(name, "Stats"),
		name == "Version", name == "RuntimeConfig", name == "ImageFsInfo":
		return kind{repeatable: true, question: true}
	case strings.HasPrefix(name, "Stop"), strings.HasPrefix(name, "Remove"), strings.HasPrefix(name, "Update"),
		name == "PullImage", name == "ReopenContainerLog":
		return kind{repeatable: true}
	}
	return kind{}
}

// repeat calls up to retries times more while the error is one that may pass.
func repeat(ctx context.Context, retries int, call func() error, passing func(error) bool) error {
	pause := firstPause
	for n := 0; ; n++ {
		err := call()
		if err == nil || n >= retries || !passing(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

func unavailable(err error) bool { return errors.Is(err, errdefs.ErrUnavailable) }

func unimplemented(err error) bool { return errors.Is(err, errdefs.ErrNotImplemented) }

// interceptors stand before every call to the runtime.
type interceptors struct {
	*runtime
	at address
}

func (i interceptors) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	retries := 0
	k := kindOf(method)
	if k.repeatable {
		retries = i.MaxRetries
	}
	return repeat(ctx, retries, func() error {
		began, limited := time.Now(), ctx
		if k.question {
			var cancel context.CancelFunc
			limited, cancel = context.WithTimeout(ctx, i.AnswerTime)
			defer cancel()
		}
		err := i.classify(method, invoke(limited, method, req, reply, conn, opts...))
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = fmt.Errorf("%s does not answer %s within %s: is it hung? --timeout waits longer: %w", i.at, path.Base(method), i.AnswerTime, context.DeadlineExceeded)
		}
		i.trace(method, req, reply, began, err)
		return err
	}, unavailable)
}

func (i interceptors) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	began := time.Now()
	s, err := streamer(ctx, desc, conn, method, opts...)
	if err != nil {
		err = i.classify(method, err)
		i.trace(method, nil, nil, began, err)
		return nil, err
	}
	return &watchedStream{s, i, method, began}, nil
}

type watchedStream struct {
	grpc.ClientStream
	i      interceptors
	method string
	began  time.Time
}

func (s *watchedStream) RecvMsg(m any) error {
	err := s.i.classify(s.method, s.ClientStream.RecvMsg(m))
	s.i.trace(s.method, nil, m, s.began, err)
	return err
}

// classify gives an error its class, and the words that help where gRPC's do not.
func (i interceptors) classify(method string, err error) error {
	message := status.Convert(err).Message()
	switch code := status.Code(err); {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case code == codes.Unimplemented && strings.HasPrefix(message, "unknown service"):
		return fmt.Errorf("%s does not serve CRI v1 (%s): is its CRI plugin switched off, or is it too old? %w", i.at, path.Base(path.Dir(method)), errdefs.ErrNotImplemented)
	case code == codes.Unimplemented:
		return fmt.Errorf("the runtime at %s does not have %s: %w", i.at, path.Base(method), errdefs.ErrNotImplemented)
	case code == codes.Unavailable && (strings.HasPrefix(message, "connection error") || strings.HasPrefix(message, "error reading from server") || strings.HasSuffix(message, "transport is closing")):
		return grpcx.Error(status.Errorf(codes.Unavailable, "the connection to %s broke: is the runtime restarting? (%s)", i.at, message))
	}
	return grpcx.Error(err)
}

// trace prints a call for --debug.
func (i interceptors) trace(method string, req, reply any, began time.Time, err error) {
	if !i.Debug || errors.Is(err, io.EOF) {
		return
	}
	result := text(reply)
	if err != nil {
		result = err.Error()
	}
	i.console("debug: %s %s %s: %s", path.Base(method), text(req), time.Since(began).Round(time.Microsecond), result)
}

// text is a message for a person, without its secrets.
func text(m any) string {
	message, ok := m.(proto.Message)
	if !ok {
		return ""
	}
	if pull, ok := message.(*cri.PullImageRequest); ok && pull.Auth != nil {
		pull = proto.Clone(pull).(*cri.PullImageRequest)
		pull.Auth = &cri.AuthConfig{Username: pull.Auth.Username, Password: "***"}
		message = pull
	}
	data, err := protojson.Marshal(message)
	if err != nil {
		return err.Error()
	}
	if len(data) > debugLimit {
		return string(data[:debugLimit]) + fmt.Sprintf("… (%d bytes)", len(data))
	}
	return string(data)
}
