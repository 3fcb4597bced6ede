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

	"github.com/minirt/mini/internal/userns"
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
	None     Driver = "none"     // nobody: containers stay in the group of the daemon, without limits of their own
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
// work, and systemd's is slower. In a user namespace, where nobody may make groups, it is none.
func DetectDriver() Driver {
	if userns.Inside() && unix.Access(Root, unix.W_OK) != nil {
		return None
	}
	if info, err := os.Lstat("/run/systemd/system"); err == nil && info.IsDir() && Mode() == V2 {
		return Systemd
	}
	return Cgroupfs
}

// Path names a container's group as runtime-spec's linux.cgroupsPath, below the daemon's own group: parent is the
// daemon's name, or the group or slice it is configured with. cgroupfs: "/parent/namespace/id". systemd:
// "slice:prefix:id", which becomes the unit prefix-id.scope. none: empty. The parts are names already checked; a ".." leads nowhere.
func Path(d Driver, parent, namespace, id string) string {
	if d == None {
		return ""
	}
	if d != Systemd {
		return path.Join("/", parent, path.Join("/", namespace), path.Join("/", id))
	}
	name := strings.TrimSuffix(path.Base(path.Join("/", parent)), ".slice")
	slice := name + ".slice"
	if !strings.HasSuffix(parent, ".slice") {
		name = escapeDash(name)
		slice = name + "-" + escapeDash(namespace) + ".slice"
	}
	return slice + ":" + unitPrefix(name, namespace) + ":" + id
}

// Below names a container's group below a parent that the user chose: "/parent/id" or "slice:prefix:id". Errors:
// ErrInvalidArgument for a parent in the other driver's form.
func Below(d Driver, parent, daemon, namespace, id string) (string, error) {
	isSlice := strings.HasSuffix(parent, ".slice")
	switch {
	case d == None:
		return "", nil
	case escapes(parent) || strings.ContainsAny(parent, ":\x00"):
		return "", fmt.Errorf("cgroup parent %q: it has a .. part or a colon: %w", parent, errdefs.ErrInvalidArgument)
	case d == Systemd && !isSlice:
		return "", fmt.Errorf("cgroup parent %q: the systemd driver needs a slice, like machine.slice: %w", parent, errdefs.ErrInvalidArgument)
	case d == Systemd:
		return path.Base(parent) + ":" + unitPrefix(daemon, namespace) + ":" + id, nil
	case isSlice && !strings.Contains(parent, "/"):
		return "", fmt.Errorf("cgroup parent %q is a systemd slice, and the driver is cgroupfs: give a path, like /%s: %w", parent, strings.TrimSuffix(parent, ".slice"), errdefs.ErrInvalidArgument)
	}
	return path.Join("/", parent, path.Join("/", id)), nil
}

// unitPrefix is what a container's unit begins with. Unit names are global while ids are unique in a namespace of a
// daemon only, so both are in it.
func unitPrefix(daemon, namespace string) string {
	return escapeDash(daemon) + "-" + escapeDash(namespace)
}

// escapeDash writes dashes as systemd-escape(1) does: a plain one divides a slice from its parent, and here the parts of
// a unit's name.
func escapeDash(s string) string { return strings.ReplaceAll(s, "-", `\x2d`) }

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
