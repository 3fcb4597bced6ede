package spec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// knownCapabilities is every capability by its number (capabilities(7), Linux 5.9 has the last one).
func knownCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
		"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
		"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
		"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
		"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
		"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}

// DefaultCapabilities returns what a container's root has unless told otherwise: Docker's fourteen.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// capabilitiesRule sets the capability sets. Inheritable stays empty but for ambient ones, so that a file with
// inheritable capabilities in the image gives nothing (CVE-2022-24769), unless the defaults say otherwise.
func capabilitiesRule(b *builder) error {
	base := DefaultCapabilities()
	if d := b.in.Defaults.Capabilities; d != nil {
		base = *d
	}
	if b.req.Privileged {
		base = b.allCapabilities()
	}
	base, err := b.capabilityNames("default capability", base)
	if err != nil {
		return err
	}
	set, err := b.tweak(base, b.req.CapAdd, b.req.CapDrop)
	if err != nil {
		return err
	}
	ambient, err := b.capabilityNames("ambient capability", b.req.CapAmbient)
	if err != nil {
		return err
	}
	for _, c := range ambient {
		if !slices.Contains(set, c) {
			return invalid("ambient capability %s isn't granted: add it with cap-add too", c)
		}
	}
	*b.spec.Process.Capabilities = capabilitySets(set, ambient)
	if b.in.Defaults.Inheritable {
		b.spec.Process.Capabilities.Inheritable = slices.Clone(set)
	}
	return nil
}

// capabilitySets fills the five sets of a process.
func capabilitySets(set, ambient []string) specs.LinuxCapabilities {
	return specs.LinuxCapabilities{
		Bounding: set, Effective: slices.Clone(set), Permitted: slices.Clone(set),
		Inheritable: slices.Clone(ambient), Ambient: ambient,
	}
}

// tweak adds to and drops from a base. ALL in add starts from everything, ALL in drop from nothing.
func (b *builder) tweak(base, add, drop []string) ([]string, error) {
	add, allAdded := cutAll(add)
	drop, allDropped := cutAll(drop)
	if allAdded && allDropped {
		return nil, invalid("cap-add ALL and cap-drop ALL contradict each other")
	}
	add, err := b.capabilityNames("cap-add", add)
	if err != nil {
		return nil, err
	}
	drop, err = b.capabilityNames("cap-drop", drop)
	if err != nil {
		return nil, err
	}
	switch {
	case allAdded:
		base = b.allCapabilities()
	case allDropped:
		base = nil
	}
	wanted := slices.Concat(slices.DeleteFunc(slices.Clone(base), func(c string) bool { return slices.Contains(drop, c) }), add)
	var set []string
	for _, c := range knownCapabilities() { // by number: the same request gives the same bytes
		if slices.Contains(wanted, c) && b.grantable(c, slices.Contains(add, c)) {
			set = append(set, c)
		}
	}
	return set, nil
}

// cutAll removes ALL (or CAP_ALL) from a list and says whether it was there.
func cutAll(list []string) (rest []string, all bool) {
	for _, c := range list {
		if u := strings.ToUpper(c); u == "ALL" || u == "CAP_ALL" {
			all = true
		} else {
			rest = append(rest, c)
		}
	}
	return rest, all
}

// grantable tells whether this process could pass a capability on; a named one that it lacks is a warning.
func (b *builder) grantable(c string, named bool) bool {
	if b.host.Capabilities == nil || slices.Contains(b.host.Capabilities, c) {
		return true
	}
	if named {
		b.warn("%s can't be granted: this host's own processes don't have it; the container runs without", c)
	}
	return false
}

// allCapabilities is everything that can be granted here.
func (b *builder) allCapabilities() []string {
	if b.host.Capabilities != nil {
		return slices.Clone(b.host.Capabilities)
	}
	return knownCapabilities()
}

// capabilityNames normalises names: with or without CAP_, in any case.
func (b *builder) capabilityNames(field string, names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, n := range names {
		c := strings.ToUpper(strings.TrimSpace(n))
		if !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if !slices.Contains(knownCapabilities(), c) {
			return nil, invalid("%s %q: no such capability; see capabilities(7), for example NET_ADMIN", field, n)
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}
