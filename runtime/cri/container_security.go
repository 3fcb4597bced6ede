package cri

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
)

// containerSecurity translates the security context.
func containerSecurity(r *spec.Request, sandbox *v1.PodSandboxConfig, s *v1.LinuxContainerSecurityContext, h *spec.Host) error {
	if s.GetPrivileged() && !sandbox.GetLinux().GetSecurityContext().GetPrivileged() {
		return invalid("a privileged container needs a privileged pod: set privileged in the pod's security context")
	}
	r.Privileged, r.ReadOnly = s.GetPrivileged(), s.GetReadonlyRootfs()
	r.AllowNewPrivileges = !s.GetNoNewPrivs()
	if err := containerNamespaces(r, sandbox, s.GetNamespaceOptions()); err != nil {
		return err
	}
	if err := containerUser(r, s); err != nil {
		return err
	}
	capabilities(r, s.GetCapabilities())
	if err := containerPaths(r, s); err != nil {
		return err
	}
	var err error
	//lint:ignore SA1019 older kubelets send nothing else
	if r.Seccomp, err = seccompProfile(s.GetSeccomp(), s.GetSeccompProfilePath(), s.GetPrivileged()); err != nil {
		return err
	}
	//lint:ignore SA1019 as above
	if r.AppArmor, err = apparmorProfile(s.GetApparmor(), s.GetApparmorProfile()); err != nil {
		return err
	}
	options := s.GetSelinuxOptions()
	if options == nil && h.SELinux {
		options = sandbox.GetLinux().GetSecurityContext().GetSelinuxOptions()
	}
	r.SELinuxOptions, err = selinuxOptions(options, h)
	return err
}

// containerNamespaces sets the mode of the PID namespace, the only one that containers of a pod may have of their own.
func containerNamespaces(r *spec.Request, sandbox *v1.PodSandboxConfig, o *v1.NamespaceOption) error {
	mode := ""
	switch o.GetPid() {
	case v1.NamespaceMode_POD:
	case v1.NamespaceMode_CONTAINER:
		mode = "private"
	case v1.NamespaceMode_NODE:
		mode = "host"
	case v1.NamespaceMode_TARGET:
		if o.GetTargetId() == "" || len(o.GetTargetId()) > 128 {
			return invalid("pid namespace mode TARGET: the target id is missing, or is none")
		}
		mode = "container:" + o.GetTargetId()
	default:
		return invalid("pid namespace mode %s: there are POD, CONTAINER, NODE and TARGET", o.GetPid())
	}
	if mode != "" {
		r.Namespaces = map[string]string{"pid": mode}
	}
	u := o.GetUsernsOptions()
	if u == nil {
		return nil
	}
	uids, gids, err := userNamespace(u)
	if err != nil {
		return err
	}
	podUIDs, podGIDs, err := userNamespace(sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions())
	if err != nil {
		return err
	}
	if !slices.Equal(uids, podUIDs) || !slices.Equal(gids, podGIDs) {
		return invalid("the container's user namespace is not that of its pod: give both the same mode and mappings")
	}
	return nil
}

// containerUser sets who the first process is. A name goes before a number; a group alone is not allowed by the CRI.
func containerUser(r *spec.Request, s *v1.LinuxContainerSecurityContext) error {
	switch {
	case s.GetRunAsUsername() != "":
		if strings.ContainsAny(s.GetRunAsUsername(), ":\x00\n") || len(s.GetRunAsUsername()) > 256 {
			return invalid("run_as_username %.64q: a user name has no colon, line break or NUL byte", s.GetRunAsUsername())
		}
		r.User = s.GetRunAsUsername()
	case s.GetRunAsUser() != nil:
		if !isID(s.GetRunAsUser().GetValue()) {
			return invalid("run_as_user %d: numbers go from 0 to 4294967294", s.GetRunAsUser().GetValue())
		}
		r.User = strconv.FormatInt(s.GetRunAsUser().GetValue(), 10)
	}
	if g := s.GetRunAsGroup(); g != nil {
		switch {
		case r.User == "":
			return invalid("run_as_group %d without run_as_user or run_as_username: set one of them too", g.GetValue())
		case !isID(g.GetValue()):
			return invalid("run_as_group %d: numbers go from 0 to 4294967294", g.GetValue())
		}
		r.User += ":" + strconv.FormatInt(g.GetValue(), 10)
	}
	if err := checkCount("supplemental groups", len(s.GetSupplementalGroups())); err != nil {
		return err
	}
	for _, g := range s.GetSupplementalGroups() {
		if !isID(g) {
			return invalid("supplemental group %d: numbers go from 0 to 4294967294", g)
		}
		r.Groups = append(r.Groups, strconv.FormatInt(g, 10))
	}
	switch s.GetSupplementalGroupsPolicy() {
	case v1.SupplementalGroupsPolicy_Merge:
		r.GroupPolicy = "merge"
	case v1.SupplementalGroupsPolicy_Strict:
		r.GroupPolicy = "strict"
	default:
		return invalid("supplemental groups policy %s: there are Merge and Strict", s.GetSupplementalGroupsPolicy())
	}
	return nil
}

func isID(n int64) bool { return n >= 0 && n <= 1<<32-2 }

// capabilities translates the three lists. An ambient capability is of use only to a process that is permitted it, so
// it is granted too.
func capabilities(r *spec.Request, c *v1.Capability) {
	r.CapAdd = slices.Clone(c.GetAddCapabilities())
	r.CapDrop = slices.Clone(c.GetDropCapabilities())
	r.CapAmbient = slices.Clone(c.GetAddAmbientCapabilities())
	for _, a := range r.CapAmbient {
		if !slices.Contains(r.CapAdd, a) {
			r.CapAdd = append(r.CapAdd, a)
		}
	}
}

// containerPaths sets what is hidden of /proc and /sys: the lists of the client as they are, also when they are empty,
// which is how it says that nothing is (procMount: Unmasked).
func containerPaths(r *spec.Request, s *v1.LinuxContainerSecurityContext) error {
	masked, readonly := []string{}, []string{}
	if !s.GetPrivileged() {
		masked, readonly = append(masked, s.GetMaskedPaths()...), append(readonly, s.GetReadonlyPaths()...)
	}
	for _, list := range [][]string{masked, readonly} {
		if err := checkCount("masked or read-only paths", len(list)); err != nil {
			return err
		}
		for _, p := range list {
			if !path.IsAbs(p) || strings.ContainsRune(p, 0) {
				return invalid("masked or read-only path %.128q: give an absolute path", p)
			}
		}
	}
	r.MaskedPaths, r.ReadonlyPaths = &masked, &readonly
	return nil
}

// seccompProfile gives a profile as spec.Request has it: the field, else the deprecated string, else unconfined. A
// privileged process is never filtered.
func seccompProfile(p *v1.SecurityProfile, old string, privileged bool) (string, error) {
	const unconfined = "unconfined"
	if privileged {
		return unconfined, nil
	}
	if p == nil {
		var err error
		if p, err = deprecatedProfile("seccomp", old); err != nil || p == nil {
			return unconfined, err
		}
	}
	switch p.GetProfileType() {
	case v1.SecurityProfile_RuntimeDefault:
		return "default", nil
	case v1.SecurityProfile_Unconfined:
		return unconfined, nil
	case v1.SecurityProfile_Localhost:
		return hostPath("seccomp profile", p.GetLocalhostRef())
	}
	return "", invalid("seccomp profile type %s: there are RuntimeDefault, Unconfined and Localhost", p.GetProfileType())
}

// apparmorProfile gives a profile as spec.Request has it; "" is the default of the host.
func apparmorProfile(p *v1.SecurityProfile, old string) (string, error) {
	if p == nil {
		var err error
		if p, err = deprecatedProfile("apparmor", old); err != nil || p == nil {
			return "", err
		}
	}
	switch p.GetProfileType() {
	case v1.SecurityProfile_RuntimeDefault:
		return "runtime/default", nil
	case v1.SecurityProfile_Unconfined:
		return "unconfined", nil
	case v1.SecurityProfile_Localhost:
		name := strings.TrimPrefix(p.GetLocalhostRef(), "localhost/")
		if name == "" || len(name) > 4096 || strings.ContainsAny(name, "\x00\n") {
			return "", invalid("apparmor profile %.64q: name one that is loaded on this host", p.GetLocalhostRef())
		}
		return "localhost/" + name, nil
	}
	return "", invalid("apparmor profile type %s: there are RuntimeDefault, Unconfined and Localhost", p.GetProfileType())
}

// deprecatedProfile reads the strings that came before the fields: runtime/default, unconfined, localhost/NAME.
func deprecatedProfile(what, old string) (*v1.SecurityProfile, error) {
	name, local := strings.CutPrefix(old, "localhost/")
	switch {
	case old == "":
		return nil, nil
	case old == "runtime/default", old == "docker/default":
		return &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}, nil
	case old == "unconfined":
		return &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined}, nil
	case local:
		if what == "seccomp" {
			name = path.Join("/", name) // kubelets write localhost//path and localhost/path
		}
		return &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: name}, nil
	}
	return nil, invalid("%s profile %.64q: use runtime/default, unconfined or localhost/NAME", what, old)
}

// selinuxOptions are the parts of a label that are said; the policy has words for the others.
func selinuxOptions(o *v1.SELinuxOption, h *spec.Host) ([]string, error) {
	var options []string
	for _, part := range []struct{ key, value string }{{"user", o.GetUser()}, {"role", o.GetRole()}, {"type", o.GetType()}, {"level", o.GetLevel()}} {
		if part.value == "" {
			continue
		}
		if strings.ContainsAny(part.value, " \x00\n") || part.key != "level" && strings.Contains(part.value, ":") {
			return nil, invalid("selinux option %.64q: it has a colon, a space or a line break", part.value)
		}
		options = append(options, part.key+":"+part.value)
	}
	if len(options) > 0 && !h.SELinux {
		return nil, unable("selinux options %s: SELinux isn't enabled on this host: leave them out", strings.Join(options, ","))
	}
	return options, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
