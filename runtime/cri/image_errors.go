package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/trust"
)

// imageError gives an error of an image the form by which a kubelet knows its reason: the code UNKNOWN, which it strips,
// and a message that begins with the reason (k8s.io/cri-api, pkg/errors; kubelet, evalCRIPullErr). Other errors are left, and
// all of who has no time left: no registry is to blame for that.
func imageError(ctx context.Context, err error) error {
	var asked *registry.Error
	var reason error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.Error(status.FromContextError(ctx.Err()).Code(), grpcx.Message(err))
	case errors.Is(err, trust.ErrSignature):
		reason = crierrors.ErrSignatureValidationFailed
	case errors.As(err, &asked) && errdefs.IsUnavailable(err):
		reason = crierrors.ErrRegistryUnavailable
	default:
		return err
	}
	return status.Error(codes.Unknown, reason.Error()+": "+grpcx.Message(err))
}
