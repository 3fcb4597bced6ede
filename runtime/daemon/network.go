package daemon

import (
	"context"

	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/bridge"
	"github.com/minirt/mini/runtime/network/netns"
)

type podNetwork struct{ *bridge.Network }

func (podNetwork) NewNamespace(_ context.Context, path string) error { return netns.Make(path) }
func (podNetwork) AdoptNamespace(_ context.Context, path string) error {
	return netns.Adopt(path, path)
}
func (podNetwork) RemoveNamespace(_ context.Context, path string) error { return netns.Delete(path) }
func (podNetwork) Stats(context.Context, string) ([]network.InterfaceStats, error) {
	return nil, nil
}
func (p podNetwork) Collect(ctx context.Context, _ []network.Attachment) error {
	return p.Network.Collect(ctx)
}
