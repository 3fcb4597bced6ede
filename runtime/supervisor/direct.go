package supervisor

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/supervisor/enter"
)

// An exec that needs nothing unusual is done by runtime/supervisor/enter: see there for why, and why it is safe.
// What is not, or cannot be on this kernel, is libcontainer's as before.

// unfit says why an exec is left to libcontainer; "" when it need not be.
func unfit(c *configs.Config, p *specs.Process) string {
	for _, check := range []struct {
		found bool
		what  string
	}{
		{p.Terminal, "a terminal"},
		{c.RootlessEUID || c.RootlessCgroups, "no root"},
		{c.Cgroups == nil || c.Cgroups.Systemd, "systemd's cgroups"},
		{c.Cgroups != nil && c.Cgroups.Resources != nil && c.Cgroups.SkipDevices, "a container being updated"},
		{p.SelinuxLabel != "" || c.ProcessLabel != "", "a SELinux label"},
		{p.ApparmorProfile != "" || c.AppArmorProfile != "", "an AppArmor profile"},
		{p.Scheduler != nil || c.Scheduler != nil, "a scheduler"},
		{p.IOPriority != nil || c.IOPriority != nil, "an io priority"},
		{p.ExecCPUAffinity != nil || c.ExecCPUAffinity != nil, "a processor affinity"},
		{c.Personality != nil, "a personality"},
		{c.MemoryPolicy != nil, "a memory policy"},
		{c.IntelRdt != nil, "Intel RDT"},
		{c.ParentDeathSignal > 0, "a parent death signal"},
		{p.Capabilities == nil, "no capability sets"},
	} {
		if check.found {
			return check.what
		}
	}
	for _, text := range slices.Concat(p.Args, p.Env, []string{p.Cwd}) {
		if strings.ContainsRune(text, 0) {
			return "a NUL byte"
		}
	}
	if p.Cwd == "" || len(p.Args) == 0 || p.Args[0] == "" {
		return "a command or directory that is missing"
	}
	return ""
}

// environment is what libcontainer makes of one: the last value of a name counts. found is false when it would look
// HOME up in the container, or refuse.
func environment(env []string) (out []string, found bool) {
	home := false
	seen := map[string]bool{}
	for _, kv := range slices.Backward(env) {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, false
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		if name == "HOME" {
			if value == "" {
				return nil, false
			}
			home = true
		}
		out = append(out, kv)
	}
	slices.Reverse(out)
	return out, home
}

// candidates are the paths that a look-up of a program tries; none when one of them would depend on the directory, which
// os/exec refuses.
func candidates(program string, env []string) []string {
	if strings.Contains(program, "/") {
		return []string{program}
	}
	var list []string
	for _, kv := range env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if !path.IsAbs(dir) {
				return nil
			}
			list = append(list, path.Join(dir, program))
		}
	}
	return list
}

// namespacesOf says which namespaces are taken from the container's first process, and which by their names, because the
// configuration has them so. The user namespace is taken from the process: it comes last.
func namespacesOf(list configs.Namespaces) (flags int, paths []string) {
	for _, kind := range configs.NamespaceTypes() {
		for _, ns := range list {
			switch {
			case ns.Type != kind:
			case ns.Path != "" && kind != configs.NEWUSER:
				paths = append(paths, ns.Path)
			default:
				flags |= ns.Syscall()
			}
		}
	}
	return flags, paths
}

// capabilitiesOf leaves out, as libcontainer does, what this kernel does not know.
func capabilitiesOf(c *specs.LinuxCapabilities) (enter.Capabilities, error) {
	supported, err := capability.ListSupported()
	if err != nil {
		return enter.Capabilities{}, err
	}
	last, err := capability.LastCap()
	if err != nil {
		return enter.Capabilities{}, err
	}
	bits := map[string]uint64{}
	for _, one := range supported {
		bits["CAP_"+strings.ToUpper(one.String())] = 1 << one
	}
	set := func(names []string) (all uint64) {
		for _, name := range names {
			all |= bits[name]
		}
		return all
	}
	return enter.Capabilities{
		Bounding: set(c.Bounding), Effective: set(c.Effective), Permitted: set(c.Permitted),
		Inheritable: set(c.Inheritable), Ambient: set(c.Ambient), Last: int(last),
	}, nil
}

// directRequest translates an exec, or says why it is left to libcontainer.
func directRequest(id string, c *configs.Config, p *specs.Process) (r enter.Request, why string) {
	if why := unfit(c, p); why != "" {
		return r, why
	}
	var ok bool
	if r.Environ, ok = environment(p.Env); !ok {
		return r, "an environment that libcontainer completes"
	}
	if r.Programs = candidates(p.Args[0], r.Environ); len(r.Programs) == 0 {
		return r, "a program that is not looked for in absolute directories"
	}
	r.Args, r.Cwd = p.Args, p.Cwd
	r.UID, r.GID, r.Groups = p.User.UID, p.User.GID, p.User.AdditionalGids
	r.NoNewPrivs, r.Umask = p.NoNewPrivileges, -1
	if c.Umask != nil {
		r.Umask = int(*c.Umask)
	}
	if c.OomScoreAdj != nil {
		r.OOMScoreAdj = strconv.Itoa(*c.OomScoreAdj)
	}
	if !c.NoNewKeyring {
		r.Keyring = "_ses." + id
	}
	r.Namespaces, r.Paths = namespacesOf(c.Namespaces)
	limits, err := rlimits(p.Rlimits)
	if err != nil {
		return r, err.Error()
	}
	if len(limits) == 0 {
		limits = c.Rlimits
	}
	for _, l := range limits {
		r.Rlimits = append(r.Rlimits, enter.Rlimit{Resource: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	if r.Capabilities, err = capabilitiesOf(p.Capabilities); err != nil {
		return r, err.Error()
	}
	return r, ""
}

// direct starts a process without libcontainer. When it returns an error, nothing was begun.
func (n *native) direct(ctr *libcontainer.Container, spec *specs.Process, io childIO, first *os.File) (int, error) {
	config := ctr.Config()
	r, why := directRequest(ctr.ID(), &config, spec)
	if why == "" && !exeseal.IsSelfExeCloned() {
		why = "a program file that is not sealed"
	}
	if why == "" && config.Seccomp != nil {
		var known bool
		if r.Filter, r.FilterFlags, known = n.filters.Final(config.Seccomp); !known {
			why = "a seccomp profile that is not compiled yet"
		}
	}
	if why != "" {
		return 0, fmt.Errorf("left to libcontainer: %s", why)
	}
	state, err := ctr.State()
	if err != nil {
		return 0, err
	}
	switch {
	case len(state.CgroupPaths) == 0:
		return 0, fmt.Errorf("left to libcontainer: cgroups that are not known")
	case cgroups.IsCgroup2UnifiedMode():
		r.Cgroup = state.CgroupPaths[""]
	default:
		for _, dir := range slices.Compact(slices.Sorted(maps.Values(state.CgroupPaths))) {
			r.Procs = append(r.Procs, filepath.Join(dir, "cgroup.procs"))
		}
	}
	r.First, r.Stdin, r.Stdout, r.Stderr = first, io.stdin, io.stdout, io.stderr
	return enter.Start(r)
}
