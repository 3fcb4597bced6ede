package grpcx

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// classes is the whole mapping. Where several classes have one code, the first is what the code means on the way back.
var classes = [...]struct {
	class error
	code  codes.Code
}{
	{errdefs.ErrInvalidArgument, codes.InvalidArgument},
	{errdefs.ErrNotFound, codes.NotFound},
	{errdefs.ErrAlreadyExists, codes.AlreadyExists},
	{errdefs.ErrPermissionDenied, codes.PermissionDenied},
	{errdefs.ErrResourceExhausted, codes.ResourceExhausted},
	{errdefs.ErrFailedPrecondition, codes.FailedPrecondition},
	{errdefs.ErrNotModified, codes.FailedPrecondition},
	{errdefs.ErrAborted, codes.Aborted},
	{errdefs.ErrConflict, codes.Aborted},
	{errdefs.ErrOutOfRange, codes.OutOfRange},
	{errdefs.ErrNotImplemented, codes.Unimplemented},
	{errdefs.ErrUnavailable, codes.Unavailable},
	{errdefs.ErrDataLoss, codes.DataLoss},
	{errdefs.ErrUnauthenticated, codes.Unauthenticated},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
	{errdefs.ErrInternal, codes.Internal},
	{errdefs.ErrUnknown, codes.Unknown},
}

// Status returns the gRPC status of an error: the code of its class, INTERNAL when it has none, and its message without
// the name of the class, which the code already tells. A status stays what it is.
func Status(err error) *status.Status {
	if err == nil {
		return nil
	}
	if s, is := status.FromError(err); is {
		return s
	}
	class := errdefs.Resolve(err)
	for _, c := range classes {
		if c.class == class && class != errdefs.ErrUnknown {
			return status.New(c.code, trimClass(err.Error(), class))
		}
	}
	return status.New(codes.Internal, err.Error())
}

// trimClass cuts ": not found" off "container x: not in namespace y: not found".
func trimClass(message string, class error) string {
	if short := strings.TrimSuffix(message, ": "+class.Error()); short != "" {
		return short
	}
	return message
}

// Message is an error as a person wants to read it: each line without the name of its class at the end. What came over
// the wire has lost that already; what stands at its end is the kernel's word, as "permission denied", and stays.
func Message(err error) string {
	var b strings.Builder
	come := remotes(err)
	for line := range strings.Lines(err.Error()) {
		text := strings.TrimSuffix(line, "\n")
		short := text
		if !slices.ContainsFunc(come, func(last string) bool { return strings.HasSuffix(text, last) }) {
			for _, c := range classes {
				short = trimClass(short, c.class)
			}
		}
		b.WriteString(short + line[len(text):])
	}
	return b.String()
}

// remotes are the last lines of the errors within err that came over the wire.
func remotes(err error) []string {
	if r, is := err.(*remote); is {
		return []string{r.message[strings.LastIndex(r.message, "\n")+1:]}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return remotes(inner)
		}
	case interface{ Unwrap() []error }:
		var all []string
		for _, inner := range e.Unwrap() {
			all = append(all, remotes(inner)...)
		}
		return all
	}
	return nil
}

// remote is an error that came over the wire: its message is a person's, its class is found by errors.Is.
type remote struct {
	message string
	class   error
	status  *status.Status
}

func (e *remote) Error() string              { return e.message }
func (e *remote) Unwrap() error              { return e.class }
func (e *remote) GRPCStatus() *status.Status { return e.status }

// Error turns what a gRPC client got back into an error of an errdefs class, with the message as the server wrote it.
// The end of a stream (io.EOF) and errors that are no status stay what they are.
func Error(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if r := (*remote)(nil); errors.As(err, &r) {
		return err
	}
	s, is := status.FromError(err)
	if !is {
		return err
	}
	class := error(errdefs.ErrUnknown)
	for _, c := range classes {
		if c.code == s.Code() {
			class = c.class
			break
		}
	}
	message := s.Message()
	if message == "" {
		message = class.Error()
	}
	return &remote{message: message, class: class, status: s}
}
