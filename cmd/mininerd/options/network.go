package options

import (
	"encoding/csv"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "network", Aliases: []string{"net"}, Usage: "`NETWORK`: bridge, host, none, container:NAME, or one that was made; more than once, or with options: name=NETWORK,ip=…,alias=…,mac-address=…"},
		&cli.StringSliceFlag{Name: "network-alias", Aliases: []string{"net-alias"}, Usage: "one more `NAME` of the container in its network"},
		&cli.StringFlag{Name: "ip", Usage: "IPv4 `ADDRESS` in a network that was made"},
		&cli.StringFlag{Name: "ip6", Usage: "IPv6 `ADDRESS` in a network that was made"},
		&cli.StringSliceFlag{Name: "link-local-ip", Usage: "one more `ADDRESS`, a link-local one"},
		&cli.StringFlag{Name: "mac-address", Usage: "hardware `ADDRESS`, for example 92:d0:c6:0a:29:33"},
		&cli.StringSliceFlag{Name: "link", Usage: "`CONTAINER[:ALIAS]`: a name for another container"},
		&cli.StringSliceFlag{Name: "publish", Aliases: []string{"p"}, Usage: "`[[ADDRESS:]HOST:]PORT[/PROTOCOL]`, or ranges: a port of the host that leads to the container"},
		&cli.BoolFlag{Name: "publish-all", Aliases: []string{"P"}, Usage: "lead a free port of the host to every exposed one"},
		&cli.StringSliceFlag{Name: "expose", Usage: "`PORT[-PORT][/PROTOCOL]` for --publish-all, with those of the image"},
		&cli.StringSliceFlag{Name: "dns", Usage: "`ADDRESS` of a name server"},
		&cli.StringSliceFlag{Name: "dns-search", Usage: "`DOMAIN` to search; a dot: none"},
		&cli.StringSliceFlag{Name: "dns-option", Aliases: []string{"dns-opt"}, Usage: "`OPTION` of the resolver"},
		&cli.StringSliceFlag{Name: "add-host", Usage: "`NAME:ADDRESS` for /etc/hosts; host-gateway is the host's address"},
	}
}

// theDefault is the network of a container that names none.
const theDefault = "bridge"

func networking(f Flags, r *spec.Request, out *api.CreateContainerRequest) error {
	first := &api.NetworkAttachment{
		Aliases: f.StringSlice("network-alias"), Ip: f.String("ip"), Ip6: f.String("ip6"), Mac: f.String("mac-address"), Links: f.StringSlice("link"),
		LinkLocalIps: f.StringSlice("link-local-ip"),
	}
	networks := f.StringSlice("network")
	if len(networks) == 1 && strings.HasPrefix(networks[0], pathMode) {
		return foreignNamespace(f, strings.TrimPrefix(networks[0], pathMode), r)
	}
	if err := networkMode(networks, first, out); err != nil {
		return err
	}
	var err error
	if out.Ports, err = Ports(f.StringSlice("publish")); err != nil {
		return err
	}
	out.PublishAll = f.Bool("publish-all")
	for _, e := range f.StringSlice("expose") {
		if _, _, err := portRange(strings.Split(e, "/")[0]); err != nil {
			return invalid("invalid range format for --expose: %s", e)
		}
	}
	out.Expose = f.StringSlice("expose")
	if len(out.Ports) > 0 && strings.HasPrefix(out.NetworkMode, "container:") {
		return invalid("conflicting options: port publishing and the container type network mode")
	}
	return names(f, out)
}

// pathMode begins the network mode of a namespace that somebody else has made, at a path; nerdctl's.
const pathMode = "ns:"

func foreignNamespace(f Flags, path string, r *spec.Request) error {
	if !strings.HasPrefix(path, "/") {
		return invalid("--network ns:%s: write the whole path of a network namespace", path)
	}
	for _, flag := range []string{"publish", "publish-all", "network-alias", "ip", "ip6", "mac-address", "link", "link-local-ip"} {
		if f.IsSet(flag) {
			return invalid("--%s: the network namespace %s is somebody else's: nothing of it can be chosen here", flag, path)
		}
	}
	if r.Namespaces == nil {
		r.Namespaces = map[string]string{}
	}
	r.Namespaces["network"] = "path:" + path
	return nil
}

// names reads the flags that say what names mean.
func names(f Flags, out *api.CreateContainerRequest) error {
	dns := &api.DNSSettings{Servers: f.StringSlice("dns"), Searches: f.StringSlice("dns-search"), Options: f.StringSlice("dns-option")}
	for _, s := range dns.Servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return invalid("%s is not an ip address: --dns takes the address of a name server", s)
		}
	}
	if len(dns.Servers)+len(dns.Searches)+len(dns.Options) > 0 {
		out.Dns = dns
	}
	for _, h := range f.StringSlice("add-host") {
		name, address, ok := strings.Cut(h, "=") // docker 25 has both
		if !ok {
			name, address, ok = strings.Cut(h, ":")
		}
		address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		if _, err := netip.ParseAddr(address); !ok || name == "" || err != nil && address != "host-gateway" {
			return invalid("bad format for add-host: %q: write NAME:ADDRESS", h)
		}
		out.ExtraHosts = append(out.ExtraHosts, name+":"+address)
	}
	return nil
}

// networkMode tells modes from networks. first has what the flags of a single network say; it belongs to the first one.
func networkMode(list []string, first *api.NetworkAttachment, out *api.CreateContainerRequest) error {
	plain := first.Ip == "" && first.Ip6 == "" && first.Mac == "" && len(first.Aliases) == 0 && len(first.Links) == 0 && len(first.LinkLocalIps) == 0
	if len(list) == 0 {
		list = []string{theDefault}
	}
	for i, text := range list {
		n, err := parseNetwork(text)
		if err != nil {
			return err
		}
		if n.Network == "default" {
			n.Network = theDefault
		}
		mode := n.Network == "host" || n.Network == "none" || strings.HasPrefix(n.Network, "container:")
		switch {
		case mode && len(list) > 1:
			return invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		case mode && !plain:
			return invalid("conflicting options: network mode %s has no addresses, aliases and links", n.Network)
		case mode, len(list) == 1 && n.Network == theDefault && plain && n.Ip+n.Ip6+n.Mac == "" && len(n.Aliases)+len(n.LinkLocalIps)+len(n.DriverOptions) == 0:
			out.NetworkMode = n.Network
			return nil
		}
		if i == 0 {
			merge(n, first)
		}
		out.Networks = append(out.Networks, n)
	}
	return nil
}

// merge adds what the flags say to what stands with the network itself.
func merge(n, flags *api.NetworkAttachment) {
	n.Aliases = append(n.Aliases, flags.Aliases...)
	n.Links = append(n.Links, flags.Links...)
	n.LinkLocalIps = append(n.LinkLocalIps, flags.LinkLocalIps...)
	for _, p := range []struct {
		to   *string
		from string
	}{{&n.Ip, flags.Ip}, {&n.Ip6, flags.Ip6}, {&n.Mac, flags.Mac}} {
		if *p.to == "" {
			*p.to = p.from
		}
	}
}

// parseNetwork reads NETWORK, or name=NETWORK,alias=…,ip=…,ip6=…,mac-address=….
func parseNetwork(text string) (*api.NetworkAttachment, error) {
	if !strings.Contains(text, "=") {
		if text == "" {
			return nil, invalid("--network: no name")
		}
		return &api.NetworkAttachment{Network: text}, nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, invalid("--network %s: %w", text, err)
	}
	n := &api.NetworkAttachment{}
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "name":
			n.Network = value
		case "alias":
			n.Aliases = append(n.Aliases, value)
		case "ip":
			n.Ip = value
		case "ip6":
			n.Ip6 = value
		case "mac-address":
			n.Mac = value
		case "link-local-ip":
			n.LinkLocalIps = append(n.LinkLocalIps, value)
		case "driver-opt":
			k, v, ok := strings.Cut(value, "=")
			if !ok || k == "" {
				return nil, invalid("--network %s: invalid key value pair format in driver options: write driver-opt=KEY=VALUE", text)
			}
			if n.DriverOptions == nil {
				n.DriverOptions = map[string]string{}
			}
			n.DriverOptions[k] = v
		default:
			return nil, invalid("--network %s: invalid field %s: use name, alias, ip, ip6, mac-address, link-local-ip, driver-opt", text, key)
		}
	}
	if n.Network == "" {
		return nil, invalid("--network %s: name is missing", text)
	}
	return n, nil
}

// Ports reads docker's port mappings; ranges become one mapping a port.
func Ports(list []string) ([]*api.PublishedPort, error) {
	var all []*api.PublishedPort
	for _, text := range list {
		ports, err := portsOf(text)
		if err != nil {
			return nil, err
		}
		all = append(all, ports...)
	}
	return all, nil
}

func portsOf(text string) ([]*api.PublishedPort, error) {
	if strings.Contains(text, "=") {
		return longPort(text)
	}
	rest, protocol, _ := strings.Cut(text, "/")
	protocol = strings.ToLower(protocol)
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, invalid("invalid proto: %s: in --publish %s use tcp, udp or sctp", protocol, text)
	}
	address, host, port := splitPorts(rest)
	if address != "" {
		if _, err := netip.ParseAddr(address); err != nil {
			return nil, invalid("invalid IP address: %s: in --publish %s", address, text)
		}
	}
	from, to, err := portRange(port)
	if err != nil {
		return nil, invalid("invalid containerPort: %s: in --publish %s", port, text)
	}
	var hostFrom, hostTo uint32
	if host != "" {
		if hostFrom, hostTo, err = portRange(host); err != nil {
			return nil, invalid("invalid hostPort: %s: in --publish %s", host, text)
		}
		if hostTo-hostFrom != to-from {
			return nil, invalid("invalid ranges specified for container and host Ports: %s and %s", port, host)
		}
	}
	var all []*api.PublishedPort
	for p := from; p <= to; p++ {
		one := &api.PublishedPort{Protocol: protocol, HostIp: address, ContainerPort: p}
		if host != "" {
			one.HostPort = hostFrom + p - from
		}
		all = append(all, one)
	}
	return all, nil
}

// splitPorts cuts [[ADDRESS:]HOST:]PORT; an IPv6 address is in brackets.
func splitPorts(text string) (address, host, port string) {
	last := strings.LastIndex(text, ":")
	if last < 0 {
		return "", "", text
	}
	rest, port := text[:last], text[last+1:]
	if i := strings.LastIndex(rest, ":"); i >= 0 && !strings.HasSuffix(rest, "]") {
		return strings.Trim(rest[:i], "[]"), rest[i+1:], port
	}
	if strings.HasSuffix(rest, "]") {
		return strings.Trim(rest, "[]"), "", port
	}
	return "", rest, port
}

// longPort reads target=80,published=8080,protocol=tcp,mode=host.
func longPort(text string) ([]*api.PublishedPort, error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, invalid("--publish %s: %w", text, err)
	}
	var target, published, address string
	protocol := "tcp"
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "target":
			target = value
		case "published":
			published = value
		case "protocol":
			protocol = value
		case "host_ip":
			address = value
		case "mode":
		default:
			return nil, invalid("--publish %s: invalid field key %s: use target, published, protocol, mode", text, key)
		}
	}
	if target == "" {
		return nil, invalid("--publish %s: missing mandatory field 'target'", text)
	}
	short := target + "/" + protocol
	if published != "" {
		short = published + ":" + short
	}
	if address != "" {
		if published == "" {
			short = ":" + short
		}
		short = net.JoinHostPort(address, "") + short
	}
	return portsOf(short)
}

// portRange reads PORT or FIRST-LAST.
func portRange(text string) (from, to uint32, err error) {
	first, last, ranged := strings.Cut(text, "-")
	if from, err = number(first, 16); err != nil || from == 0 {
		return 0, 0, invalid("port %q", text)
	}
	if !ranged {
		return from, from, nil
	}
	if to, err = number(last, 16); err != nil || to < from {
		return 0, 0, invalid("port %q", text)
	}
	return from, to, nil
}

func number(text string, bits int) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, bits)
	return uint32(n), err
}
