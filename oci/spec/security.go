package spec

import (
	"slices"
	"strings"
)

// securityRule sets no-new-privileges, AppArmor and SELinux.
func securityRule(b *builder) error {
	b.spec.Process.NoNewPrivileges = !b.req.AllowNewPrivileges
	if err := b.appArmor(); err != nil {
		return err
	}
	return b.selinux()
}

// appArmor sets the profile by name. The profile must be loaded already.
func (b *builder) appArmor() error {
	profile := strings.TrimPrefix(b.req.AppArmor, "localhost/")
	switch {
	case profile == "unconfined":
		if b.host.AppArmor {
			b.spec.Process.ApparmorProfile = profile
		}
		return nil
	case profile == "" && (!b.host.AppArmor || b.req.Privileged):
		return nil
	case profile == "" || profile == "runtime/default":
		profile = b.in.Defaults.AppArmor
		if profile == "" {
			return nil
		}
	}
	if !b.host.AppArmor {
		return unable("apparmor profile %q: AppArmor isn't enabled on this host; leave the profile out", profile)
	}
	b.spec.Process.ApparmorProfile = profile
	return nil
}

// selinux sets the labels of the process and of the mounts.
func (b *builder) selinux() error {
	process, mount := b.req.SELinuxLabel, b.req.SELinuxMountLabel
	if len(b.req.SELinuxOptions) > 0 && !slices.Contains(b.req.SELinuxOptions, "disable") && !b.host.SELinux {
		return unable("selinux label %q: SELinux isn't enabled on this host; leave the label out", strings.Join(b.req.SELinuxOptions, ","))
	}
	if process == "" && mount == "" {
		return nil
	}
	if !b.host.SELinux {
		return unable("selinux label %q: SELinux isn't enabled on this host; leave the label out", process+mount)
	}
	for field, label := range map[string]string{"selinux label": process, "selinux mount label": mount} {
		if label != "" && strings.Count(label, ":") < 2 {
			return invalid("%s %q: it has the form user:role:type[:level]", field, label)
		}
	}
	b.spec.Process.SelinuxLabel = process
	b.spec.Linux.MountLabel = mount
	return nil
}
