package network

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
)

// DefaultInterface is the name of the interface in a pod.
const DefaultInterface = "eth0"

// Request is what a pod wants of the network.
type Request struct {
	ID           string // of the pod
	Name         string
	Namespace    string
	UID          string
	NetNS        string // path of the pinned network namespace; empty when it is gone (Detach only)
	Hostname     string
	Ports        []Port
	Bandwidth    Bandwidth
	DNS          DNS
	CgroupParent string
	Runtime      string // the handler that the pod is run by: it may have a network of its own
	Aliases      []string
	Interface    string       // in the container; empty is eth0. AttachTo only, like the next two
	Addresses    []netip.Addr // static ones, at most one of each family; the others are chosen
	MAC          string       // empty: made from the address
	LinkLocal    []netip.Addr // more addresses of the interface, which nobody is asked about; AttachTo only
	IPRanges     [][]IPRange  // for CNI plugins with the capability ipRanges
	Annotations  map[string]string
	Labels       map[string]string

	network string // see AttachTo
}

// Port publishes a port of the pod on the host. Ports with HostPort 0 are not published.
type Port struct {
	Protocol      string     `json:"protocol"`         // tcp, udp or sctp; empty is tcp
	HostIP        netip.Addr `json:"host_ip,omitzero"` // not valid: every address; 0.0.0.0 or ::: every one of its family
	HostPort      uint16     `json:"host_port"`        // 0: not published
	ContainerPort uint16     `json:"container_port"`   // never 0
}

// Bandwidth limits the traffic of a pod, in bits per second; 0 is no limit.
type Bandwidth struct {
	Ingress uint64 `json:"ingress,omitempty"` // to the pod
	Egress  uint64 `json:"egress,omitempty"`  // from the pod
}

// DNS is what a pod's resolv.conf says; CNI plugins with the capability dns are told.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// IPRange is one range that a CNI plugin may take an address from.
type IPRange struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart,omitzero"`
	RangeEnd   netip.Addr   `json:"rangeEnd,omitzero"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
}

// The providers of attachments.
const (
	ProviderCNI     = "cni"
	ProviderBuiltin = "builtin"
)

// Attachment is the result of joining a network. It is kept in the pod's record, and nowhere else: after a restart the
// addresses and ports in use are read from the attachments given to Restore.
type Attachment struct {
	ID       string       `json:"id"`            // of the pod
	Pod      string       `json:"pod,omitempty"` // namespace/name, for people
	Provider string       `json:"provider"`
	Network  string       `json:"network,omitempty"` // id of its record; empty: that of pods
	Names    []string     `json:"names,omitempty"`   // that its DNS server answers for: the container's, its aliases, its short id
	IPs      []netip.Addr `json:"ips,omitempty"`     // of the pod, the preferred one first
	Links    []Link       `json:"links,omitempty"`
	Ports    []Port       `json:"ports,omitempty"`
	DNS      DNS          `json:"dns,omitzero"` // as the network wants it; empty: no opinion
	CNI      []CNIRecord  `json:"cni,omitempty"`
	// Inside is the path of the namespace, where a DNS server listens in it.
	Inside string `json:"inside,omitempty"`
	// Upstreams are asked for names that the network does not know; empty: the host's resolvers.
	Upstreams []string `json:"upstreams,omitempty"`
}

// Link is one interface of a pod.
type Link struct {
	Network       string         `json:"network"`
	Interface     string         `json:"interface"`                // in the pod
	HostInterface string         `json:"host_interface,omitempty"` // its other end
	MAC           string         `json:"mac,omitempty"`
	MTU           int            `json:"mtu,omitempty"`
	Addresses     []netip.Prefix `json:"addresses,omitempty"` // with the length of the subnet
	Gateways      []netip.Addr   `json:"gateways,omitempty"`  // that default routes go by
	LinkLocal     []netip.Addr   `json:"link_local,omitempty"`
	Bandwidth     Bandwidth      `json:"bandwidth,omitzero"`
}

// CNIRecord is what DEL and CHECK need when the configuration has changed or is gone.
type CNIRecord struct {
	Network   string          `json:"network"`
	Interface string          `json:"interface"`
	Config    json.RawMessage `json:"config"`           // the list, as used for ADD
	Result    json.RawMessage `json:"result,omitempty"` // of ADD
	// Capabilities are the capability arguments of ADD.
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
}

// Status is the condition NetworkReady of the CRI.
type Status struct {
	Ready   bool
	Reason  string // one word, as NetworkPluginNotReady; empty when ready
	Message string
}

// InterfaceStats are the counters of one interface since it was made.
type InterfaceStats struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Provider makes attachments. Its methods may be called for different pods at once; for one pod the caller sees to it
// that they do not overlap.
type Provider interface {
	// Attach joins the pod to the provider's network. When it fails, nothing is left.
	Attach(ctx context.Context, r Request) (Attachment, error)
	// Detach takes away what Attach has made; a is nil when no record of it exists. What is gone already is no error.
	Detach(ctx context.Context, r Request, a *Attachment) error
	// Check says whether the attachment is as it was made.
	Check(ctx context.Context, r Request, a Attachment) error
	// Restore is called once, before anything else: it makes the host as the attachments need it.
	Restore(ctx context.Context, all []Attachment) error
	// Collect takes away what belongs to no attachment that was given to Restore or made since, and is still there.
	Collect(ctx context.Context) error
	Status(ctx context.Context) Status
	// SetPodCIDR says which subnets new pods get their addresses from.
	SetPodCIDR(ctx context.Context, cidrs []netip.Prefix) error
	// Config is for people: something that encodes as JSON.
	Config(ctx context.Context) any
	// Destroy takes away everything that the provider has made on the host.
	Destroy(ctx context.Context) error
}

// Preparer is a provider that can do most of its work before the pod is known. The engine never sees it.
type Preparer interface {
	// Prepare makes an attachment of no pod in a new namespace, of which ns is a descriptor.
	Prepare(ctx context.Context, ns *os.File) (Attachment, error)
	// Claim makes a prepared attachment that of a pod. When it fails, nothing is left of the attachment.
	Claim(ctx context.Context, r Request, prepared Attachment) (Attachment, error)
	// Discard takes a prepared attachment away: now, or with the namespace, which the caller then ends next.
	Discard(ctx context.Context, prepared Attachment, now bool) error
	// Generation changes when what has been prepared before must not be used any more.
	Generation() uint64
}
