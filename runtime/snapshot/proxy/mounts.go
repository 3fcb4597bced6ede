package proxy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
)

// mountsOf are the program's mounts as ours.
func mountsOf(in []*types.Mount) []mount.Mount {
	out := make([]mount.Mount, len(in))
	for i, m := range in {
		out[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// writable is the directory that writes through a mount go to; empty: none that is known.
func writable(m mount.Mount) string {
	switch {
	case m.Type == "bind" && slices.Contains(m.Options, "rw"):
		return m.Source
	case m.Type == "overlay":
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir
			}
		}
	}
	return ""
}

// giveTo makes the root of a new snapshot belong to whom its user namespace has in the place of its owner. What lies
// below is seen with its ids mapped.
func giveTo(mounts []mount.Mount, opts snapshot.Options) error {
	if len(opts.UIDMap) == 0 {
		return nil
	}
	if len(mounts) != 1 || writable(mounts[0]) == "" {
		return unmappable(mounts)
	}
	dir := writable(mounts[0])
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	return os.Chown(dir, int(snapshot.HostID(stat.Uid, opts.UIDMap)), int(snapshot.HostID(stat.Gid, opts.GIDMap)))
}

// mapped are mounts with ids mapped: an overlay's lower layers, or a read-only bind mount. A bind mount that is written
// to is of a snapshot without a parent, whose files are all made in it, with the host's ids.
func mapped(mounts []mount.Mount, uid, gid []snapshot.IDMap) ([]mount.Mount, error) {
	if len(uid) == 0 {
		return mounts, nil
	}
	if len(mounts) != 1 {
		return nil, unmappable(mounts)
	}
	m := mounts[0]
	if m.Type == "overlay" || m.Type == "bind" && writable(m) == "" {
		m.Options = append(slices.Clone(m.Options), mount.IDMapOptions(uid, gid)...)
		return []mount.Mount{m}, nil
	}
	if m.Type == "bind" {
		return mounts, nil
	}
	return nil, unmappable(mounts)
}

func unmappable(mounts []mount.Mount) error {
	return fmt.Errorf("its snapshotter puts root filesystems together in a way (%v) whose ids cannot be mapped: run it without a user namespace, or with the snapshotter overlay: %w",
		mounts, errdefs.ErrNotImplemented)
}
