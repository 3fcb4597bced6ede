package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/osthread"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

// pods is a network that remembers who is in it. Its namespaces are real, and nothing is in them.
type pods struct {
	mu       sync.Mutex
	attached map[string]network.Attachment
	made     map[string]bool  // networks of users, by id
	restored []string         // what Restore and Collect were called with
	fail     map[string]error // by method
	hang     map[string]chan struct{}
	cidrs    []netip.Prefix
}

// enter hangs or fails where it is to.
func (n *pods) enter(ctx context.Context, method string) error {
	n.mu.Lock()
	hang, err := n.hang[method], n.fail[method]
	n.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return err
}

func (n *pods) setFail(method string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail[method] = err
}

func (n *pods) NewNamespace(ctx context.Context, path string) error {
	if err := n.enter(ctx, "NewNamespace"); err != nil {
		return err
	}
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o711), os.WriteFile(path, nil, 0o600))
	osthread.Run(func() bool {
		if err == nil {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		return false
	})
	return err
}

func (n *pods) AdoptNamespace(ctx context.Context, path string) error {
	if !pin.Pinned(filepath.Dir(path), filepath.Base(path)) {
		return fmt.Errorf("%s is no namespace: %w", path, errdefs.ErrNotFound)
	}
	return n.enter(ctx, "AdoptNamespace")
}

func (n *pods) RemoveNamespace(ctx context.Context, path string) error {
	if err := errors.Join(n.enter(ctx, "RemoveNamespace"), mount.Unmount(path)); err != nil {
		return err
	}
	if err := os.Remove(path); !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (n *pods) Attach(ctx context.Context, r network.Request) (network.Attachment, error) {
	if err := n.enter(ctx, "Attach"); err != nil {
		return network.Attachment{}, err
	}
	if r.NetNS == "" {
		return network.Attachment{}, fmt.Errorf("pod %s has no network namespace: %w", r.ID, errdefs.ErrInvalidArgument)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := network.Attachment{ID: r.ID, Provider: network.ProviderBuiltin, Ports: r.Ports, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(len(n.attached) + 2)})}}
	n.attached[r.ID] = a
	return a, nil
}

func (n *pods) Detach(ctx context.Context, r network.Request, a *network.Attachment) error {
	if err := n.enter(ctx, "Detach"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	of := ""
	if a != nil {
		of = a.Network
	}
	delete(n.attached, inNetwork(r.ID, of))
	return nil
}

func (n *pods) Restore(ctx context.Context, _ []network.Record, all []network.Attachment) error {
	ids := make([]string, len(all))
	n.mu.Lock()
	for i, a := range all {
		ids[i] = a.ID
		n.attached[inNetwork(a.ID, a.Network)] = a // it outlives the daemon, but this network does not
	}
	n.mu.Unlock()
	n.note("restore", ids)
	return n.enter(ctx, "Restore")
}

func (n *pods) Collect(ctx context.Context, live []string) error {
	n.note("collect", live)
	return n.enter(ctx, "Collect")
}

func (n *pods) note(method string, ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids = slices.Sorted(slices.Values(ids))
	n.restored = append(n.restored, strings.Join(append([]string{method}, ids...), " "))
}

func (n *pods) Status(context.Context) network.Status { return network.Status{Ready: true} }

func (n *pods) SetPodCIDR(_ context.Context, cidrs []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cidrs = cidrs
	return n.fail["SetPodCIDR"]
}

func (n *pods) Stats(ctx context.Context, path string) ([]network.InterfaceStats, error) {
	if err := n.enter(ctx, "Stats"); err != nil {
		return nil, err
	}
	if !pin.Pinned(filepath.Dir(path), filepath.Base(path)) {
		return nil, fmt.Errorf("%s: %w", path, errdefs.ErrNotFound)
	}
	return []network.InterfaceStats{{Name: "lo", RxBytes: 1}, {Name: network.DefaultInterface, RxBytes: 7, TxPackets: 3}}, nil
}

// inside are the pods that are attached.
func (n *pods) inside() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.attached))
}

func newNetwork() *pods {
	return &pods{attached: map[string]network.Attachment{}, made: map[string]bool{}, fail: map[string]error{}, hang: map[string]chan struct{}{}}
}
