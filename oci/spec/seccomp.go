package spec

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxSeccompProfile bounds a profile, in bytes; the default one has about 20,000.
const maxSeccompProfile = 1 << 20

// seccompRule sets the system call filter. The default profile and Docker's format depend on the capabilities that
// were granted: mount(2) is allowed to who has CAP_SYS_ADMIN.
func seccompRule(b *builder) error {
	profile := b.req.SeccompProfile
	mode := b.req.Seccomp
	implicit := mode == "" && len(profile) == 0
	switch {
	case len(profile) > 0:
	case mode == "unconfined", implicit && b.req.Privileged:
		return nil
	case mode == "" || mode == "default" || mode == "builtin" || mode == "runtime/default":
		profile = b.in.Defaults.SeccompProfile
	default:
		var err error
		if profile, err = readSeccompProfile(mode); err != nil {
			return err
		}
	}
	if b.host.NoSeccomp {
		if implicit {
			b.warn("this kernel has no seccomp filters: the container's system calls are not restricted")
			return nil
		}
		return unable("seccomp profile: this kernel has no seccomp filters; use unconfined")
	}
	filter, err := seccompFilter(profile, b.spec)
	if err != nil {
		return err
	}
	if len(profile) == 0 {
		filter.Architectures = runnable(filter.Architectures, b.host.NoSeccompArches)
	}
	b.spec.Linux.Seccomp = filter
	return nil
}

// runnable leaves out of the default profile the architectures that this kernel does not run. Each one costs the
// container's start about 10 ms of compiling, more than all else that a document asks for, and without it the filter is
// stricter, not laxer: calls of an architecture that it does not have are killed.
func runnable(arches []specs.Arch, missing []string) []specs.Arch {
	return slices.DeleteFunc(slices.Clone(arches), func(a specs.Arch) bool { return slices.Contains(missing, string(a)) })
}

// seccompFilter makes the document's filter of a profile, or of the library's default one when it is empty.
func seccompFilter(profile []byte, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	if len(profile) == 0 {
		return seccomp.GetDefaultProfile(s)
	}
	if len(profile) > maxSeccompProfile {
		return nil, invalid("profile has %d bytes: the limit is %d", len(profile), maxSeccompProfile)
	}
	var parsed seccomp.Seccomp
	if err := json.Unmarshal(profile, &parsed); err != nil {
		return nil, invalid("profile isn't valid JSON of Docker's or the runtime spec's form: %v", err)
	}
	if slices.Contains(parsed.Syscalls, nil) {
		return nil, invalid("profile has a null in its syscalls")
	}
	filter, err := seccomp.LoadProfile(string(profile), s)
	if err != nil {
		return nil, invalid("profile: %v", err)
	}
	if filter == nil {
		return nil, invalid("profile has neither defaultAction nor syscalls; use unconfined for no filter")
	}
	return filter, checkSeccomp(filter)
}

// checkSeccomp refuses what libseccomp would with a bare EINVAL.
func checkSeccomp(f *specs.LinuxSeccomp) error {
	if !knownAction(f.DefaultAction) {
		return invalid("defaultAction %q is unknown: use SCMP_ACT_ERRNO, SCMP_ACT_ALLOW or another of the runtime spec", f.DefaultAction)
	}
	notify := f.DefaultAction == specs.ActNotify
	for _, c := range f.Syscalls {
		if len(c.Names) == 0 {
			return invalid("a rule with action %s names no system call", c.Action)
		}
		if !knownAction(c.Action) {
			return invalid("action %q of %s is unknown", c.Action, c.Names[0])
		}
		notify = notify || c.Action == specs.ActNotify
		for _, a := range c.Args {
			if a.Index > 5 {
				return invalid("%s: argument %d: a system call has 0 to 5", c.Names[0], a.Index)
			}
			if !knownOperator(a.Op) {
				return invalid("%s: operator %q is unknown", c.Names[0], a.Op)
			}
		}
	}
	if notify && f.ListenerPath == "" {
		return invalid("SCMP_ACT_NOTIFY needs a listenerPath")
	}
	return nil
}

func knownAction(a specs.LinuxSeccompAction) bool {
	switch a {
	case specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace,
		specs.ActAllow, specs.ActLog, specs.ActNotify:
		return true
	}
	return false
}

func knownOperator(o specs.LinuxSeccompOperator) bool {
	switch o {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
		specs.OpGreaterThan, specs.OpMaskedEqual:
		return true
	}
	return false
}

// readSeccompProfile reads a profile of the host by its path.
func readSeccompProfile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("profile %s isn't on this host; the other words are default and unconfined: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, invalid("profile: %v", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, invalid("profile %s isn't a file", path)
	}
	return io.ReadAll(io.LimitReader(f, maxSeccompProfile+1))
}
