// Package bridge is the built-in network, for pods on hosts without a CNI configuration and for containers: a bridge for
// pods and one for each network of users, a veth pair for each attachment, addresses, routes, published ports and limits of
// bandwidth, over netlink and without executing anything. What is in use is known from the attachments alone: those given
// to Restore and those made since; which networks there are, from the records given to RestoreNetworks and MakeNetwork.
//
// Most of a pod's attachment does not depend on the pod, so it can be made before: Prepare puts an interface with an
// address into a namespace, Claim makes it a pod's. A prepared namespace is only held by a descriptor; when the daemon is
// killed, the kernel takes the namespace away and the interface with it.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/dns"
	"github.com/minirt/mini/runtime/network/ipam"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/ports"
	"github.com/minirt/mini/runtime/network/relay"
	"github.com/minirt/mini/runtime/network/rtnl"
	"github.com/minirt/mini/runtime/network/rules"
	"golang.org/x/sys/unix"
)

// Config says how the network is.
type Config struct {
	Name    string         // the daemon's; bridge, table and links are named after it
	Subnets []netip.Prefix // at most one of each family; empty: 10.88.0.0/16, or another one when that is used, and a ULA one
	MTU     int            // 0: that of the uplink
	// File keeps what SetPodCIDR said, which is not said again when the daemon starts again; empty: it is forgotten then.
	File string
	// Outside publishes ports where this network's host is not the machine; nil: it is.
	Outside Outside
	Log     *slog.Logger
}

// Outside has ports open on the machine around the namespace that the daemon is in; *outside.Kit does.
type Outside interface {
	Publish(ctx context.Context, all []network.Port) error
}

// Network is a network.Provider and a network.Preparer.
type Network struct {
	config Config
	names  names
	conn   *rtnl.Conn
	table  *rules.Table

	told []netip.Prefix // by SetPodCIDR, now or before a restart; held by host

	host    sync.Mutex // held while the bridge or the table is made or changed
	checked time.Time  // when the table was last looked after

	directory dns.Directory // of the containers in users' networks
	relays    relay.Relays

	mu         sync.Mutex
	inside     map[string]*dns.Server // in the namespaces of containers, by their ids
	pods       segment
	segments   map[string]*segment // users' networks, by id
	ports      ports.Table
	attached   map[string]network.Attachment // by keyOf
	prepared   map[string]network.Attachment // by the host's end
	reaping    map[string]reaped             // by the host's end
	generation uint64
	restored   bool
	trouble    error // of the last attempt to make the bridge

	wake       chan struct{} // there is something to reap
	stop       context.CancelFunc
	reaperDone chan struct{}
}

// New makes the provider. Nothing is made on the host before the first pod, or Restore.
func New(c Config) (*Network, error) {
	if c.Name == "" {
		return nil, fmt.Errorf("built-in network: the daemon has no name: %w", errdefs.ErrInvalidArgument)
	}
	n := &Network{config: c, names: namesOf(c.Name), segments: map[string]*segment{}, attached: map[string]network.Attachment{}, prepared: map[string]network.Attachment{},
		reaping: map[string]reaped{}, wake: make(chan struct{}, 1), reaperDone: make(chan struct{})}
	n.pods.link, n.relays.Log = n.names.bridge, c.Log
	if err := checkSubnets(c.Subnets); err != nil {
		return nil, fmt.Errorf("built-in network: %w", err)
	}
	var err error
	if n.told, err = readSubnets(c.File); err != nil {
		return nil, fmt.Errorf("built-in network: %w", err)
	}
	if n.conn, err = rtnl.Open(); err != nil {
		return nil, fmt.Errorf("built-in network: %w", err)
	}
	if n.table, err = rules.Open(n.names.table); err != nil {
		return nil, errors.Join(fmt.Errorf("built-in network: %w", err), n.conn.Close())
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	go n.reap(ctx)
	return n, nil
}

// Close leaves the network of the pods as it is. Users' networks are without DNS until the next daemon.
func (n *Network) Close() error {
	n.stop()
	<-n.reaperDone
	n.relays.CloseAll()
	n.host.Lock()
	defer n.host.Unlock()
	var errs []error
	for _, s := range n.users() {
		errs = append(errs, s.closeServer())
	}
	n.mu.Lock()
	inside := n.inside
	n.inside = nil
	n.mu.Unlock()
	for _, server := range inside {
		errs = append(errs, server.Close())
	}
	return errors.Join(append(errs, n.table.Close(), n.conn.Close())...)
}

func checkSubnets(all []netip.Prefix) error {
	for i, p := range all {
		if _, err := ipam.NewSubnet(p); err != nil {
			return err
		}
		for _, other := range all[:i] {
			if other.Addr().Is4() == p.Addr().Is4() {
				return fmt.Errorf("subnets %s and %s: at most one of IPv4 and one of IPv6: %w", other, p, errdefs.ErrInvalidArgument)
			}
		}
	}
	return nil
}

// Attach gives the pod an interface, addresses, routes and its published ports.
func (n *Network) Attach(ctx context.Context, r network.Request) (a network.Attachment, err error) {
	published, err := ports.Normalize(r.Ports)
	if err != nil {
		return network.Attachment{}, fmt.Errorf("built-in network: pod %s: %w", r.ID, err)
	}
	ns, err := netns.Open(r.NetNS)
	if err != nil {
		return network.Attachment{}, fmt.Errorf("built-in network: pod %s: %w", r.ID, err)
	}
	defer ns.Close()
	if err := n.ensure(ctx); err != nil {
		return network.Attachment{}, err
	}
	return n.attach(ctx, &n.pods, ns, r, published)
}

// attach joins a segment that is made.
func (n *Network) attach(ctx context.Context, s *segment, ns *os.File, r network.Request, published []network.Port) (network.Attachment, error) {
	a, err := n.join(s, ns, r)
	// One that has just ended may still hold the last address, or the one that is wanted, or have its interface in this
	// namespace.
	if (errdefs.IsResourceExhausted(err) || errdefs.IsAlreadyExists(err) || errors.Is(err, unix.EEXIST)) && n.reapNow(ctx) {
		a, err = n.join(s, ns, r)
	}
	if err == nil {
		a, err = n.claim(ctx, r, a, published)
	}
	if err == nil && s.onParent() {
		err = n.openInside(ctx, a)
	}
	if err != nil {
		if len(a.Links) > 0 {
			err = errors.Join(err, n.unhang(r.NetNS, a))
		}
		return network.Attachment{}, errors.Join(fmt.Errorf("built-in network: pod %s: %w", r.ID, err), n.undo(ctx, a))
	}
	return a, nil
}

// join reserves and connects; what it returns with an error is nothing.
func (n *Network) join(s *segment, ns *os.File, r network.Request) (network.Attachment, error) {
	a, err := n.reserve(s, r)
	if err != nil {
		return network.Attachment{}, err
	}
	if err := n.connect(s, ns, a.Links[0]); err != nil {
		err = errors.Join(err, n.removeLink(a.Links[0]))
		n.release(a.Links[0])
		return network.Attachment{}, err
	}
	return a, nil
}

// Claim makes a prepared attachment that of a pod. When it fails, nothing is left of it.
func (n *Network) Claim(ctx context.Context, r network.Request, prepared network.Attachment) (network.Attachment, error) {
	published, err := ports.Normalize(r.Ports)
	a := prepared
	if err == nil {
		a, err = n.claim(ctx, r, prepared, published)
	}
	if err != nil {
		return network.Attachment{}, errors.Join(fmt.Errorf("built-in network: pod %s: %w", r.ID, err), n.undo(ctx, a))
	}
	return a, nil
}

// Detach takes the attachment away; the interface in the namespace goes with that, or a little later. Without a record and
// without memory, the interface in the namespace is removed, and with it the host's end.
func (n *Network) Detach(ctx context.Context, r network.Request, a *network.Attachment) error {
	known := n.of(r.ID)
	if a != nil {
		known = []network.Attachment{*a}
	}
	var errs []error
	for _, k := range known {
		errs = append(errs, n.unhang(r.NetNS, k), n.takeAway(ctx, k, false))
	}
	if len(known) == 0 && r.NetNS != "" {
		errs = append(errs, removeInside(r.NetNS, network.DefaultInterface))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("built-in network: pod %s: %w", r.ID, err)
	}
	return nil
}

// of are the attachments of a pod or container.
func (n *Network) of(id string) []network.Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []network.Attachment
	for _, a := range n.attached {
		if a.ID == id {
			all = append(all, a)
		}
	}
	return all
}

// undo takes away what an Attach has made before it failed.
func (n *Network) undo(ctx context.Context, a network.Attachment) error {
	if len(a.Links) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return n.takeAway(ctx, a, true)
}

// Status says whether pods can be attached, and looks after the rules on the way.
func (n *Network) Status(ctx context.Context) network.Status {
	n.mu.Lock()
	restored, made := n.restored, n.pods.index != 0
	n.mu.Unlock()
	if !restored {
		return network.Status{Reason: "NetworkPluginNotReady", Message: "built-in network: the daemon is starting"}
	}
	if made {
		n.lookAfter(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.trouble != nil {
		return network.Status{Reason: "NetworkPluginNotReady", Message: n.trouble.Error()}
	}
	return network.Status{Ready: true}
}

// Info is the network for people.
type Info struct {
	Bridge   string         `json:"bridge"`
	Made     bool           `json:"made"`
	MTU      int            `json:"mtu,omitempty"`
	Table    string         `json:"table"`
	Subnets  []netip.Prefix `json:"subnets,omitempty"`
	Retired  []netip.Prefix `json:"retired_subnets,omitempty"` // of pods from before the subnets changed
	Pods     int            `json:"pods"`
	Prepared int            `json:"prepared"`
	Networks int            `json:"networks"` // of users
}

// Config describes the network as it is.
func (n *Network) Config(context.Context) any {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := Info{Bridge: n.pods.link, Made: n.pods.index != 0, MTU: n.pods.mtu, Table: n.names.table, Pods: len(n.attached), Prepared: len(n.prepared), Networks: len(n.segments)}
	for _, s := range n.pods.subnets {
		info.Subnets = append(info.Subnets, s.Prefix())
	}
	for _, s := range n.pods.old {
		info.Retired = append(info.Retired, s.Prefix())
	}
	return info
}

// Generation changes with the subnets.
func (n *Network) Generation() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.generation
}
