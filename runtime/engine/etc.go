package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/userns"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

// etcDir has the files that a container finds in /etc.
func (e *Engine) etcDir(c Container) string { return filepath.Join(e.Bundle(c), "etc") }

// inNetwork gives a container without a pod the namespace of its networks, and its files in /etc.
func (e *Engine) inNetwork(c Container, r spec.Request) (spec.Request, error) {
	if !c.Net.managed() {
		return r, nil
	}
	ns := maps.Clone(r.Namespaces)
	if ns == nil {
		ns = map[string]string{}
	}
	dir := e.etcDir(c)
	switch {
	case c.Net.Mode == NetworkHost:
		ns["network"] = "host"
		if r.Hostname == "" && ns["uts"] != "host" {
			r.Hostname = e.Host.Hostname
		}
	case c.Net.joined() != "":
		ns["network"] = c.Net.Mode
		other, err := e.networkOwner(c)
		if err != nil {
			return r, err
		}
		dir = ""
		if other.Net.managed() {
			dir = e.etcDir(other)
		}
		if r.Hostname == "" {
			r.Hostname = hostname(other, e.Host.Hostname)
		}
	case len(c.Net.Networks) > 0:
		ns["network"] = "path:" + e.netns(c)
		r.Env = slices.Concat(e.linkEnv(c), r.Env)
		if len(r.UIDMap) > 0 {
			ns["user"] = sharedNamespace(e.Bundle(c), pin.User)
		}
		r.Sysctls = openSysctls(r.Sysctls, len(r.UIDMap) > 0)
	}
	r.Namespaces = ns
	if dir != "" {
		r.Mounts = append(etcMounts(r, dir), r.Mounts...)
	}
	return r, nil
}

// openSysctls lets the processes of a network namespace of its own bind low ports and ping without privileges, as Docker
// does. In a user namespace, groups beyond its map are not valid.
func openSysctls(asked map[string]string, mapped bool) map[string]string {
	set := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	if !mapped {
		set["net.ipv4.ping_group_range"] = pingGroups()
	}
	maps.Copy(set, asked)
	return set
}

// pingGroups are the groups that may ping without a capability: all that the daemon's own user namespace has.
func pingGroups() string { return fmt.Sprintf("0 %d", userns.LastGroup()) }

// networkOwner is the container whose network is joined.
func (e *Engine) networkOwner(c Container) (Container, error) {
	l, err := e.find(c.Namespace, c.Net.joined())
	if err != nil {
		return Container{}, fmt.Errorf("join its network: %w", err)
	}
	other := l.record()
	if other.Net.joined() != "" {
		return Container{}, fmt.Errorf("join the network of container %s, which has that of %s: join that one: %w", c.Net.joined(), other.Net.joined(), errdefs.ErrInvalidArgument)
	}
	return other, nil
}

// Hostname is the name that a container's client has given its UTS namespace, or that is made of its id; it is the host's
// with the host's network.
func Hostname(c Container) string { return hostname(c, "") }

// hostname is a container's name in its UTS namespace.
func hostname(c Container, host string) string {
	switch {
	case c.Request != nil && c.Request.Hostname != "":
		return c.Request.Hostname
	case c.Net.Mode == NetworkHost:
		return host
	}
	return spec.HostnameOf(c.ID)
}

// writeEtc writes the files that a container finds in /etc. They are written where they are, for a container that runs
// has them mounted.
func (e *Engine) writeEtc(c Container) error {
	if c.Net.joined() != "" {
		return nil
	}
	if err := e.makeNetDir(c); err != nil {
		return err
	}
	hosts, err := containerHosts(c, hostname(c, e.Host.Hostname), e.linked(c))
	if err != nil {
		return err
	}
	resolv, err := containerResolv(c)
	if err != nil {
		return err
	}
	for file, text := range map[string]string{"hosts": hosts, "hostname": hostname(c, e.Host.Hostname) + "\n", "resolv.conf": resolv} {
		if err := os.WriteFile(podFile(e.etcDir(c), file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// containerHosts is the hosts file (hosts(5)): the host's with its network, the hosts asked for, links, and the container itself.
func containerHosts(c Container, name string, links []string) (string, error) {
	text := localHosts
	if c.Net.Mode == NetworkHost {
		own, err := readOr("/etc/hosts", localHosts)
		if err != nil {
			return "", err
		}
		text = own
	}
	extra, err := extraHosts(c.Net.ExtraHosts, gateway(c))
	if err != nil {
		return "", err
	}
	if c.Request != nil && c.Request.Domainname != "" {
		name = name + "." + c.Request.Domainname + " " + name
	}
	lines := append(extra, links...)
	for _, a := range c.Attachments {
		for _, ip := range a.IPs {
			lines = append(lines, fmt.Sprintf("%s\t%s", ip, name))
		}
	}
	if len(lines) == 0 {
		return text, nil
	}
	return text + strings.Join(lines, "\n") + "\n", nil
}

// hostGateway stands for the host's address in what a client asks to be in the hosts file.
const hostGateway = "host-gateway"

// extraHosts are lines of the hosts file, of NAME:IP or NAME=IP; an IPv6 address may be in brackets.
func extraHosts(asked []string, gateway netip.Addr) ([]string, error) {
	var lines []string
	for _, text := range asked {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			name, value, ok = strings.Cut(text, ":")
		}
		value = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
		if !ok || name == "" || strings.ContainsAny(name, " \t\n#") {
			return nil, fmt.Errorf("extra host %q: write it like db:10.0.0.5: %w", text, errdefs.ErrInvalidArgument)
		}
		ip := gateway
		if value != hostGateway {
			parsed, err := netip.ParseAddr(value)
			if err != nil {
				return nil, fmt.Errorf("extra host %q: %q is neither an address nor %s: %w", text, value, hostGateway, errdefs.ErrInvalidArgument)
			}
			ip = parsed
		}
		if ip.IsValid() { // without a network there is no gateway, and nobody to reach by it
			lines = append(lines, fmt.Sprintf("%s\t%s", ip, name))
		}
	}
	return lines, nil
}

// The resolver's files of the host: where systemd-resolved answers on a loopback address, it keeps the real servers apart.
const (
	hostResolv     = "/etc/resolv.conf"
	resolvedResolv = "/run/systemd/resolve/resolv.conf"
)

// containerResolv is the resolver's configuration (resolv.conf(5)).
func containerResolv(c Container) (string, error) {
	text, err := readOr(hostResolv, "")
	if err != nil {
		return "", err
	}
	if c.Net.Mode != NetworkHost && onlyLocal(text) {
		if other, err := readOr(resolvedResolv, ""); err == nil && other != "" {
			text = other
		}
	}
	var wanted network.DNS
	for _, a := range slices.Backward(c.Attachments) { // the first that has a server
		if len(a.DNS.Servers) > 0 {
			wanted = a.DNS
		}
	}
	return resolvFor(c.Net, wanted, text), nil
}

func onlyLocal(resolv string) bool {
	dns := parseResolv(resolv)
	return len(dns.Servers) > 0 && !slices.ContainsFunc(dns.Servers, reachable)
}

// reachable says whether a server can be asked from another network namespace.
func reachable(server string) bool {
	ip, err := netip.ParseAddr(server)
	return err == nil && !ip.IsLoopback()
}

// publicServers are asked where the host has none that a container reaches, as Docker does.
func publicServers() []string { return []string{"8.8.8.8", "8.8.4.4"} }

// resolvFor lays what is asked for over what the network wants over what the host has.
func resolvFor(n NetworkOptions, wanted network.DNS, host string) string {
	dns := parseResolv(host)
	if n.Mode != NetworkHost {
		dns.Servers = slices.DeleteFunc(dns.Servers, func(s string) bool { return !reachable(s) })
	}
	if len(n.DNS.Servers) > 0 {
		dns.Servers = n.DNS.Servers
	}
	if len(wanted.Servers) > 0 { // it asks the others itself
		dns.Servers = wanted.Servers
	}
	if len(dns.Servers) == 0 && n.Mode != NetworkHost {
		dns.Servers = publicServers()
	}
	for _, over := range []network.DNS{wanted, n.DNS} {
		if len(over.Searches) > 0 {
			dns.Searches = over.Searches
		}
		if len(over.Options) > 0 {
			dns.Options = over.Options
		}
	}
	if len(dns.Searches) == 1 && dns.Searches[0] == "." { // Docker's word for none
		dns.Searches = nil
	}
	return resolvText(dns)
}

// parseResolv reads a resolv.conf(5).
func parseResolv(text string) network.DNS {
	var dns network.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Servers = append(dns.Servers, fields[1])
		case "search", "domain":
			dns.Searches = fields[1:]
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}
