package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/minirt/mini/runtime/network"
)

type noCNI struct{}

func (noCNI) Attach(ctx context.Context, r network.Request) (network.Attachment, error) {
	return network.Attachment{}, fmt.Errorf("none")
}
func (noCNI) Detach(ctx context.Context, r network.Request, a *network.Attachment) error { return nil }
func (noCNI) Check(ctx context.Context, r network.Request, a network.Attachment) error   { return nil }
func (noCNI) Restore(ctx context.Context, all []network.Attachment) error                { return nil }
func (noCNI) Collect(ctx context.Context) error                                          { return nil }
func (noCNI) Status(ctx context.Context) network.Status                                  { return network.Status{} }
func (noCNI) SetPodCIDR(ctx context.Context, cidrs []netip.Prefix) error                 { return nil }
func (noCNI) Config(ctx context.Context) any                                             { return nil }
func (noCNI) Destroy(ctx context.Context) error                                          { return nil }
func (noCNI) Configured(ctx context.Context) bool                                        { return false }
