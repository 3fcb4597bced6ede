package cri

import (
	"net/netip"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network"
)

// podOptions translates a pod's configuration. handler is one that is known.
func podOptions(config *v1.PodSandboxConfig, handler string, h *spec.Host) (engine.PodOptions, error) {
	var none engine.PodOptions
	if config == nil {
		return none, invalid("the pod configuration is missing")
	}
	m := config.GetMetadata()
	if err := checkPodMetadata(m); err != nil {
		return none, err
	}
	if err := checkLabels(config.GetLabels(), config.GetAnnotations()); err != nil {
		return none, err
	}
	o := engine.PodOptions{
		Key: podKey(m), Name: m.GetName(), PodNamespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt(),
		Labels: config.GetLabels(), Annotations: config.GetAnnotations(), Runtime: handler, Hostname: config.GetHostname(),
		Sysctls: config.GetLinux().GetSysctls(),
	}
	if len(o.Hostname) > 64 { // __NEW_UTS_LEN
		return none, invalid("hostname %.80q has %d characters: the kernel takes 64", o.Hostname, len(o.Hostname))
	}
	var err error
	if d := config.GetLogDirectory(); d != "" {
		if o.LogDir, err = hostPath("log directory", d); err != nil {
			return none, err
		}
	}
	if o.DNS, err = podDNS(config.GetDnsConfig()); err != nil {
		return none, err
	}
	if o.Ports, err = podPorts(config.GetPortMappings()); err != nil {
		return none, err
	}
	if o.Bandwidth, err = bandwidth(config.GetAnnotations()); err != nil {
		return none, err
	}
	if o.Cgroup, err = cgroupParent(config.GetLinux().GetCgroupParent()); err != nil {
		return none, err
	}
	if o.Overhead, err = linuxResources(config.GetLinux().GetOverhead(), h); err != nil {
		return none, err
	}
	if o.Resources, err = linuxResources(config.GetLinux().GetResources(), h); err != nil {
		return none, err
	}
	if err := podSecurity(&o, config.GetLinux().GetSecurityContext(), h); err != nil {
		return none, err
	}
	o.Front, err = keepPod(config)
	return o, err
}

// podSecurity sets the namespaces and what confines the process that holds a shared PID namespace.
func podSecurity(o *engine.PodOptions, s *v1.LinuxSandboxSecurityContext, h *spec.Host) error {
	var err error
	ns := s.GetNamespaceOptions()
	if o.Network, err = podMode("network", ns.GetNetwork()); err != nil {
		return err
	}
	if o.IPC, err = podMode("ipc", ns.GetIpc()); err != nil {
		return err
	}
	switch ns.GetPid() {
	case v1.NamespaceMode_POD:
		o.PID = engine.ModePod
	case v1.NamespaceMode_CONTAINER:
		o.PID = engine.ModeContainer
	case v1.NamespaceMode_NODE:
		o.PID = engine.ModeNode
	default:
		return invalid("pid namespace mode %s: a pod takes POD, CONTAINER or NODE", ns.GetPid())
	}
	if o.UIDMap, o.GIDMap, err = userNamespace(ns.GetUsernsOptions()); err != nil {
		return err
	}
	if s.GetRunAsGroup() != nil && s.GetRunAsUser() == nil {
		return invalid("pod: run_as_group without run_as_user: set both, or neither")
	}
	if o.Network == engine.ModeNode {
		if len(o.Ports) > 0 {
			o.Ports = nil // the containers have the host's ports already
		}
		o.Bandwidth = nil
	}
	//lint:ignore SA1019 older kubelets send nothing else
	if o.Seccomp, err = seccompProfile(s.GetSeccomp(), s.GetSeccompProfilePath(), s.GetPrivileged()); err != nil {
		return err
	}
	o.SELinuxOptions, err = selinuxOptions(s.GetSelinuxOptions(), h)
	return err
}

func podMode(what string, m v1.NamespaceMode) (string, error) {
	switch m {
	case v1.NamespaceMode_POD:
		return engine.ModePod, nil
	case v1.NamespaceMode_NODE:
		return engine.ModeNode, nil
	}
	return "", invalid("%s namespace mode %s: a pod takes POD or NODE", what, m)
}

// userNamespace checks and translates a pod's user namespace as the CRI defines it: one range from id 0 on, of the same
// length for users and groups. No maps: the host's.
func userNamespace(u *v1.UserNamespace) (uids, gids []specs.LinuxIDMapping, err error) {
	if u == nil {
		return nil, nil, nil
	}
	switch u.GetMode() {
	case v1.NamespaceMode_NODE:
		if len(u.GetUids()) > 0 || len(u.GetGids()) > 0 {
			return nil, nil, invalid("user namespace mode NODE: it takes no id mappings")
		}
		return nil, nil, nil
	case v1.NamespaceMode_POD:
	default:
		return nil, nil, invalid("user namespace mode %s: a pod takes POD or NODE", u.GetMode())
	}
	if len(u.GetUids()) == 0 && len(u.GetGids()) == 0 {
		return nil, nil, nil // POD without maps is what clients send that know of no user namespaces
	}
	for _, m := range []struct {
		what string
		maps []*v1.IDMapping
	}{{"uid", u.GetUids()}, {"gid", u.GetGids()}} {
		if len(m.maps) != 1 {
			return nil, nil, invalid("user namespace: %d %s mappings: give exactly one", len(m.maps), m.what)
		}
		if m.maps[0].GetContainerId() != 0 {
			return nil, nil, invalid("user namespace: the %s mapping begins at id %d of the container: it must begin at 0", m.what, m.maps[0].GetContainerId())
		}
		if m.maps[0].GetLength() == 0 {
			return nil, nil, invalid("user namespace: the length of the %s mapping is 0", m.what)
		}
	}
	if a, b := u.GetUids()[0].GetLength(), u.GetGids()[0].GetLength(); a != b {
		return nil, nil, invalid("user namespace: %d uids and %d gids are mapped: map as many of both", a, b)
	}
	return idMappings(u.GetUids()), idMappings(u.GetGids()), nil
}

func idMappings(maps []*v1.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range maps {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return out
}

// podDNS translates the resolver's configuration; none means that of the host.
func podDNS(d *v1.DNSConfig) (*network.DNS, error) {
	if d == nil {
		return nil, nil
	}
	for _, s := range [][]string{d.GetServers(), d.GetSearches(), d.GetOptions()} {
		if err := checkCount("dns entries", len(s)); err != nil {
			return nil, err
		}
		for _, word := range s {
			if strings.ContainsAny(word, "\x00\n\r") || len(word) > maxName {
				return nil, invalid("dns entry %.64q: it would not be one word of one line of resolv.conf", word)
			}
		}
	}
	return &network.DNS{Servers: d.GetServers(), Searches: d.GetSearches(), Options: d.GetOptions()}, nil
}

// podPorts translates the published ports. A host port of 0 asks for none.
func podPorts(mappings []*v1.PortMapping) ([]network.Port, error) {
	if err := checkCount("port mappings", len(mappings)); err != nil {
		return nil, err
	}
	var ports []network.Port
	for _, m := range mappings {
		if m.GetHostPort() < 0 || m.GetHostPort() > 65535 || m.GetContainerPort() < 0 || m.GetContainerPort() > 65535 {
			return nil, invalid("port mapping %d:%d: ports go from 1 to 65535", m.GetHostPort(), m.GetContainerPort())
		}
		if m.GetHostPort() == 0 {
			continue
		}
		if m.GetContainerPort() == 0 {
			return nil, invalid("port mapping of the host's port %d: it names no port of the container", m.GetHostPort())
		}
		p := network.Port{HostPort: uint16(m.GetHostPort()), ContainerPort: uint16(m.GetContainerPort())}
		switch m.GetProtocol() {
		case v1.Protocol_TCP, v1.Protocol_UDP, v1.Protocol_SCTP:
			p.Protocol = strings.ToLower(m.GetProtocol().String())
		default:
			return nil, invalid("port mapping of the host's port %d: protocol %s: use TCP, UDP or SCTP", m.GetHostPort(), m.GetProtocol())
		}
		if ip := m.GetHostIp(); ip != "" {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, invalid("port mapping of the host's port %d: host ip %.64q is no address", m.GetHostPort(), ip)
			}
			p.HostIP = addr.Unmap()
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// cgroupParent cleans the group that the kubelet has made for the pod.
func cgroupParent(parent string) (string, error) {
	if parent == "" {
		return "", nil
	}
	if strings.ContainsRune(parent, 0) || len(parent) > 4096 {
		return "", invalid("cgroup parent %.128q has a NUL byte, or more than 4096", parent)
	}
	for part := range strings.SplitSeq(parent, "/") {
		if part == ".." {
			return "", invalid("cgroup parent %.128q: it leaves the hierarchy with ..", parent)
		}
	}
	return path.Clean(parent), nil
}

// The annotations by which the kubelet's users bound a pod's traffic, in bits per second.
const (
	ingressBandwidth = "kubernetes.io/ingress-bandwidth"
	egressBandwidth  = "kubernetes.io/egress-bandwidth"
)

// bandwidth reads the bounds of a pod's traffic out of its annotations; nil: none.
func bandwidth(annotations map[string]string) (*network.Bandwidth, error) {
	var b network.Bandwidth
	for key, into := range map[string]*uint64{ingressBandwidth: &b.Ingress, egressBandwidth: &b.Egress} {
		text, ok := annotations[key]
		if !ok {
			continue
		}
		n, ok := quantity(text)
		// The bounds are those that Kubernetes documents: 1k to 1P.
		if !ok || n < 1000 || n > 1e15 {
			return nil, invalid("annotation %s %.64q: give bits per second from 1k to 1P, like 10M", key, text)
		}
		*into = n
	}
	if b == (network.Bandwidth{}) {
		return nil, nil
	}
	return &b, nil
}

// quantity reads a resource quantity of Kubernetes as a whole number, rounded up: 10M, 1.5Gi, 12e6.
func quantity(text string) (uint64, bool) {
	if len(text) > 64 {
		return 0, false
	}
	number := strings.TrimRight(text, "KkMGTPEinum")
	scale, ok := 0.0, true
	switch text[len(number):] {
	case "n":
		scale = 1e-9
	case "u":
		scale = 1e-6
	case "m":
		scale = 1e-3
	case "":
		scale = 1
	case "k":
		scale = 1e3
	case "M":
		scale = 1e6
	case "G":
		scale = 1e9
	case "T":
		scale = 1e12
	case "P":
		scale = 1e15
	case "E":
		scale = 1e18
	case "Ki":
		scale = 1 << 10
	case "Mi":
		scale = 1 << 20
	case "Gi":
		scale = 1 << 30
	case "Ti":
		scale = 1 << 40
	case "Pi":
		scale = 1 << 50
	case "Ei":
		scale = 1 << 60
	default:
		ok = false
	}
	if !ok || strings.Trim(number, "0123456789.+-eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f*scale >= 1<<63 {
		return 0, false
	}
	n := uint64(f * scale)
	if float64(n) < f*scale {
		n++
	}
	return n, true
}
