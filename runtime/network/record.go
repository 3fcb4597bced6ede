package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"
)

// The drivers of networks that users make.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
)

// The networks that are always there. Default is the built-in network, which pods without CNI have too; the others stand
// for no network of the container's own.
const (
	Default = "bridge"
	Host    = "host"
	None    = "none"
)

// Record is a network for containers: one that a user has made, or the default one. Its owner is the engine, which gives
// it to every call; nothing else remembers it.
type Record struct {
	ID        string            `json:"id"` // 64 hexadecimal characters
	Namespace string            `json:"namespace,omitempty"`
	Name      string            `json:"name"`
	Driver    string            `json:"driver"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // as given; see SettingsOf
	Subnets   []Subnet          `json:"subnets,omitempty"` // at most one of each family
	Internal  bool              `json:"internal,omitempty"`
	IPv6      bool              `json:"ipv6,omitempty"`
	NoIPv4    bool              `json:"no_ipv4,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	State     RecordState       `json:"state"`
	// ConfigOnly is a record that others are made like, and of which nothing is on the host; ConfigFrom names the one that
	// this network was made like.
	ConfigOnly bool   `json:"config_only,omitempty"`
	ConfigFrom string `json:"config_from,omitempty"`
	Attachable bool   `json:"attachable,omitempty"` // said by who made it; every network is
}

// RecordState is where a network is in its life.
type RecordState string

// The states of a network. One that is found creating or removing after a restart is removed.
const (
	NetworkCreating RecordState = "creating"
	NetworkReady    RecordState = "ready"
	NetworkRemoving RecordState = "removing"
)

// Subnet is the addresses of a network. In what is asked for, the gateway and the range may be missing.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`  // the host's; the first address when not given
	Range   netip.Prefix `json:"ip_range,omitzero"` // where addresses are chosen from; all when not given
	// Auxiliary are addresses that others have, by name; containers get none of them.
	Auxiliary map[string]netip.Addr `json:"auxiliary,omitempty"`
}

// PredefinedID is the id of one of the networks that are always there.
func PredefinedID(name string) string {
	sum := sha256.Sum256([]byte("predefined network " + name))
	return hex.EncodeToString(sum[:])
}

// OnParent says whether the containers of a network hang on a link of the host, in place of a bridge.
func (r Record) OnParent() bool { return r.Driver == DriverMacvlan || r.Driver == DriverIPvlan }

// IsDefault says whether a record is that of the default network.
func (r Record) IsDefault() bool { return r.ID == PredefinedID(Default) }

// Segments is a provider that has networks beside that of the pods.
type Segments interface {
	// RestoreNetworks comes before Restore: it says which networks there are.
	RestoreNetworks(ctx context.Context, all []Record) error
	PlanNetwork(ctx context.Context, wanted Record, others []Record) (Record, error)
	MakeNetwork(ctx context.Context, r Record) error
	RemoveNetwork(ctx context.Context, r Record) error
	DefaultNetwork(ctx context.Context) (Record, error)
	AttachTo(ctx context.Context, to Record, r Request) (Attachment, error)
	DetachFrom(ctx context.Context, r Request, a Attachment) (changed []Attachment, err error)
	SetNames(ctx context.Context, a Attachment) error
}

func (n *Networks) segments() Segments { return n.builtin.(Segments) }

// PlanNetwork decides what is not said of a network: subnets that nothing uses, gateways. others are the records of all
// networks. ErrInvalidArgument: it cannot be; ErrAlreadyExists: its subnet is another network's or a route's of the host.
func (n *Networks) PlanNetwork(ctx context.Context, wanted Record, others []Record) (Record, error) {
	return n.segments().PlanNetwork(ctx, wanted, others)
}

// MakeNetwork makes what a planned record announces: the bridge, its rules, its DNS server. It may be repeated.
func (n *Networks) MakeNetwork(ctx context.Context, r Record) error {
	return n.segments().MakeNetwork(ctx, r)
}

// RemoveNetwork takes all of a network away. It may be repeated. ErrFailedPrecondition: something is attached to it.
func (n *Networks) RemoveNetwork(ctx context.Context, r Record) error {
	return n.segments().RemoveNetwork(ctx, r)
}

// DefaultNetwork is the record of the default network as it is now.
func (n *Networks) DefaultNetwork(ctx context.Context) (Record, error) {
	return n.segments().DefaultNetwork(ctx)
}

// AttachTo joins a container to a network by an interface of its own. Of the request count, besides what pods give, the
// interface (eth0, eth1, …), the static addresses and the hardware address. Name, aliases and the short id are what the
// network's DNS server answers for; DNS.Servers are asked instead of the host's for other names of this container. The
// default routes of each family go by the first attachment of a container whose network is not internal. The caller keeps
// the attachment in the container's record; Detach with it is the reverse. When AttachTo fails, nothing is left.
func (n *Networks) AttachTo(ctx context.Context, to Record, r Request) (Attachment, error) {
	prepared := n.takePrepared(r.NetNS)
	if prepared != nil && to.IsDefault() && r.plain() {
		return n.builtin.(Preparer).Claim(ctx, r.in(to), *prepared)
	}
	if err := n.discardPrepared(ctx, prepared, true); err != nil {
		return Attachment{}, err
	}
	return n.segments().AttachTo(ctx, to, r.in(to))
}

// plain says whether an attachment that was prepared will do.
func (r Request) plain() bool {
	return (r.Interface == "" || r.Interface == DefaultInterface) && len(r.Addresses) == 0 && r.MAC == "" && len(r.LinkLocal) == 0
}

func (r Request) in(to Record) Request {
	r.network = to.ID
	return r
}

// Network is the id of the network that the request is for; empty: that of pods.
func (r Request) Network() string { return r.network }

// DetachFrom takes one attachment of a container that goes on: its interface is gone at once, and where the default
// routes went by it, they go by others, which are returned as they are now, for the container's record.
func (n *Networks) DetachFrom(ctx context.Context, r Request, a Attachment) (changed []Attachment, err error) {
	return n.segments().DetachFrom(ctx, r, a)
}

// SetNames makes the DNS server answer for the names of the attachment as it is given, as after a renaming.
func (n *Networks) SetNames(ctx context.Context, a Attachment) error {
	return n.segments().SetNames(ctx, a)
}
