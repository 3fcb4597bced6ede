package link

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// classes are the errors that keep their class across the socket.
func classes() map[string]error {
	return map[string]error{
		"not found":           errdefs.ErrNotFound,
		"already exists":      errdefs.ErrAlreadyExists,
		"failed precondition": errdefs.ErrFailedPrecondition,
		"invalid argument":    errdefs.ErrInvalidArgument,
		"permission denied":   errdefs.ErrPermissionDenied,
		"unavailable":         errdefs.ErrUnavailable,
		"not implemented":     errdefs.ErrNotImplemented,
		"data loss":           errdefs.ErrDataLoss,
		"deadline exceeded":   context.DeadlineExceeded,
	}
}

const internal = "internal"

// Encode makes err fit for the socket; nil stays nil.
func Encode(err error) *wire.Error {
	if err == nil {
		return nil
	}
	e := &wire.Error{Class: internal, Message: err.Error()}
	for name, class := range classes() {
		if errors.Is(err, class) {
			e.Class = name
			break
		}
	}
	return e
}

// remote is an error of the other side: its message, with a class that errors.Is finds.
type remote struct {
	message string
	class   error
}

func (r remote) Error() string { return r.message }
func (r remote) Unwrap() error { return r.class }

// Decode is the inverse of Encode.
func Decode(e *wire.Error) error {
	if e == nil {
		return nil
	}
	class, ok := classes()[e.Class]
	if !ok {
		class = errdefs.ErrInternal
	}
	return remote{e.Message, class}
}
