package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/network/netns"
)

// ProviderAuto chooses at each Attach: CNI when it is configured, otherwise the built-in network.
const ProviderAuto = "auto"

// DefaultSpares is how many namespaces are kept ready.
const DefaultSpares = 8

// Options say how the providers are used.
type Options struct {
	Provider string // auto, cni or builtin; empty is auto
	Spares   int    // namespaces made ahead; 0: none
	Log      *slog.Logger
}

// Configurable is a provider that may have nothing to do.
type Configurable interface {
	Provider
	// Configured says whether the provider is to be used; a configuration that is broken, or that is waited for, counts.
	Configured(ctx context.Context) bool
}

// Networks is what the engine uses.
type Networks struct {
	options Options
	cni     Configurable
	builtin Provider
	spares  *spares

	mu       sync.Mutex
	prepared map[string]Attachment // by the path of the namespace that has it
	restored []Attachment          // until Collect
	own      map[string]Configurable
}

// New makes the object; Restore comes next. The providers are not closed by it.
func New(o Options, cni Configurable, builtin Provider) (*Networks, error) {
	switch o.Provider {
	case "":
		o.Provider = ProviderAuto
	case ProviderAuto, ProviderCNI, ProviderBuiltin:
	default:
		return nil, fmt.Errorf("network provider %q: want auto, cni or builtin: %w", o.Provider, errdefs.ErrInvalidArgument)
	}
	n := &Networks{options: o, cni: cni, builtin: builtin, prepared: map[string]Attachment{}}
	n.spares = newSpares(o.Spares, n.makeSpare, n.discardSpare, o.Log)
	return n, nil
}

// SetOwn gives the pods of runtimes, by their names, providers of CNI of their own. Those that others have made go on to be
// detached by what their attachments say.
func (n *Networks) SetOwn(own map[string]Configurable) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own = own
}

// ownOf is the provider that the pods of a runtime have to themselves.
func (n *Networks) ownOf(runtime string) (Configurable, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.own[runtime]
	return p, ok
}

func (n *Networks) owns() []Configurable {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.own))
}

func (n *Networks) active(ctx context.Context) Provider {
	if n.options.Provider == ProviderCNI || n.options.Provider == ProviderAuto && n.cni.Configured(ctx) {
		return n.cni
	}
	return n.builtin
}

func (n *Networks) named(provider string) (Provider, error) {
	switch provider {
	case ProviderCNI:
		return n.cni, nil
	case ProviderBuiltin:
		return n.builtin, nil
	}
	return nil, fmt.Errorf("attachment of the network provider %q, which this daemon does not have: %w", provider, errdefs.ErrInvalidArgument)
}

// NewNamespace pins a new network namespace, with the loopback interface up, at the path.
func (n *Networks) NewNamespace(ctx context.Context, path string) error {
	s, err := n.takeSpare(ctx)
	if err != nil {
		return err
	}
	defer s.ns.Close()
	if err := netns.Pin(s.ns, path); err != nil {
		return errors.Join(err, n.discardPrepared(ctx, s.prepared, false))
	}
	if s.prepared != nil {
		n.mu.Lock()
		n.prepared[path] = *s.prepared
		n.mu.Unlock()
	}
	return nil
}

// NewBareNamespace is NewNamespace for what joins users' networks: an interface made ahead for the default one would have
// to be taken away first, and the kernel takes its time for that.
func (n *Networks) NewBareNamespace(_ context.Context, path string) error { return netns.Make(path) }

// AdoptNamespace makes a namespace ready that the caller has pinned at the path. It is for pods with a user namespace of
// their own, which the network namespace must belong to: only a process in there can make it.
func (n *Networks) AdoptNamespace(_ context.Context, path string) error { return netns.Adopt(path) }

// RemoveNamespace ends the pinning. It may be repeated.
func (n *Networks) RemoveNamespace(ctx context.Context, path string) error {
	return errors.Join(netns.Delete(path), n.discardPrepared(ctx, n.takePrepared(path), false))
}

func (n *Networks) takePrepared(path string) *Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.prepared[path]
	if !ok {
		return nil
	}
	delete(n.prepared, path)
	return &a
}

func (n *Networks) discardPrepared(ctx context.Context, a *Attachment, now bool) error {
	if a == nil {
		return nil
	}
	return n.builtin.(Preparer).Discard(context.WithoutCancel(ctx), *a, now)
}

// Attach joins the pod to its network. When it fails, nothing is left.
func (n *Networks) Attach(ctx context.Context, r Request) (Attachment, error) {
	provider := n.active(ctx)
	if own, ok := n.ownOf(r.Runtime); ok {
		provider = own
	}
	prepared := n.takePrepared(r.NetNS)
	if prepared != nil && provider == n.builtin {
		return n.builtin.(Preparer).Claim(ctx, r, *prepared)
	}
	if err := n.discardPrepared(ctx, prepared, true); err != nil {
		return Attachment{}, err
	}
	return provider.Attach(ctx, r)
}

// Detach takes away what Attach has made. Without an attachment, because the daemon was killed before the record had it,
// everything is taken away that the pod can have. It may be repeated.
func (n *Networks) Detach(ctx context.Context, r Request, a *Attachment) error {
	if a != nil {
		provider, err := n.named(a.Provider)
		if err != nil {
			return err
		}
		if own, ok := n.ownOf(r.Runtime); ok && a.Provider == ProviderCNI {
			provider = own
		}
		return provider.Detach(ctx, r, a)
	}
	if own, ok := n.ownOf(r.Runtime); ok {
		if err := own.Detach(ctx, r, nil); err != nil {
			return err
		}
	}
	return errors.Join(n.cni.Detach(ctx, r, nil), n.builtin.Detach(ctx, r, nil),
		n.discardPrepared(ctx, n.takePrepared(r.NetNS), false))
}

// Check says whether an attachment is as it was made.
func (n *Networks) Check(ctx context.Context, r Request, a Attachment) error {
	provider, err := n.named(a.Provider)
	if err != nil {
		return err
	}
	return provider.Check(ctx, r, a)
}

// Restore makes the host as the attachments of all records need it: addresses and ports in use, the bridge, the rules. It
// is called once, before anything else; what it cannot restore it tells, and the rest works. The records are those of the
// networks that users have made.
func (n *Networks) Restore(ctx context.Context, records []Record, all []Attachment) error {
	n.mu.Lock()
	n.restored = all
	n.mu.Unlock()
	err := errors.Join(n.segments().RestoreNetworks(ctx, records), n.cni.Restore(ctx, all), n.builtin.Restore(ctx, all))
	for _, own := range n.owns() {
		err = errors.Join(err, own.Restore(ctx, all))
	}
	n.spares.start()
	return err
}

// Collect takes away what belongs to no pod: attachments given to Restore whose pod's id is not among the live ones, and
// what the host has besides. It is called once, when the records are recovered; pods may be started meanwhile.
func (n *Networks) Collect(ctx context.Context, live []string) error {
	n.mu.Lock()
	restored := n.restored
	n.restored = nil
	n.mu.Unlock()
	lives := map[string]bool{}
	for _, id := range live {
		lives[id] = true
	}
	var errs []error
	for _, a := range restored {
		if !lives[a.ID] {
			errs = append(errs, n.Detach(ctx, Request{ID: a.ID}, &a))
		}
	}
	for _, own := range n.owns() {
		errs = append(errs, own.Collect(ctx))
	}
	return errors.Join(append(errs, n.cni.Collect(ctx), n.builtin.Collect(ctx))...)
}

// Status says whether pods can be attached now.
func (n *Networks) Status(ctx context.Context) Status { return n.active(ctx).Status(ctx) }

// SetPodCIDR says which subnets the pods of this node get their addresses from, one of each family.
func (n *Networks) SetPodCIDR(ctx context.Context, cidrs []netip.Prefix) error {
	if len(cidrs) == 0 {
		return nil
	}
	return errors.Join(n.cni.SetPodCIDR(ctx, cidrs), n.builtin.SetPodCIDR(ctx, cidrs))
}

// Stats reads the counters of the interfaces of a namespace, the loopback interface left out.
func (n *Networks) Stats(_ context.Context, path string) ([]InterfaceStats, error) {
	var text []byte
	err := netns.DoAt(path, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network namespace %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return parseStats(string(text))
}

// Info is the networks for people.
type Info struct {
	Provider string `json:"provider"` // in use
	Chosen   string `json:"chosen"`   // auto, cni, builtin
	Spares   int    `json:"spares"`   // ready
	CNI      any    `json:"cni"`
	Builtin  any    `json:"builtin"`
}

// Config describes the networks as they are; it encodes as JSON.
func (n *Networks) Config(ctx context.Context) any {
	info := Info{Provider: ProviderBuiltin, Chosen: n.options.Provider, Spares: n.spares.count(), CNI: n.cni.Config(ctx), Builtin: n.builtin.Config(ctx)}
	if n.active(ctx) == Provider(n.cni) {
		info.Provider = ProviderCNI
	}
	return info
}

// Destroy takes away everything on the host, for good. No pod should be left.
func (n *Networks) Destroy(ctx context.Context) error {
	n.spares.close()
	return errors.Join(n.cni.Destroy(ctx), n.builtin.Destroy(ctx))
}

// Close ends the spare namespaces. The pods keep their network.
func (n *Networks) Close() error {
	n.spares.close()
	return nil
}
