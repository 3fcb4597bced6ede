package engine

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/snapshot"
)

// tree is a container's files, as a detached mount that ends when it is closed: what becomes of the container meanwhile,
// or of the daemon, neither disturbs it nor is disturbed by it.
type tree struct {
	*os.File
	uid, gid []layer.IDMap // of its user namespace
	user     *layer.Owner  // that it runs as; nil: nobody is named
	made     []string      // targets of mounts whose files are the kernel's or the runtime's
}

// path is good for the system calls of this process.
func (t *tree) path() string { return fmt.Sprintf("/proc/self/fd/%d", t.Fd()) }

// filesOf is what a container sees: with a process, what that sees, volumes and tmpfs included; without, its root
// filesystem with what is bound into it.
func (e *Engine) filesOf(ctx context.Context, ns, id string) (*tree, error) {
	return e.treeOf(ctx, ns, id, func(c Container, s *specs.Spec) (*os.File, error) {
		if c.State == Running || c.State == Paused {
			seen, err := mount.TreeOfProcess(c.PID, "/")
			alive := sandbox.Alive(c.PID, c.StartTime)
			if alive {
				return seen, err
			}
			if err == nil {
				seen.Close() // another process had its number, perhaps
			}
		}
		root, err := e.rootOf(ctx, c, s)
		if err != nil {
			return nil, err
		}
		return mount.Assemble(root, s.Root.Readonly, bound(s))
	})
}

// ownFilesOf is a container's root filesystem, without anything that is mounted into it.
func (e *Engine) ownFilesOf(ctx context.Context, ns, id string) (*tree, error) {
	return e.treeOf(ctx, ns, id, func(c Container, s *specs.Spec) (*os.File, error) {
		root, err := e.rootOf(ctx, c, s)
		if err != nil {
			return nil, err
		}
		return mount.Tree(mount.Mount{Type: "bind", Source: root, Options: []string{"ro"}})
	})
}

// treeOf is the tree of a container that look finds, while nobody else works on the container.
func (e *Engine) treeOf(ctx context.Context, ns, id string, look func(Container, *specs.Spec) (*os.File, error)) (*tree, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, s, err := e.withFiles(ctx, l)
	if err != nil {
		return nil, err
	}
	t := newTree(c, s)
	if t.File, err = look(c, s); err != nil {
		return nil, fmt.Errorf("files of container %s: %w", l.key.id, err)
	}
	return t, nil
}

// withFiles is a container that has files, with its document; made again where a reboot has taken it.
func (e *Engine) withFiles(ctx context.Context, l *live) (Container, *specs.Spec, error) {
	c := l.record()
	if err := l.require("look at the files of", Created, Running, Paused, Exited); err != nil {
		return c, nil, err
	}
	s, err := bundle.Load(e.Bundle(c))
	if errdefs.IsNotFound(err) {
		if _, err = e.writeBundle(ctx, c); err == nil {
			s, err = bundle.Load(e.Bundle(c))
		}
	}
	if err == nil && s.Root == nil {
		err = fmt.Errorf("its document has no root: %w", errdefs.ErrDataLoss)
	}
	if err != nil {
		return c, nil, fmt.Errorf("files of container %s: %w", l.key.id, err)
	}
	return c, s, nil
}

// rootOf is where a container's root filesystem is mounted on this host, which it is then if it was not.
func (e *Engine) rootOf(ctx context.Context, c Container, s *specs.Spec) (string, error) {
	if c.Snapshot == "" {
		return s.Root.Path, nil
	}
	return e.mountRootfs(ctx, c)
}

// bound are the mounts of a document that show files of the host: volumes, and what else is bound.
func bound(s *specs.Spec) []mount.Mount {
	var out []mount.Mount
	for _, m := range s.Mounts {
		if !isBind(m) {
			continue
		}
		uids, gids := m.UIDMappings, m.GIDMappings
		if len(uids) == 0 && s.Linux != nil && (slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")) {
			uids, gids = s.Linux.UIDMappings, s.Linux.GIDMappings // runtime-spec, config.md "Mounts": those of the container
		}
		options := append(slices.Clone(m.Options), mount.IDMapOptions(idMap(uids), idMap(gids))...)
		out = append(out, mount.Mount{Type: "bind", Source: m.Source, Target: m.Destination, Options: options})
	}
	return out
}

// newTree has what a container's document says of users.
func newTree(c Container, s *specs.Spec) *tree {
	t := &tree{}
	if s.Linux != nil {
		t.uid, t.gid = snapshot.LayerIDMaps(idMap(s.Linux.UIDMappings)), snapshot.LayerIDMaps(idMap(s.Linux.GIDMappings))
	}
	if named := c.ImageConfig.User != "" || c.Request != nil && c.Request.User != ""; named && s.Process != nil {
		t.user = &layer.Owner{UID: int(s.Process.User.UID), GID: int(s.Process.User.GID)}
	}
	asked := map[string]bool{}
	if c.Request != nil {
		for target := range c.Request.Tmpfs {
			asked[path.Clean(target)] = true
		}
		for _, m := range c.Request.Mounts {
			asked[path.Clean(m.Target)] = true
		}
	}
	for _, m := range s.Mounts {
		if !isBind(m) && !asked[path.Clean(m.Destination)] {
			t.made = append(t.made, m.Destination)
		}
	}
	return t
}

// enter says whether what is mounted on a directory is copied with what it is in. What every container has mounted, as
// /proc and /dev, is copied only when it is named.
func (t *tree) enter(dir *os.File) bool {
	at, ok := mountID(dir)
	if !ok {
		return true
	}
	for _, target := range t.made {
		f, err := t.open(target, unix.O_PATH)
		if err != nil {
			continue
		}
		made, ok := mountID(f)
		f.Close()
		if ok && made == at {
			return false
		}
	}
	return true
}

// mountID tells one mount from another (Linux 5.8).
func mountID(f *os.File) (uint64, bool) {
	var stat unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stat)
	return stat.Mnt_id, err == nil && stat.Mask&unix.STATX_MNT_ID != 0
}

func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}
