package mount

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// IDMap maps Size ids from ContainerID, as seen through the mount, to HostID. It marshals as the runtime spec's mapping.
type IDMap struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Size        uint32 `json:"size"`
}

// String is the mapping as the uidmap and gidmap options write it.
func (m IDMap) String() string { return fmt.Sprintf("%d:%d:%d", m.ContainerID, m.HostID, m.Size) }

// IDMapOptions are the options that make a mount idmapped; none for empty maps.
func IDMapOptions(uid, gid []IDMap) []string {
	var out []string
	for _, m := range uid {
		out = append(out, "uidmap="+m.String())
	}
	for _, m := range gid {
		out = append(out, "gidmap="+m.String())
	}
	return out
}

type change struct{ set, clear uint64 }

func (c change) zero() bool { return c.set == 0 && c.clear == 0 }

func (c *change) apply(o change) {
	c.set = c.set&^o.clear | o.set
	// An atime mode is a value, not a bit: the kernel wants the whole field cleared before one is set.
	c.clear = c.clear&^(o.set&^unix.MOUNT_ATTR__ATIME) | o.clear
}

type propagation struct {
	kind      uint64
	recursive bool
}

// parsed is a mount with its options sorted by who is told of them.
type parsed struct {
	Mount
	bind, rbind, remount bool
	loop                 bool   // the source is a file, which a loop device makes a disk of
	attr, tree           change // of the mount itself, and of the tree below it
	propagation          []propagation
	superblock           []string // flags of the filesystem itself: ro, sync, …
	data                 []string // key=value or key, for the filesystem
	uid, gid             []IDMap
	mapTree              bool
}

var attributes = map[string]change{ // a table, never written
	"ro": {set: unix.MOUNT_ATTR_RDONLY}, "rw": {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"relatime":    {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
	"noatime":     {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"strictatime": {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"atime":       {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
}

var propagations = map[string]uint64{ // a table, never written
	"private": unix.MS_PRIVATE, "shared": unix.MS_SHARED, "slave": unix.MS_SLAVE, "unbindable": unix.MS_UNBINDABLE,
}

// parse sorts the options. The last of two that contradict each other wins, as in mount(8).
func parse(m Mount) (parsed, error) {
	p := parsed{Mount: m, bind: m.Type == "bind", rbind: m.Type == "rbind"}
	for _, o := range m.Options {
		if err := p.option(o); err != nil {
			return p, err
		}
	}
	p.bind = p.bind || p.rbind
	switch {
	case !p.bind && !p.remount && m.Type == "":
		return p, fmt.Errorf("mount of %q on %q has no type: %w", m.Source, m.Target, errdefs.ErrInvalidArgument)
	case (len(p.uid) == 0) != (len(p.gid) == 0):
		return p, fmt.Errorf("an idmapped mount needs uidmap and gidmap, %q has one of them: %w", m.Target, errdefs.ErrInvalidArgument)
	case len(p.uid) > 0 && !p.bind && !p.loop && m.Type != overlayType:
		return p, fmt.Errorf("uidmap on a mount of type %s: only bind, loop and overlay can be idmapped: %w", m.Type, errdefs.ErrInvalidArgument)
	case p.bind && len(p.data) > 0:
		return p, fmt.Errorf("bind mount with the option %q: unknown: %w", p.data[0], errdefs.ErrInvalidArgument)
	}
	return p, nil
}

func (p *parsed) option(o string) error {
	if c, ok := attributes[o]; ok {
		p.attr.apply(c)
		if o == "ro" && p.Type != overlayType {
			p.superblock = append(p.superblock, o)
		}
		return nil
	}
	// rro, rnosuid, …: but rw is not a recursive w, nor is relatime a recursive elatime.
	if rest, ok := strings.CutPrefix(o, "r"); ok {
		if c, ok := attributes[rest]; ok {
			p.tree.apply(c)
			return nil
		}
		if kind, ok := propagations[rest]; ok {
			p.propagation = append(p.propagation, propagation{kind, true})
			return nil
		}
	}
	if kind, ok := propagations[o]; ok {
		p.propagation = append(p.propagation, propagation{kind, false})
		return nil
	}
	key, value, _ := strings.Cut(o, "=")
	switch key {
	case "", "defaults", "norelatime", "nostrictatime", "loud", "silent", "user", "nouser", "auto", "noauto", "nofail", "_netdev":
	case "bind":
		p.bind = true
	case "rbind":
		p.rbind = true
	case "remount":
		p.remount = true
	case "loop":
		p.loop = true
	case "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand", "iversion", "noiversion":
		if !p.bind {
			p.superblock = append(p.superblock, key)
		}
	case "idmap":
	case "ridmap":
		p.mapTree = true
	case "uidmap", "gidmap":
		maps, err := ParseIDMaps(value)
		if err != nil {
			return fmt.Errorf("option %s: %w", o, err)
		}
		if key == "uidmap" {
			p.uid = append(p.uid, maps...)
		} else {
			p.gid = append(p.gid, maps...)
		}
	default:
		p.data = append(p.data, o)
	}
	return nil
}

// ParseIDMaps reads container:host:size mappings separated by commas; mappings of no size or that pass the last id are
// ErrInvalidArgument.
func ParseIDMaps(s string) ([]IDMap, error) {
	var out []IDMap
	for part := range strings.SplitSeq(s, ",") {
		fields := strings.Split(part, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("id mapping %q: want container:host:size: %w", part, errdefs.ErrInvalidArgument)
		}
		var n [3]uint64
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("id mapping %q: %q is not an id: %w", part, f, errdefs.ErrInvalidArgument)
			}
			n[i] = v
		}
		if n[2] == 0 || n[0]+n[2] > 1<<32 || n[1]+n[2] > 1<<32 {
			return nil, fmt.Errorf("id mapping %q: size must be at least 1 and end below 2^32: %w", part, errdefs.ErrInvalidArgument)
		}
		out = append(out, IDMap{uint32(n[0]), uint32(n[1]), uint32(n[2])})
	}
	return out, nil
}
