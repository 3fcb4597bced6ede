package bundle

import (
	"fmt"
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// linux checks the parts that only a container on Linux has.
func (c *complaints) linux(s *specs.Spec) {
	l := s.Linux
	has := c.namespaces(l.Namespaces)
	if !has[specs.MountNamespace] {
		c.add("linux.namespaces", "has no mount namespace: a root filesystem needs one")
	}
	if s.Hostname != "" && !has[specs.UTSNamespace] {
		c.add("hostname", "%q would be the host's too: add a uts namespace, or leave it out", s.Hostname)
	}
	if s.Domainname != "" && !has[specs.UTSNamespace] {
		c.add("domainname", "%q would be the host's too: add a uts namespace, or leave it out", s.Domainname)
	}
	if (len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0) && !has[specs.UserNamespace] {
		c.add("linux.uidMappings", "need a user namespace: add one, or leave the mappings out")
	}
	if len(l.TimeOffsets) > 0 && !has[specs.TimeNamespace] {
		c.add("linux.timeOffsets", "need a time namespace: add one, or leave the offsets out")
	}
	if len(l.NetDevices) > 0 && !has[specs.NetworkNamespace] {
		c.add("linux.netDevices", "need a network namespace: add one, or leave the devices out")
	}
	c.ids(s)
	c.devices(l.Devices)
	c.hidden("linux.maskedPaths", l.MaskedPaths)
	c.hidden("linux.readonlyPaths", l.ReadonlyPaths)
	if !slices.Contains([]string{"", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"}, l.RootfsPropagation) {
		c.add("linux.rootfsPropagation", "%q is unknown; use private, slave, shared or unbindable", l.RootfsPropagation)
	}
	c.seccomp(l.Seccomp)
	c.resources(l.Resources)
}

func (c *complaints) namespaces(list []specs.LinuxNamespace) map[specs.LinuxNamespaceType]bool {
	known := []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
	}
	has := make(map[specs.LinuxNamespaceType]bool, len(list))
	for i, ns := range list {
		field := fmt.Sprintf("linux.namespaces[%d]", i)
		if !slices.Contains(known, ns.Type) {
			c.add(field+".type", "%q is unknown; use one of %v", ns.Type, known)
		}
		if has[ns.Type] {
			c.add(field+".type", "%s is given twice: keep one", ns.Type)
		}
		if ns.Path != "" && !path.IsAbs(ns.Path) {
			c.add(field+".path", "%q must be absolute", ns.Path)
		}
		has[ns.Type] = true
	}
	return has
}

// ids checks the mappings and that a user namespace made here can hold the process's user.
func (c *complaints) ids(s *specs.Spec) {
	for field, m := range map[string][]specs.LinuxIDMapping{"linux.uidMappings": s.Linux.UIDMappings, "linux.gidMappings": s.Linux.GIDMappings} {
		for i, r := range m {
			if r.Size == 0 {
				c.add(fmt.Sprintf("%s[%d].size", field, i), "is 0")
			}
			if uint64(r.ContainerID)+uint64(r.Size) > 1<<32 || uint64(r.HostID)+uint64(r.Size) > 1<<32 {
				c.add(fmt.Sprintf("%s[%d]", field, i), "goes past the last id")
			}
		}
	}
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.UserNamespace && ns.Path == "" && (len(s.Linux.UIDMappings) == 0 || len(s.Linux.GIDMappings) == 0) {
			c.add("linux.uidMappings", "and gidMappings are needed by a new user namespace")
		}
	}
	if s.Process == nil {
		return
	}
	if m := s.Linux.UIDMappings; len(m) > 0 && !holds(m, s.Process.User.UID) {
		c.add("process.user.uid", "%d isn't mapped in the user namespace", s.Process.User.UID)
	}
	if m := s.Linux.GIDMappings; len(m) > 0 && !holds(m, s.Process.User.GID) {
		c.add("process.user.gid", "%d isn't mapped in the user namespace", s.Process.User.GID)
	}
}

func holds(m []specs.LinuxIDMapping, id uint32) bool {
	return slices.ContainsFunc(m, func(r specs.LinuxIDMapping) bool { return id >= r.ContainerID && id-r.ContainerID < r.Size })
}

func (c *complaints) devices(devices []specs.LinuxDevice) {
	seen := make(map[string]bool)
	for i, d := range devices {
		field := fmt.Sprintf("linux.devices[%d]", i)
		if !path.IsAbs(d.Path) {
			c.add(field+".path", "%q must be absolute", d.Path)
		}
		if seen[d.Path] {
			c.add(field+".path", "%s is given twice: keep one", d.Path)
		}
		if !slices.Contains([]string{"c", "b", "u", "p"}, d.Type) {
			c.add(field+".type", "%q is unknown; use c, b, u or p", d.Type)
		}
		seen[d.Path] = true
	}
}

func (c *complaints) hidden(field string, paths []string) {
	for _, p := range paths {
		if !path.IsAbs(p) {
			c.add(field, "%q must be absolute", p)
		}
	}
}

func (c *complaints) seccomp(f *specs.LinuxSeccomp) {
	if f == nil {
		return
	}
	if !slices.Contains(seccompActions(), f.DefaultAction) {
		c.add("linux.seccomp.defaultAction", "%q is unknown; for example SCMP_ACT_ERRNO", f.DefaultAction)
	}
	for _, a := range f.Architectures {
		if !slices.Contains(seccompArchitectures(), a) {
			c.add("linux.seccomp.architectures", "%q is unknown; for example SCMP_ARCH_X86_64", a)
		}
	}
	for i, rule := range f.Syscalls {
		field := fmt.Sprintf("linux.seccomp.syscalls[%d]", i)
		if len(rule.Names) == 0 {
			c.add(field+".names", "is empty: name at least one system call")
		}
		if !slices.Contains(seccompActions(), rule.Action) {
			c.add(field+".action", "%q is unknown; for example SCMP_ACT_ALLOW", rule.Action)
		}
		for _, a := range rule.Args {
			if a.Index > 5 {
				c.add(field+".args", "index %d: a system call has the arguments 0 to 5", a.Index)
			}
			if !slices.Contains(seccompOperators(), a.Op) {
				c.add(field+".args", "operator %q is unknown; for example SCMP_CMP_EQ", a.Op)
			}
		}
	}
}

func (c *complaints) resources(r *specs.LinuxResources) {
	if r == nil {
		return
	}
	for i, d := range r.Devices {
		for _, letter := range d.Access {
			if letter != 'r' && letter != 'w' && letter != 'm' {
				c.add(fmt.Sprintf("linux.resources.devices[%d].access", i), "%q has a letter other than r, w, m", d.Access)
				break
			}
		}
	}
	if m := r.Memory; m != nil && m.Limit != nil && m.Swap != nil && *m.Swap > 0 && *m.Limit > 0 && *m.Swap < *m.Limit {
		c.add("linux.resources.memory.swap", "%d is memory and swap together, and below the limit %d", *m.Swap, *m.Limit)
	}
}
