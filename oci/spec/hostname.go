package spec

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxHostname is the kernel's __NEW_UTS_LEN.
const maxHostname = 64

// hostnameRule names a container that has a UTS namespace of its own, by default after its ID. In a joined one the
// namespace's owner has set the name, and in the host's nobody may.
func hostnameRule(b *builder) error {
	own, path := b.namespace(specs.UTSNamespace)
	for field, name := range map[string]string{"hostname": b.req.Hostname, "domainname": b.req.Domainname} {
		if len(name) > maxHostname {
			return invalid("%s %q has %d characters: the kernel takes %d", field, name, len(name), maxHostname)
		}
	}
	if !own {
		if b.req.Domainname != "" {
			return invalid("domainname %q: the container shares the host's UTS namespace and would rename the host; leave one of the two out", b.req.Domainname)
		}
		if b.req.Hostname != "" && b.req.Hostname != b.host.Hostname {
			return invalid("hostname %q: the container shares the host's UTS namespace and would rename the host; leave one of the two out", b.req.Hostname)
		}
		return nil
	}
	if path != "" {
		return nil
	}
	b.spec.Domainname = b.req.Domainname
	b.spec.Hostname = b.req.Hostname
	if b.spec.Hostname == "" {
		b.spec.Hostname = HostnameOf(b.in.ID)
	}
	return nil
}

// HostnameOf makes a name of an ID: the first 12 characters of a generated one, else the ID with what a host name
// cannot have (RFC 1123) replaced.
func HostnameOf(id string) string {
	if len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" {
		return id[:12]
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '-'
	}, id)
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.Trim(name, "-")
}
