package engine

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
)

// portsLock is held while ports are chosen and published, so that no two containers choose the same.
const portsLock = "ports"

const freeTries = 50 // before a free port of the host is given up

// holder is who has published a port.
type holder struct {
	who string
	network.Port
}

// holders are the containers and pods that have published ports.
func (e *Engine) holders() []holder {
	var all []holder
	e.mu.RLock()
	for _, l := range e.containers {
		c := l.record()
		name := c.Name
		if name == "" {
			name = id.Short(c.ID)
		}
		for _, a := range c.Attachments {
			for _, p := range a.Ports {
				all = append(all, holder{"container " + name, p})
			}
		}
	}
	e.mu.RUnlock()
	for _, p := range e.livePods("") {
		if rec := p.record(); rec.Attachment != nil {
			for _, port := range rec.Attachment.Ports {
				all = append(all, holder{"pod " + rec.Name, port})
			}
		}
	}
	return all
}

// conflict is who has a port already, or empty.
func conflict(p network.Port, all []holder) string {
	for _, h := range all {
		if h.HostPort == p.HostPort && protocolOf(h.Port) == protocolOf(p) && meet(h.HostIP.Unmap(), p.HostIP.Unmap()) {
			return h.who
		}
	}
	return ""
}

// meet says whether one connection could be to both addresses of the host; one that is not valid stands for all.
func meet(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || !b.IsValid():
		return true
	case a.Is4() != b.Is4():
		return false
	}
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

func protocolOf(p network.Port) string {
	if p.Protocol == "" {
		return "tcp"
	}
	return strings.ToLower(p.Protocol)
}

// choosePorts are the ports that a container publishes when it starts, with free ones of the host chosen.
func (e *Engine) choosePorts(c Container) ([]network.Port, error) {
	wanted, err := wantedPorts(c)
	if err != nil || len(wanted) == 0 {
		return nil, err
	}
	all := e.holders()
	for i, p := range wanted {
		if p.HostPort == 0 {
			wanted[i].HostPort, err = freePort(p, all)
		} else if who := conflict(p, all); who != "" {
			err = fmt.Errorf("port %d is published by %s; stop it or choose another: %w", p.HostPort, who, errdefs.ErrAlreadyExists)
		} else if listen(p) != nil {
			err = fmt.Errorf("port %d is in use by a process of the host: stop it or choose another: %w", p.HostPort, errdefs.ErrAlreadyExists)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, holder{"this container too", wanted[i]})
	}
	return wanted, nil
}

// wantedPorts are the ports asked for and, with PublishAll, those exposed that are not among them.
func wantedPorts(c Container) ([]network.Port, error) {
	wanted := slices.Clone(c.Net.Ports)
	if !c.Net.PublishAll {
		return wanted, nil
	}
	all, err := Exposed(c)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if !slices.ContainsFunc(wanted, func(p network.Port) bool {
			return p.ContainerPort == x.ContainerPort && protocolOf(p) == x.Protocol
		}) {
			wanted = append(wanted, x)
		}
	}
	return wanted, nil
}

// Exposed are the ports that a container says it listens on: its image's and those asked for, in order.
func Exposed(c Container) ([]network.Port, error) {
	var all []string
	for port := range c.ImageConfig.ExposedPorts {
		all = append(all, port)
	}
	return exposed(append(all, c.Net.Expose...))
}

// exposed reads PORT[-PORT][/PROTOCOL].
func exposed(texts []string) ([]network.Port, error) {
	var all []network.Port
	for _, text := range texts {
		ports, protocol, ok := strings.Cut(text, "/")
		if !ok {
			protocol = "tcp"
		}
		first, last, ranged := strings.Cut(ports, "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		protocol = strings.ToLower(protocol)
		if err != nil || err2 != nil || from == 0 || from > to || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return nil, fmt.Errorf("exposed port %q: write it like 80, 80/udp or 8000-8010: %w", text, errdefs.ErrInvalidArgument)
		}
		for n := from; n <= to; n++ {
			p := network.Port{Protocol: protocol, ContainerPort: uint16(n)}
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b network.Port) int {
		if a.ContainerPort != b.ContainerPort {
			return int(a.ContainerPort) - int(b.ContainerPort)
		}
		return strings.Compare(a.Protocol, b.Protocol)
	})
	return all, nil
}

// freePort is one that the kernel has free and nobody has published.
func freePort(p network.Port, all []holder) (uint16, error) {
	for range freeTries {
		port, err := kernelPort(p)
		if err != nil {
			return 0, fmt.Errorf("choose a free port of the host for port %d: %w", p.ContainerPort, err)
		}
		p.HostPort = port
		if conflict(p, all) == "" {
			return port, nil
		}
	}
	return 0, fmt.Errorf("port %d: no free port of the host was found: name one: %w", p.ContainerPort, errdefs.ErrResourceExhausted)
}

// kernelPort has the kernel choose a port as it does for a socket.
func kernelPort(p network.Port) (uint16, error) {
	address := hostAddress(p)
	if protocolOf(p) == "udp" {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// listen tries whether a process of the host has a port: a published one would take its connections away.
func listen(p network.Port) error {
	switch protocolOf(p) {
	case "tcp", "udp":
		_, err := kernelPort(p)
		return err
	}
	return nil // the kernel may be without sctp
}

func hostAddress(p network.Port) string {
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p.HostPort)))
}
