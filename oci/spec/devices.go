package spec

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devicesRule adds device nodes and the rules that let the container use them. Everything else is denied but what the
// runtime always allows (null, zero, full, random, urandom, tty, ptmx, its own terminals).
func devicesRule(b *builder) error {
	resources := b.spec.Linux.Resources
	if b.allDevicesAllowed() {
		resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		resources.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, resources.Devices...)
	}
	if b.req.Privileged && !b.req.PrivilegedWithoutHostDevices {
		nodes, err := b.hostDevices("/dev")
		if err != nil {
			return err
		}
		b.spec.Linux.Devices = nodes
	}
	for _, d := range b.req.Devices {
		if err := b.addDevice(d); err != nil {
			return err
		}
	}
	return nil
}

// allDevicesAllowed says whether the container may use every device, those of which it has no node too.
func (b *builder) allDevicesAllowed() bool {
	return b.req.Privileged && (!b.req.PrivilegedWithoutHostDevices || b.req.PrivilegedAllDevicesAllowed)
}

// addDevice adds one device of the request, or all below a directory.
func (b *builder) addDevice(d Device) error {
	if !filepath.IsAbs(d.Source) {
		return invalid("device %q: the source must be an absolute path of the host, like /dev/fuse", d.Source)
	}
	target := d.Target
	if target == "" {
		target = d.Source
	}
	if !path.IsAbs(target) {
		return invalid("device %s: the target %q must be absolute", d.Source, target)
	}
	access := d.Permissions
	if access == "" {
		access = "rwm"
	}
	if strings.Trim(access, "rwm") != "" || len(access) > 3 {
		return invalid("device %s: permissions %q: use letters of rwm (read, write, mknod)", d.Source, access)
	}
	nodes, err := b.hostDevices(d.Source)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fmt.Errorf("device %s: there is no device node at or below it: %w", d.Source, errdefs.ErrNotFound)
	}
	user, _ := b.namespace(specs.UserNamespace)
	for _, n := range nodes {
		source := n.Path
		n.Path = path.Join(target, strings.TrimPrefix(n.Path, path.Clean(d.Source)))
		if d.UID != nil {
			n.UID = d.UID
		}
		if d.GID != nil {
			n.GID = d.GID
		}
		if user && n.Path != source { // no node can be made there, and runtimes bind that of the host of the same path
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: n.Path, Type: "bind", Source: source, Options: []string{"bind", "rprivate", "rw", "nosuid", "noexec"}})
			b.allowDevice(n, access)
			continue
		}
		b.putDevice(n, access)
	}
	return nil
}

// putDevice adds a node, in place of one with the same path, and its rule.
func (b *builder) putDevice(n specs.LinuxDevice, access string) {
	l := b.spec.Linux
	l.Devices = slices.DeleteFunc(l.Devices, func(have specs.LinuxDevice) bool { return have.Path == n.Path })
	l.Devices = append(l.Devices, n)
	b.allowDevice(n, access)
}

func (b *builder) allowDevice(n specs.LinuxDevice, access string) {
	if b.allDevicesAllowed() {
		return
	}
	l := b.spec.Linux
	major, minor := n.Major, n.Minor
	l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &major, Minor: &minor, Access: access})
}

func (b *builder) hostDevices(p string) ([]specs.LinuxDevice, error) {
	if b.in.Devices != nil {
		return b.in.Devices(p)
	}
	return HostDevices(p)
}

// netDevicesRule moves network interfaces of the host into the container. The runtime spec allows it into a namespace of
// the container's own only, and an interface's name has at most 15 bytes (IFNAMSIZ).
func netDevicesRule(b *builder) error {
	if len(b.req.NetDevices) == 0 {
		return nil
	}
	if own, _ := b.namespace(specs.NetworkNamespace); !own {
		return invalid("the container shares the host's network and has its interfaces already: leave them out, or give it its own network")
	}
	target := make(map[string]bool, len(b.req.NetDevices))
	for _, host := range slices.Sorted(maps.Keys(b.req.NetDevices)) {
		inside := b.req.NetDevices[host].Name
		if inside == "" {
			inside = host
		}
		for _, name := range []string{host, inside} {
			if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\x00") {
				return invalid("%q can't be an interface's name", name)
			}
		}
		if target[inside] {
			return invalid("two interfaces would be called %s in the container", inside)
		}
		target[inside] = true
	}
	b.spec.Linux.NetDevices = maps.Clone(b.req.NetDevices)
	return nil
}

// HostDevices lists the character and block devices at a path of the host: itself (through a symlink), or all below a
// directory. What a container has of its own (terminals, shm, mqueue) and symlinks below a directory are left out.
// Errors: ErrNotFound.
func HostDevices(root string) ([]specs.LinuxDevice, error) {
	root = filepath.Clean(root)
	info, err := os.Stat(root)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("device %s isn't on this host: %w", root, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", root, err)
	}
	if !info.IsDir() {
		d, ok := deviceNode(root, info)
		if !ok {
			return nil, invalid("%s isn't a device", root)
		}
		return []specs.LinuxDevice{d}, nil
	}
	var nodes []specs.LinuxDevice
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil: // a device that was unplugged meanwhile
			return nil
		case e.IsDir():
			if root == "/dev" && slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev"}, p) {
				return fs.SkipDir
			}
			return nil
		case e.Type()&fs.ModeDevice == 0 || p == "/dev/console" || p == "/dev/ptmx":
			return nil
		}
		if info, err := e.Info(); err == nil {
			if d, ok := deviceNode(p, info); ok {
				nodes = append(nodes, d)
			}
		}
		return nil
	})
	return nodes, err
}

// deviceNode describes a device by its stat.
func deviceNode(p string, info fs.FileInfo) (specs.LinuxDevice, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeDevice == 0 {
		return specs.LinuxDevice{}, false
	}
	kind := "b"
	if info.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	mode := info.Mode().Perm()
	uid, gid := st.Uid, st.Gid
	return specs.LinuxDevice{
		Path: p, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), FileMode: &mode, UID: &uid, GID: &gid,
	}, true
}
