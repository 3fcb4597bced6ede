package options

import (
	"path"
	"slices"

	"github.com/minirt/mini/oci/spec"
)

// systemdSignal makes systemd end in order (systemd(1), SIGRTMIN+3).
const systemdSignal = "RTMIN+3"

// systemdMode prepares a container for systemd as its first process (https://systemd.io/CONTAINER_INTERFACE): it finds
// temporary filesystems where it wants to write, its own cgroup writable, and is ended by the signal that it knows.
// always does so whatever runs; true only when the command line names an init.
func systemdMode(f Flags, r *spec.Request) error {
	switch mode := f.String("systemd"); mode {
	case "", "false":
		return nil
	case "always":
	case "true":
		command := r.Args
		if r.Entrypoint != nil {
			command = append(slices.Clone(*r.Entrypoint), command...)
		}
		if len(command) == 0 || !isSystemd(command[0]) {
			return nil
		}
	default:
		return invalid("--systemd %s: use always, true or false", mode)
	}
	if r.Tmpfs == nil {
		r.Tmpfs = map[string]string{}
	}
	for _, target := range []string{"/run", "/run/lock", "/tmp", "/var/lib/journal"} {
		if _, asked := r.Tmpfs[target]; !asked {
			r.Tmpfs[target] = "exec"
		}
	}
	if r.StopSignal == "" {
		r.StopSignal = systemdSignal
	}
	r.Env = append(r.Env, "container=mini")
	r.CgroupWritable = true
	if r.Namespaces["cgroup"] == "" {
		r.Namespaces = with(r.Namespaces, "cgroup", "private")
	}
	return nil
}

func isSystemd(program string) bool {
	return path.Base(program) == "systemd" || slices.Contains([]string{"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"}, program)
}

// with is a map with one more entry.
func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}
