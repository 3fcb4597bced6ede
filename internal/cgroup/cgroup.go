// Package cgroup knows where control groups are: which layout the host has, the directories of a process, and the name
// of a container's group in each driver's form. It also empties and removes groups, for recovery and for the ordinary
// removal. It sets no limits (libcontainer does, in the supervisor) and reads no statistics (runtime/stats).
package cgroup

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Root is where the hierarchies are mounted.
const Root = "/sys/fs/cgroup"

// Layout is how a host mounts control groups.
type Layout string

const (
	V1     Layout = "v1"     // a hierarchy per controller
	Hybrid Layout = "hybrid" // v1, and a v2 hierarchy without controllers beside it
	V2     Layout = "v2"     // the unified hierarchy only
)

// Driver is who makes the groups.
type Driver string

const (
	Cgroupfs Driver = "cgroupfs" // the runtime, by mkdir
	Systemd  Driver = "systemd"  // systemd, asked over D-Bus for a scope
)

// Mode tells the host's layout.
func Mode() Layout {
	if isV2(Root) {
		return V2
	}
	if mounts, err := readMounts("/proc/self/mountinfo"); err == nil && len(mounts.unified) > 0 {
		return Hybrid
	}
	return V1
}

func isV2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// DetectDriver picks systemd where it runs as init and has the unified hierarchy, and cgroupfs elsewhere: on v1 both
// work, and systemd's is slower.
func DetectDriver() Driver {
	if info, err := os.Lstat("/run/systemd/system"); err == nil && info.IsDir() && Mode() == V2 {
		return Systemd
	}
	return Cgroupfs
}

// Path names a container's group as runtime-spec's linux.cgroupsPath: "/parent/id" for cgroupfs, "slice:prefix:name"
// for systemd. An empty parent is "/daemon/namespace" or "daemon-namespace.slice".
func Path(d Driver, parent, daemon, namespace, id string) (string, error) {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/:\x00") {
		return "", fmt.Errorf("cgroup: %q can't be the name of a group: %w", id, errdefs.ErrInvalidArgument)
	}
	if d == Systemd {
		return systemdPath(parent, daemon, namespace, id)
	}
	if strings.HasSuffix(parent, ".slice") && !strings.HasPrefix(parent, "/") {
		return "", fmt.Errorf("cgroup parent %q is a systemd slice, and the driver is cgroupfs: give a path, like /%s: %w", parent, strings.TrimSuffix(parent, ".slice"), errdefs.ErrInvalidArgument)
	}
	if parent == "" {
		parent = path.Join("/", daemon, namespace)
	}
	if escapes(parent) {
		return "", fmt.Errorf("cgroup parent %q: it has a .. part: %w", parent, errdefs.ErrInvalidArgument)
	}
	return path.Join("/", parent, id), nil
}

// systemdPath makes "slice:prefix:name", which becomes the unit prefix-name.scope. Unit names are global while ids are
// unique in a namespace only, so the namespace is part of the prefix; its dashes are escaped as systemd-escape(1) does,
// because a dash divides the prefix from the id, and a slice from its parent.
func systemdPath(parent, daemon, namespace, id string) (string, error) {
	ns := strings.ReplaceAll(namespace, "-", `\x2d`)
	slice := path.Base(parent)
	if parent == "" {
		slice = strings.ReplaceAll(daemon, "-", `\x2d`) + "-" + ns + ".slice"
	}
	if !strings.HasSuffix(slice, ".slice") || strings.Contains(slice, ":") {
		return "", fmt.Errorf("cgroup parent %q: the systemd driver needs a slice, like machine.slice: %w", parent, errdefs.ErrInvalidArgument)
	}
	return slice + ":" + strings.ReplaceAll(daemon, "-", `\x2d`) + "-" + ns + ":" + id, nil
}

func escapes(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// Controllers lists the controllers whose limits can be set: mounted on v1, offered by the root group on v2; nil when
// that cannot be read.
func Controllers(mode Layout) []string {
	if mode == V2 {
		data, err := os.ReadFile(Root + "/cgroup.controllers")
		if err != nil {
			return nil
		}
		return strings.Fields(string(data))
	}
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return mounts.names()
}
