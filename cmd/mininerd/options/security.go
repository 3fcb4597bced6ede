package options

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func pairs(flag string, list []string) (map[string]string, error) { return icli.Pairs(flag, list) }

// namespaceFlags say what the container shares with others.
func namespaceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "pid", Usage: "process `NAMESPACE`: host, container:NAME, or its own"},
		&cli.StringFlag{Name: "ipc", Usage: "IPC `NAMESPACE`: host, container:NAME, or its own (private, shareable, none: without /dev/shm)"},
		&cli.StringFlag{Name: "uts", Usage: "`NAMESPACE` of the host's name: host, or its own"},
		&cli.StringFlag{Name: "userns", Usage: "user `NAMESPACE`: host, or as the daemon is configured"},
		&cli.StringFlag{Name: "cgroupns", Usage: "cgroup `NAMESPACE`: host or private"},
		&cli.StringSliceFlag{Name: "sysctl", Usage: "kernel parameter `NAME=VALUE` of the container's namespaces"},
	}
}

func namespaces(f Flags, r *spec.Request, _ *api.CreateContainerRequest) error {
	for _, n := range []struct {
		flag string
		own  []string // words for one of its own
		join bool     // of another container
	}{
		{"pid", []string{"private"}, true}, {"ipc", []string{"private", "shareable", "none"}, true}, {"uts", []string{"private"}, false},
		{"userns", []string{"private"}, false}, {"cgroupns", []string{"private"}, false},
	} {
		mode := f.String(n.flag)
		kind := strings.TrimSuffix(n.flag, "ns") // pid, ipc, uts, user, cgroup
		_, other := strings.CutPrefix(mode, "container:")
		switch {
		case mode == "":
			continue
		case mode == "host" || other && n.join && mode != "container:":
		case slices.Contains(n.own, mode):
			r.NoShm = r.NoShm || mode == "none"
			mode = "private"
		default:
			return invalid("--%s: invalid %s mode: %s", n.flag, strings.ToUpper(kind), mode)
		}
		if r.Namespaces == nil {
			r.Namespaces = map[string]string{}
		}
		r.Namespaces[kind] = mode
	}
	if r.Namespaces["uts"] == "host" && r.Hostname != "" {
		return invalid("conflicting options: hostname and the UTS mode")
	}
	var err error
	r.Sysctls, err = pairs("--sysctl", f.StringSlice("sysctl"))
	return err
}

// securityFlags say what its processes may do.
func securityFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "cap-add", Usage: "add a `CAPABILITY`, or ALL"},
		&cli.StringSliceFlag{Name: "cap-drop", Usage: "drop a `CAPABILITY`, or ALL"},
		&cli.StringSliceFlag{Name: "security-opt", Usage: "`OPTION`: seccomp=unconfined|FILE, apparmor=PROFILE, label=disable|user:USER|role:ROLE|type:TYPE|level:LEVEL|filetype:TYPE, no-new-privileges[=false], systempaths=unconfined, writable-cgroups, privileged-without-host-devices"},
		&cli.BoolFlag{Name: "privileged", Usage: "all capabilities, devices and no confinement"},
	}
}

func security(f Flags, r *spec.Request, _ *api.CreateContainerRequest) error {
	r.Privileged, r.CapAdd, r.CapDrop = f.Bool("privileged"), f.StringSlice("cap-add"), f.StringSlice("cap-drop")
	r.AllowNewPrivileges = true // docker's default, without no-new-privileges
	for _, text := range f.StringSlice("security-opt") {
		if err := securityOption(text, r); err != nil {
			return err
		}
	}
	return nil
}

func securityOption(text string, r *spec.Request) error {
	key, value, valued := strings.Cut(text, "=")
	if !valued {
		key, value, valued = strings.Cut(text, ":") // the older form
	}
	switch {
	case key == "no-new-privileges" && (!valued || value == "true"):
		r.AllowNewPrivileges = false
	case key == "no-new-privileges" && value == "false":
	case key == "privileged-without-host-devices" && !valued:
		r.PrivilegedWithoutHostDevices = true
	case key == "seccomp" && valued:
		return seccomp(value, r)
	case key == "apparmor" && valued:
		r.AppArmor = value
	case key == "label" && valued:
		return selinux(value, r)
	case key == "writable-cgroups" && (!valued || value == "true"):
		r.CgroupWritable = true
		if r.Namespaces["cgroup"] == "" {
			r.Namespaces = with(r.Namespaces, "cgroup", "private")
		}
	case key == "writable-cgroups" && value == "false":
	case key == "systempaths" && value == "unconfined":
		r.MaskedPaths, r.ReadonlyPaths = &[]string{}, &[]string{}
	default:
		return invalid("invalid --security-opt: %q", text)
	}
	return nil
}

// selinux reads one part of a label; what no option says is as the policy has it for containers.
func selinux(value string, r *spec.Request) error {
	kind, word, ok := strings.Cut(value, ":")
	if value != "disable" && (!ok || word == "" || !slices.Contains([]string{"user", "role", "type", "level", "filetype"}, kind)) {
		return invalid("invalid --security-opt: label=%s: write disable, user:USER, role:ROLE, type:TYPE, level:LEVEL or filetype:TYPE", value)
	}
	r.SELinuxOptions = append(r.SELinuxOptions, value)
	return nil
}

func seccomp(value string, r *spec.Request) error {
	if value == "unconfined" || value == "builtin" {
		r.Seccomp = strings.TrimPrefix(value, "builtin")
		return nil
	}
	data, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("opening seccomp profile (%s): %w", value, err)
	}
	if !json.Valid(data) {
		return invalid("compacting json for seccomp profile (%s): not JSON", value)
	}
	r.SeccompProfile = data
	return nil
}
