package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/rtnl"
	"golang.org/x/sys/unix"
)

// A link of a pod that has ended goes with the pod's namespace, which its owner removes next: the kernel then takes away
// both, with those of other pods that ended meanwhile, in the background. Deleting the link by hand before would make the
// pod's end wait some 20 ms for the kernel's grace periods, and those of all others with it. So a detached link is only
// watched; one that is still there after a while, because something keeps the namespace, is deleted. Its addresses are
// not given to anyone before it is gone. What a killed daemon has not watched to the end, Restore sweeps away.
const (
	reapAfter = 2 * time.Second
	reapEvery = 250 * time.Millisecond
)

// reapLater watches the links of an attachment that has been forgotten otherwise.
func (n *Network) reapLater(a network.Attachment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range a.Links {
		if _, ok := n.reaping[l.HostInterface]; !ok {
			n.reaping[l.HostInterface] = reaped{link: l, since: time.Now()}
		}
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// reaped is a detached link that is watched.
type reaped struct {
	link  network.Link
	since time.Time
}

// reap runs until the network is closed.
func (n *Network) reap(ctx context.Context) {
	defer close(n.reaperDone)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for n.reapOnce(ctx, time.Now()) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(reapEvery):
			}
		}
	}
}

// reapOnce looks at every watched link; true when some are left.
func (n *Network) reapOnce(ctx context.Context, now time.Time) bool {
	n.mu.Lock()
	var all []reaped
	for _, r := range n.reaping {
		all = append(all, r)
	}
	n.mu.Unlock()
	left := false
	for _, r := range all {
		_, err := n.conn.Index(r.link.HostInterface)
		switch {
		case errors.Is(err, unix.ENODEV) && r.link.Bandwidth.Egress == 0:
			n.release(r.link)
		case errors.Is(err, unix.ENODEV), err == nil && now.Sub(r.since) >= reapAfter:
			if err := n.removeLink(r.link); err != nil {
				n.config.Log.WarnContext(ctx, "a detached link cannot be deleted; it is tried again", "link", r.link.HostInterface, "error", err)
				left = true
				continue
			}
			n.release(r.link)
		default:
			left = true
		}
	}
	return left
}

// reapNow deletes all watched links; false when there were none.
func (n *Network) reapNow(ctx context.Context) bool {
	n.mu.Lock()
	some := len(n.reaping) > 0
	n.mu.Unlock()
	if some {
		n.reapOnce(ctx, time.Now().Add(reapAfter))
	}
	return some
}

// release gives the addresses of a link that is gone back.
func (n *Network) release(l network.Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.reaping, l.HostInterface)
	delete(n.prepared, l.HostInterface)
	for _, s := range n.everything() {
		s.Release(l.HostInterface)
	}
}

// removeLink deletes a link now.
func (n *Network) removeLink(l network.Link) error {
	remove := []string{l.HostInterface}
	if l.Bandwidth.Egress > 0 {
		remove = append(remove, n.names.ifbOf(l.HostInterface))
	}
	for _, name := range remove {
		if err := n.conn.Do(rtnl.DeleteLink(name)); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	return nil
}
