package cli

import (
	"errors"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
)

// ExitOf is the end of a program whose process ended so; nil for code 0.
func ExitOf(exit *api.Exit) error {
	if exit == nil || exit.Code == 0 {
		return nil
	}
	return ExitError{Code: int(exit.Code)}
}

// StartError gives an error of a start the exit code that docker gives it.
func StartError(err error) error {
	var exit ExitError
	var coded CodedError
	if err == nil || errors.As(err, &exit) || errors.As(err, &coded) {
		return err
	}
	return CodedError{Err: err, Code: startCode(err)}
}

func startCode(err error) int {
	switch text := err.Error(); {
	case strings.Contains(text, "exec \"") && errdefs.IsNotFound(err):
		return CodeNotFound
	case strings.Contains(text, "exec \"") && (errdefs.IsInvalidArgument(err) || errdefs.IsPermissionDenied(err)):
		return CodeNotExecutable
	default:
		return CodeDaemon
	}
}
