package spec

import (
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// sysctlsRule sets kernel parameters of the container's own namespaces. One that belongs to the host's is refused:
// writing it would change the host. Defaults of the daemon apply only where they can.
func sysctlsRule(b *builder) error {
	set := make(map[string]string, len(b.in.Defaults.Sysctls)+len(b.req.Sysctls))
	for name, value := range b.in.Defaults.Sysctls {
		name = sysctlName(name)
		if t, ok := SysctlNamespace(name); ok && b.makes(t) {
			set[name] = value
		}
	}
	for _, asked := range slices.Sorted(maps.Keys(b.req.Sysctls)) {
		name := sysctlName(asked)
		if name == "" || strings.Contains(name, "..") || strings.ContainsAny(name, " \x00") {
			return invalid("sysctl %q isn't a parameter's name", asked)
		}
		if err := b.checkSysctl(name); err != nil {
			return err
		}
		set[name] = b.req.Sysctls[asked]
	}
	if len(set) > 0 {
		b.spec.Linux.Sysctl = set
	}
	return nil
}

// makes tells whether the container gets a namespace that is new, not joined: its parameters are nobody else's.
func (b *builder) makes(t specs.LinuxNamespaceType) bool {
	own, path := b.namespace(t)
	if t == specs.NetworkNamespace { // the network's is made ahead by the daemon and joined by path
		return own
	}
	return own && path == ""
}

func (b *builder) checkSysctl(name string) error {
	if name == "kernel.hostname" {
		return invalid("sysctl kernel.hostname: use the hostname")
	}
	t, namespaced := SysctlNamespace(name)
	if !namespaced {
		return invalid("sysctl %s belongs to no namespace and would change the host: set it there", name)
	}
	if own, _ := b.namespace(t); !own {
		return invalid("sysctl %s: the container shares the host's %s namespace, and the host would change: give it its own, or set it on the host", name, t)
	}
	return nil
}

// sysctlName spells a parameter with dots. sysctl(8): where the first separator is a slash, dots are part of names
// (net/ipv4/conf/eth0.1/forwarding); the document takes both, so such a name stays as it is.
func sysctlName(name string) string {
	name = strings.TrimSpace(strings.TrimPrefix(name, "/proc/sys/"))
	if at := strings.IndexAny(name, "./"); at >= 0 && name[at] == '/' && !strings.Contains(name, ".") {
		return strings.ReplaceAll(name, "/", ".")
	}
	return name
}

// SysctlNamespace tells the namespace of a kernel parameter: ipc_namespaces(7), network_namespaces(7), uts_namespaces(7).
func SysctlNamespace(name string) (specs.LinuxNamespaceType, bool) {
	dotted := strings.ReplaceAll(name, "/", ".")
	switch dotted {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
		"kernel.shmmni", "kernel.shm_rmid_forced", "kernel.auto_msgmni", "kernel.msg_next_id", "kernel.sem_next_id",
		"kernel.shm_next_id":
		return specs.IPCNamespace, true
	case "kernel.domainname":
		return specs.UTSNamespace, true
	}
	switch {
	case strings.HasPrefix(dotted, "fs.mqueue."):
		return specs.IPCNamespace, true
	case strings.HasPrefix(dotted, "net."):
		return specs.NetworkNamespace, true
	case strings.HasPrefix(dotted, "user."):
		return specs.UserNamespace, true
	}
	return "", false
}
