package bridge

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
)

func (n *Network) RestoreNetworks(context.Context, []network.Record) error { return nil }
func (n *Network) PlanNetwork(_ context.Context, wanted network.Record, _ []network.Record) (network.Record, error) {
	return wanted, fmt.Errorf("plan: %w", errdefs.ErrNotImplemented)
}
func (n *Network) MakeNetwork(context.Context, network.Record) error {
	return errdefs.ErrNotImplemented
}
func (n *Network) RemoveNetwork(context.Context, network.Record) error {
	return errdefs.ErrNotImplemented
}
func (n *Network) DefaultNetwork(context.Context) (network.Record, error) {
	return network.Record{}, errdefs.ErrNotImplemented
}
func (n *Network) AttachTo(context.Context, network.Record, network.Request) (network.Attachment, error) {
	return network.Attachment{}, errdefs.ErrNotImplemented
}
func (n *Network) DetachFrom(context.Context, network.Request, network.Attachment) error {
	return errdefs.ErrNotImplemented
}
func (n *Network) SetNames(context.Context, network.Attachment) error { return nil }
func (n *Network) InUse() bool                                        { return true }
