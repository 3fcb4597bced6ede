package engine

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/minirt/mini/runtime/network"
)

// pods is a network that remembers who is in it. Its namespaces are plain files.
type pods struct {
	mu       sync.Mutex
	attached map[string]network.Attachment
	restored int
	fail     map[string]error // by method
}

func (n *pods) failing(method string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fail[method]
}

func (n *pods) NewNamespace(_ context.Context, path string) error {
	if err := n.failing("NewNamespace"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

func (n *pods) AdoptNamespace(context.Context, string) error { return n.failing("AdoptNamespace") }

func (n *pods) RemoveNamespace(_ context.Context, path string) error {
	if err := os.Remove(path); !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (n *pods) Attach(_ context.Context, r network.Request) (network.Attachment, error) {
	if err := n.failing("Attach"); err != nil {
		return network.Attachment{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.attached == nil {
		n.attached = map[string]network.Attachment{}
	}
	a := network.Attachment{ID: r.ID, Provider: network.ProviderBuiltin, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(len(n.attached) + 2)})}}
	n.attached[r.ID] = a
	return a, nil
}

func (n *pods) Detach(_ context.Context, r network.Request, _ *network.Attachment) error {
	if err := n.failing("Detach"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, r.ID)
	return nil
}

func (n *pods) Restore(_ context.Context, all []network.Attachment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.restored = len(all)
	return nil
}

func (n *pods) Collect(context.Context, []network.Attachment) error { return n.failing("Collect") }

func (n *pods) Status(context.Context) network.Status { return network.Status{Ready: true} }

func (n *pods) SetPodCIDR(context.Context, []netip.Prefix) error { return n.failing("SetPodCIDR") }

func (n *pods) Stats(context.Context, string) ([]network.InterfaceStats, error) {
	return []network.InterfaceStats{{Name: network.DefaultInterface, RxBytes: 7}}, nil
}

func (n *pods) inside() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint(len(n.attached))
}
