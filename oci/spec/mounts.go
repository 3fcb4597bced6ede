package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultShmSize is what Docker and containerd give /dev/shm, in bytes.
const defaultShmSize = 64 << 20

// defaultMounts is what every container has unless the request says otherwise. Each mount costs start-up time, so each
// has a reason.
func defaultMounts(shm int64) []specs.Mount {
	return []specs.Mount{
		// Programs read their own state there; the runtime itself needs it to drop privileges. Required by the runtime spec.
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		// The image's /dev must not be written to, and the runtime makes null, zero, full, random, urandom and tty in it.
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		// Terminals of the container's own: openpty(3) in the container, and the console. gid 5 is tty wherever there is one.
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		// POSIX shared memory and semaphores (shm_open(3)): databases and browsers fail without it.
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}},
		// POSIX message queues by name (mq_overview(7)); the IPC namespace's, so it is safe to show.
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		// Network and device facts; read-only because most of it is the host's. Required by the runtime spec.
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		// Language runtimes size heaps and threads by it. The type cgroup is the runtime's: on v1 and hybrid hosts a tmpfs
		// with the container's directory of each hierarchy, on v2 one cgroup2.
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
}

// defaultMountsRule adds the default mounts that no mount of the request replaces, adapted to the namespaces.
func defaultMountsRule(b *builder) error {
	shm := b.req.ShmSize
	if shm < 0 {
		return invalid("shm size %d: it can't be negative", shm)
	}
	if shm == 0 {
		shm = b.in.Defaults.ShmSize
	}
	if shm == 0 {
		shm = defaultShmSize
	}
	if b.req.NoDefaultMounts {
		return nil
	}
	replaced := b.requestedTargets()
	for _, m := range defaultMounts(shm) {
		if replaced[m.Destination] || (replaced["/dev"] && strings.HasPrefix(m.Destination, "/dev/")) {
			continue
		}
		if adapted, keep := b.adaptMount(m); keep {
			b.spec.Mounts = append(b.spec.Mounts, adapted)
		}
	}
	return nil
}

// requestedTargets is where the request mounts something itself.
func (b *builder) requestedTargets() map[string]bool {
	targets := make(map[string]bool, len(b.req.Mounts)+len(b.req.Tmpfs))
	for _, m := range b.req.Mounts {
		targets[path.Clean(m.Target)] = true
	}
	for t := range b.req.Tmpfs {
		targets[path.Clean(t)] = true
	}
	return targets
}

// adaptMount changes a default mount to what the namespaces allow. The kernel lets a user namespace mount proc, sysfs
// and mqueue only where it owns the PID, network and IPC namespace; the host's are bound instead.
func (b *builder) adaptMount(m specs.Mount) (specs.Mount, bool) {
	user, _ := b.namespace(specs.UserNamespace)
	bind := func() specs.Mount {
		m.Type, m.Source = "bind", m.Destination
		m.Options = append([]string{"rbind", "nosuid", "noexec", "nodev"}, readOnlyOf(m.Options)...)
		return m
	}
	switch m.Destination {
	case "/proc":
		if own, _ := b.namespace(specs.PIDNamespace); user && !own {
			return bind(), true
		}
	case "/dev/pts":
		if user && len(b.spec.Linux.GIDMappings) > 0 && !mapped(b.spec.Linux.GIDMappings, 5) {
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "gid=5" })
		}
	case "/dev/shm", "/dev/mqueue":
		queues := m.Destination == "/dev/mqueue"
		if !queues && b.req.NoShm {
			return m, false
		}
		if queues && b.host.NoMqueue {
			return m, false
		}
		if own, _ := b.namespace(specs.IPCNamespace); !own { // shared with the host, or its names would not be
			return bind(), !queues || !b.host.NoHostMqueue
		}
	case "/sys":
		b.privilegedWritable(&m)
		if own, _ := b.namespace(specs.NetworkNamespace); user && !own {
			return bind(), true
		}
	case "/sys/fs/cgroup":
		own, _ := b.namespace(specs.CgroupNamespace)
		if (b.in.Defaults.CgroupWritable || b.req.CgroupWritable) && own && b.host.CgroupMode == cgroupV2 {
			makeWritable(&m)
		}
		b.privilegedWritable(&m)
	}
	return m, true
}

func (b *builder) privilegedWritable(m *specs.Mount) {
	if b.req.Privileged {
		makeWritable(m)
	}
}

func makeWritable(m *specs.Mount) {
	m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
	m.Options = append(m.Options, "rw")
}

func readOnlyOf(options []string) []string {
	if slices.Contains(options, "ro") {
		return []string{"ro"}
	}
	return nil
}

// tmpfsRule adds the request's tmpfs mounts: nosuid, nodev and noexec unless the options say otherwise, as Docker.
func tmpfsRule(b *builder) error {
	for _, target := range slices.Sorted(maps.Keys(b.req.Tmpfs)) {
		options := []string{"nosuid", "nodev", "noexec"}
		for o := range strings.SplitSeq(b.req.Tmpfs[target], ",") {
			if o = strings.TrimSpace(o); o == "" {
				continue
			}
			options = slices.DeleteFunc(options, func(have string) bool { return "no"+o == have || have == o })
			options = append(options, o)
		}
		m, err := b.mount(Mount{Type: "tmpfs", Source: "tmpfs", Target: target, Options: options})
		if err != nil {
			return err
		}
		b.spec.Mounts = append(b.spec.Mounts, m)
	}
	return nil
}

// mountsRule adds the request's mounts, and orders all that the user asked for so that a mount never hides one made
// before it below its own target.
func mountsRule(b *builder) error {
	defaults := len(b.spec.Mounts) - len(b.req.Tmpfs)
	for _, m := range b.req.Mounts {
		made, err := b.mount(m)
		if err != nil {
			return err
		}
		b.spec.Mounts = append(b.spec.Mounts, made)
		b.letThrough(made)
	}
	slices.SortStableFunc(b.spec.Mounts[defaults:], func(x, y specs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	return nil
}

// letThrough makes the root let mounts pass that are to show on the host: in the mount namespace of the container all
// mounts are slaves of the host's first, unless its root is shared, and what is mounted below a slave stays there
// (mount_namespaces(7)).
func (b *builder) letThrough(m specs.Mount) {
	shared := slices.Contains(m.Options, "shared") || slices.Contains(m.Options, "rshared")
	if shared && b.spec.Linux.RootfsPropagation == "" {
		b.spec.Linux.RootfsPropagation = "rshared"
	}
}

// mount checks one mount of the request and makes the document's. Errors name the target.
func (b *builder) mount(m Mount) (specs.Mount, error) {
	if !path.IsAbs(m.Target) {
		return specs.Mount{}, invalid("mount %q: the target must be absolute, like /data", m.Target)
	}
	target := path.Clean(m.Target)
	if target == "/" {
		return specs.Mount{}, invalid("mount /: the container's root can't be mounted over; give a rootfs instead")
	}
	out := specs.Mount{
		Destination: target, Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options),
		UIDMappings: slices.Clone(m.UIDMap), GIDMappings: slices.Clone(m.GIDMap),
	}
	if isBind(m.Options) || (m.Type == "" && path.IsAbs(m.Source)) {
		out.Type = "bind"
	}
	switch {
	case out.Type == "":
		return specs.Mount{}, invalid("mount %s: it has no type; use bind, tmpfs or a filesystem's name", target)
	case out.Type == "bind":
		if !path.IsAbs(m.Source) {
			return specs.Mount{}, invalid("mount %s: the source %q of a bind must be an absolute path of the host", target, m.Source)
		}
		if !isBind(out.Options) {
			out.Options = append([]string{"rbind"}, out.Options...)
		}
	case out.Source == "":
		out.Source = out.Type
	}
	if err := b.checkMountOptions(out); err != nil {
		return specs.Mount{}, err
	}
	return out, b.checkIDMapped(out)
}

func isBind(options []string) bool {
	return slices.Contains(options, "bind") || slices.Contains(options, "rbind")
}

// checkMountOptions refuses options that contradict each other or that this kernel cannot do.
func (b *builder) checkMountOptions(m specs.Mount) error {
	for _, pair := range [][2]string{{"ro", "rw"}, {"rro", "rrw"}, {"rro", "rw"}} {
		if slices.Contains(m.Options, pair[0]) && slices.Contains(m.Options, pair[1]) {
			return invalid("mount %s: options %s and %s contradict each other", m.Destination, pair[0], pair[1])
		}
	}
	propagation := ""
	for _, o := range m.Options {
		if o == "" || strings.ContainsRune(o, 0) {
			return invalid("mount %s: option %q is empty or has a NUL byte", m.Destination, o)
		}
		switch o {
		case "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
			if propagation != "" && propagation != o {
				return invalid("mount %s: propagations %s and %s contradict each other", m.Destination, propagation, o)
			}
			propagation = o
		case "rro", "rnosuid", "rnodev", "rnoexec", "rrelatime", "rnoatime":
			if b.host.KernelBefore(5, 12) {
				return unable("mount %s: option %s needs Linux 5.12, and this is %s", m.Destination, o, b.host.Kernel)
			}
		}
	}
	return nil
}

// checkIDMapped checks a mount whose files appear under other owners (mount_setattr(2), Linux 5.12).
func (b *builder) checkIDMapped(m specs.Mount) error {
	flagged := slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
	if !flagged && len(m.UIDMappings) == 0 && len(m.GIDMappings) == 0 {
		return nil
	}
	switch {
	case m.Type != "bind":
		return invalid("mount %s: only a bind can be idmapped, and this is of type %s", m.Destination, m.Type)
	case b.host.KernelBefore(5, 12):
		return unable("mount %s: idmapped mounts need Linux 5.12, and this is %s", m.Destination, b.host.Kernel)
	case (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0):
		return invalid("mount %s: an idmapped mount needs both a uid map and a gid map", m.Destination)
	case len(m.UIDMappings) == 0 && len(b.spec.Linux.UIDMappings) == 0:
		return invalid("mount %s: idmap without maps takes the container's user namespace, and it has none; give maps", m.Destination)
	}
	if err := checkMap("mount "+m.Destination+": uid map", m.UIDMappings); err != nil {
		return err
	}
	return checkMap("mount "+m.Destination+": gid map", m.GIDMappings)
}
