package engine

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// Modes of the network of a container without a pod, beside "container:ID" and the empty one: a namespace with the
// loopback interface, about which nobody but its request decides.
const (
	NetworkNone   = "none"
	NetworkHost   = "host"
	NetworkBridge = "bridge"
	joinContainer = "container:"
)

// NetworkOptions is what a client asks of the network of a container without a pod.
type NetworkOptions struct {
	Mode       string              `json:"mode,omitempty"`     // NetworkNone, NetworkHost, "container:ID", or empty
	Networks   []NetworkAttachment `json:"networks,omitempty"` // eth0, eth1 …
	Ports      []network.Port      `json:"ports,omitempty"`    // HostPort 0: a free one
	PublishAll bool                `json:"publishAll,omitempty"`
	Expose     []string            `json:"expose,omitempty"` // PORT[-PORT][/PROTOCOL]
	DNS        network.DNS         `json:"dns,omitzero"`
	ExtraHosts []string            `json:"extraHosts,omitempty"` // NAME:IP, or NAME:host-gateway
}

// NetworkAttachment is a network that a container is to be in.
type NetworkAttachment struct {
	Network string     `json:"network"` // name or id; NetworkBridge is the default one
	Aliases []string   `json:"aliases,omitempty"`
	IP      netip.Addr `json:"ip,omitzero"`
	IP6     netip.Addr `json:"ip6,omitzero"`
	MAC     string     `json:"mac,omitempty"`
	Links   []string   `json:"links,omitempty"` // CONTAINER[:ALIAS]
	// LinkLocal are more addresses of the interface.
	LinkLocal     []netip.Addr      `json:"linkLocal,omitempty"`
	DriverOptions map[string]string `json:"driverOptions,omitempty"`
}

// interfaceName is the option of an endpoint that names its interface; Docker's.
const interfaceName = "com.docker.network.endpoint.ifname"

func (a NetworkAttachment) check() error {
	for _, ip := range a.LinkLocal {
		if !ip.IsLinkLocalUnicast() {
			return fmt.Errorf("network %s: invalid link local IP address: %s: use one of 169.254.0.0/16 or fe80::/64: %w", a.Network, ip, errdefs.ErrInvalidArgument)
		}
	}
	if name, ok := a.DriverOptions[interfaceName]; ok {
		if err := network.CheckLink(name); err != nil {
			return fmt.Errorf("network %s: %s=%s: %w: %w", a.Network, interfaceName, name, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// managed says whether the daemon looks after the container's network and its files in /etc.
func (n NetworkOptions) managed() bool { return n.Mode != "" || len(n.Networks) > 0 }

// joined is the container whose network is joined, or empty.
func (n NetworkOptions) joined() string {
	other, ok := strings.CutPrefix(n.Mode, joinContainer)
	if !ok {
		return ""
	}
	return other
}

// checkManner checks and completes what is said of how a container is known, joined to networks and kept running.
func checkManner(o *CreateOptions) error {
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return err
		}
	}
	if err := checkRestart(o.Restart, o.AutoRemove); err != nil {
		return err
	}
	if o.Pod != "" && !o.Restart.none() {
		return fmt.Errorf("restart policy %s: who runs pod %s starts it again: %w", o.Restart.Name, o.Pod, errdefs.ErrInvalidArgument)
	}
	if err := checkHealth(o.HealthCheck); err != nil {
		return err
	}
	if o.InitBinary != "" && (!o.Init || !filepath.IsAbs(o.InitBinary)) {
		return fmt.Errorf("init binary %q: write an absolute path, and ask for an init: %w", o.InitBinary, errdefs.ErrInvalidArgument)
	}
	if o.Init && o.Spec != nil {
		return fmt.Errorf("a whole spec names its own first process: leave the init out: %w", errdefs.ErrInvalidArgument)
	}
	if err := o.Net.complete(); err != nil {
		return err
	}
	if !o.Net.managed() {
		return nil
	}
	switch {
	case o.Pod != "":
		return fmt.Errorf("its network is that of pod %s: leave the network out: %w", o.Pod, errdefs.ErrInvalidArgument)
	case o.Spec != nil:
		return fmt.Errorf("a whole spec says itself what its network is: give a request: %w", errdefs.ErrInvalidArgument)
	case o.Request != nil && (o.Request.Namespaces["network"] != "" || o.Request.Namespaces["net"] != ""):
		return fmt.Errorf("its request names a network namespace, and a network is asked for: leave one out: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// complete writes each mode in one way, and refuses what contradicts itself.
func (n *NetworkOptions) complete() error {
	switch {
	case n.Mode == "" || n.Mode == NetworkNone || n.Mode == NetworkHost:
	case n.joined() != "":
		if len(n.Ports) > 0 || n.PublishAll {
			return fmt.Errorf("network %s: ports are published by the container that has the network: publish them there: %w", n.Mode, errdefs.ErrInvalidArgument)
		}
	case n.Mode == joinContainer:
		return fmt.Errorf("network %q: name a container: %w", n.Mode, errdefs.ErrInvalidArgument)
	default: // the name of a network
		name := n.Mode
		if name == "default" {
			name = NetworkBridge
		}
		n.Mode = ""
		if !slices.ContainsFunc(n.Networks, func(a NetworkAttachment) bool { return a.Network == name }) {
			n.Networks = append([]NetworkAttachment{{Network: name}}, n.Networks...)
		}
	}
	if n.Mode != "" && len(n.Networks) > 0 {
		return fmt.Errorf("network %s cannot be had together with others: %w", n.Mode, errdefs.ErrInvalidArgument)
	}
	for i, a := range n.Networks {
		if a.Network == "" || a.Network == NetworkNone || a.Network == NetworkHost {
			return fmt.Errorf("network %q is not one to be in together with others: %w", a.Network, errdefs.ErrInvalidArgument)
		}
		if err := a.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(n.Networks[:i], func(b NetworkAttachment) bool { return a.Network == b.Network }) {
			return fmt.Errorf("network %s is given twice: %w", a.Network, errdefs.ErrInvalidArgument)
		}
	}
	if _, err := exposed(n.Expose); err != nil {
		return err
	}
	_, err := extraHosts(n.ExtraHosts, netip.Addr{})
	return err
}

// RestartPolicy says when a container that has exited is started again.
type RestartPolicy struct {
	Name       string `json:"name,omitempty"`       // one of those below; empty is RestartNo
	MaxRetries int    `json:"maxRetries,omitempty"` // of RestartOnFailure; 0: no limit
}

// The restart policies.
const (
	RestartNo            = "no"
	RestartAlways        = "always"
	RestartOnFailure     = "on-failure"
	RestartUnlessStopped = "unless-stopped"
)

func (p RestartPolicy) none() bool { return p.Name == "" || p.Name == RestartNo }

func checkRestart(p RestartPolicy, autoRemove bool) error {
	all := []string{"", RestartNo, RestartAlways, RestartOnFailure, RestartUnlessStopped}
	switch {
	case !slices.Contains(all, p.Name):
		return fmt.Errorf("restart policy %q: use one of %s: %w", p.Name, strings.Join(all[1:], ", "), errdefs.ErrInvalidArgument)
	case p.MaxRetries < 0:
		return fmt.Errorf("restart policy %s: %d retries: use 0 for no limit, or more: %w", p.Name, p.MaxRetries, errdefs.ErrInvalidArgument)
	case p.MaxRetries > 0 && p.Name != RestartOnFailure:
		return fmt.Errorf("restart policy %s: only on-failure has a number of retries: %w", p.Name, errdefs.ErrInvalidArgument)
	case !p.none() && autoRemove:
		return fmt.Errorf("restart policy %s: a container that removes itself cannot be started again: leave one out: %w", p.Name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// DefaultStopTimeout is how long a container is given to end after its stop signal.
const DefaultStopTimeout = 10 * time.Second

// forever is a patience that no process outlasts.
const forever = 100 * 365 * 24 * time.Hour

// patience is how long a container is given to end, when the client says so or leaves it to the container.
func patience(c Container, asked *time.Duration) time.Duration {
	t := c.StopTimeout
	if t == 0 {
		t = DefaultStopTimeout
	}
	if asked != nil {
		t = *asked
	}
	if t < 0 {
		return forever
	}
	return t
}
