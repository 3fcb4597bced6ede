package spec

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestNotify(t *testing.T) {
	nosys, perm := uint(38), uint(1)
	f := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read", "mount"}, Action: specs.ActAllow},
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &nosys},
		{Names: []string{"mkdir"}, Action: specs.ActErrno, ErrnoRet: &perm},
		{Names: []string{"write"}, Action: specs.ActKill},
	}}
	Notify(f, "/run/socket", "ns/id")
	var actions []string
	for _, c := range f.Syscalls[:4] {
		actions = append(actions, string(c.Action))
	}
	if want := []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL"}; !slices.Equal(actions, want) {
		t.Errorf("actions %v", actions)
	}
	if more := f.Syscalls[4]; !slices.Contains(more.Names, "unshare") || slices.Contains(more.Names, "mount") || more.Action != specs.ActNotify {
		t.Errorf("what the default action forbids: %+v", more)
	}
	if f.ListenerPath != "/run/socket" || f.ListenerMetadata != "ns/id" || checkSeccomp(f) != nil {
		t.Errorf("%+v", f)
	}
	allows := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}}}
	Notify(allows, "/run/socket", "ns/id")
	if allows.ListenerPath != "" {
		t.Errorf("nothing is forbidden, and somebody is asked: %+v", allows)
	}
}
