package cri

import (
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
// and a message that begins with the reason (k8s.io/cri-api, pkg/errors; kubelet, evalCRIPullErr). Other errors are left.
func imageError(err error) error {
	var asked *registry.Error
	var reason error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrSignature):
		reason = crierrors.ErrSignatureValidationFailed
	case errors.As(err, &asked) && errdefs.IsUnavailable(err):
		reason = crierrors.ErrRegistryUnavailable
	default:
		return err
	}
	return status.Error(codes.Unknown, reason.Error()+": "+grpcx.Message(err))
}
