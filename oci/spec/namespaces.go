package spec

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// namespaceOrder is every namespace of the runtime spec, in the order they are written.
func namespaceOrder() []specs.LinuxNamespaceType {
	return []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.MountNamespace, specs.NetworkNamespace, specs.CgroupNamespace, specs.TimeNamespace,
	}
}

// namespacesRule decides which namespaces are made, joined or the host's.
// https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#namespaces
func namespacesRule(b *builder) error {
	modes, err := namespaceModes(b.req.Namespaces)
	if err != nil {
		return err
	}
	for _, t := range namespaceOrder() {
		mode := modes[t]
		if mode == "" {
			mode = b.defaultNamespace(t)
		}
		if mode == "host" {
			if t == specs.MountNamespace {
				return invalid("mount namespace host: a container always has its own mounts; bind / with rshared propagation to see the host's")
			}
			continue
		}
		path, err := b.namespacePath(t, mode)
		if err != nil {
			return err
		}
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	if err := b.idMaps(); err != nil {
		return err
	}
	return b.timeOffsets()
}

// namespaceModes normalises the request's keys: net and mnt are what the kernel calls network and mount.
func namespaceModes(asked map[string]string) (map[specs.LinuxNamespaceType]string, error) {
	known := namespaceOrder()
	modes := make(map[specs.LinuxNamespaceType]string, len(asked))
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		t := specs.LinuxNamespaceType(key)
		switch key {
		case "net":
			t = specs.NetworkNamespace
		case "mnt":
			t = specs.MountNamespace
		}
		if !slices.Contains(known, t) {
			return nil, invalid("namespace %q: there are user, pid, ipc, uts, mount, network, cgroup and time", key)
		}
		if _, twice := modes[t]; twice {
			return nil, invalid("namespace %s is given twice, as %q too", t, key)
		}
		modes[t] = asked[key]
	}
	return modes, nil
}

// defaultNamespace is the mode of a namespace the request is silent on. The cgroup namespace is private where cgroups
// are unified, as with containerd and Docker: on v1 programs expect to see the host's paths.
func (b *builder) defaultNamespace(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.UserNamespace:
		if len(b.req.UIDMap) > 0 || len(b.req.GIDMap) > 0 {
			return "private"
		}
		return "host"
	case specs.CgroupNamespace:
		if b.host.CgroupMode == cgroupV2 {
			return "private"
		}
		return "host"
	case specs.TimeNamespace:
		if len(b.req.TimeOffsets) > 0 {
			return "private"
		}
		return "host"
	}
	return "private"
}

// namespacePath is the file of a namespace to join, or empty for a new one.
func (b *builder) namespacePath(t specs.LinuxNamespaceType, mode string) (string, error) {
	if missing := b.host.MissingNamespaces; slices.Contains(missing, string(t)) {
		return "", unable("%s namespace: this kernel (%s) has none", t, b.host.Kernel)
	}
	kind, value, _ := strings.Cut(mode, ":")
	switch {
	case mode == "private":
		return "", nil
	case kind == "path" && filepath.IsAbs(value):
		return filepath.Clean(value), nil
	case kind == "path":
		return "", invalid("%s namespace %q: the path must be absolute, like path:/proc/123/ns/net", t, mode)
	case kind == "container" && value != "":
		if b.in.NamespacePaths == nil {
			return "", fmt.Errorf("%s namespace of container %s: no container is known here: %w", t, value, errdefs.ErrNotFound)
		}
		path, err := b.in.NamespacePaths(value, string(t))
		if err != nil {
			return "", fmt.Errorf("%s namespace of container %s: %w", t, value, err)
		}
		return path, nil
	}
	return "", invalid("%s namespace %q: use private, host, container:ID or path:/FILE", t, mode)
}

// namespace tells whether the container has a namespace other than the host's, and the path when it joins one.
func (b *builder) namespace(t specs.LinuxNamespaceType) (own bool, path string) {
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type == t {
			return true, ns.Path
		}
	}
	return false, ""
}

// idMaps sets the user namespace's mappings. https://man7.org/linux/man-pages/man7/user_namespaces.7.html
func (b *builder) idMaps() error {
	own, path := b.namespace(specs.UserNamespace)
	uids, gids := b.req.UIDMap, b.req.GIDMap
	if !own {
		if len(uids) > 0 || len(gids) > 0 {
			return invalid("uid and gid maps need a user namespace, and the host's is asked for")
		}
		return nil
	}
	if path == "" && (len(uids) == 0 || len(gids) == 0) {
		return invalid("a private user namespace needs a uid map and a gid map, like 0:100000:65536")
	}
	if err := checkMap("uid map", uids); err != nil {
		return err
	}
	if err := checkMap("gid map", gids); err != nil {
		return err
	}
	b.spec.Linux.UIDMappings = slices.Clone(uids)
	b.spec.Linux.GIDMappings = slices.Clone(gids)
	return nil
}

// checkMap refuses what the kernel would with a bare EINVAL: empty, overflowing or overlapping ranges, more than 340
// (Linux 4.15).
func checkMap(name string, m []specs.LinuxIDMapping) error {
	if len(m) > 340 {
		return invalid("%s has %d lines: the kernel takes 340", name, len(m))
	}
	for i, a := range m {
		if a.Size == 0 {
			return invalid("%s %s: the size is 0", name, showMap(m[i:i+1]))
		}
		if uint64(a.ContainerID)+uint64(a.Size) > 1<<32-1 || uint64(a.HostID)+uint64(a.Size) > 1<<32-1 {
			return invalid("%s %s: it goes past the last id, %d", name, showMap(m[i:i+1]), uint32(maxID))
		}
		for j, c := range m[:i] {
			if overlap(a.ContainerID, c.ContainerID, a.Size, c.Size) || overlap(a.HostID, c.HostID, a.Size, c.Size) {
				return invalid("%s: %s and %s overlap", name, showMap(m[j:j+1]), showMap(m[i:i+1]))
			}
		}
	}
	return nil
}

func overlap(a, b, aSize, bSize uint32) bool {
	return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
}

func mapped(m []specs.LinuxIDMapping, id uint32) bool {
	return slices.ContainsFunc(m, func(r specs.LinuxIDMapping) bool { return id >= r.ContainerID && id-r.ContainerID < r.Size })
}

// showMap writes a map as the flags take it: container:host:size, comma separated.
func showMap(m []specs.LinuxIDMapping) string {
	parts := make([]string, len(m))
	for i, r := range m {
		parts[i] = fmt.Sprintf("%d:%d:%d", r.ContainerID, r.HostID, r.Size)
	}
	return strings.Join(parts, ",")
}

// timeOffsets sets the clocks of a time namespace (Linux 5.6; time_namespaces(7)): monotonic and boottime are the two
// that can be moved.
func (b *builder) timeOffsets() error {
	if len(b.req.TimeOffsets) == 0 {
		return nil
	}
	own, path := b.namespace(specs.TimeNamespace)
	if !own || path != "" {
		return invalid("time offsets need a time namespace of the container's own")
	}
	for _, clock := range slices.Sorted(maps.Keys(b.req.TimeOffsets)) {
		if clock != "monotonic" && clock != "boottime" {
			return invalid("time offset %q: only the clocks monotonic and boottime can be moved", clock)
		}
		if n := b.req.TimeOffsets[clock].Nanosecs; n > 999_999_999 {
			return invalid("time offset %s: %d nanoseconds make a second or more; put whole seconds into secs", clock, n)
		}
	}
	b.spec.Linux.TimeOffsets = maps.Clone(b.req.TimeOffsets)
	return nil
}
