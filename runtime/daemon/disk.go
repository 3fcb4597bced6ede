package daemon

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/cri"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/snapshot"
)

// disk tells the CRI what is on it.
type disk struct{ d *Daemon }

func (k disk) Mountpoint(c engine.Container) string {
	return k.d.snapshotters.root(c.Snapshotter, k.d.Config.Root)
}

// Images counts the blobs and the unpacked layers. Those of a snapshotter with a root of its own are of another
// filesystem.
func (k disk) Images(ctx context.Context) ([]cri.Space, error) {
	spaces := []cri.Space{{Mountpoint: k.d.Config.Root}}
	err := k.d.content.List(ctx, func(i content.Info) error {
		spaces[0].Size += i.Size
		spaces[0].Inodes++
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(k.d.snapshotters.all)) {
		u, err := layersOf(ctx, k.d.snapshotters.all[name])
		if err != nil {
			return nil, err
		}
		spaces = addSpace(spaces, k.d.snapshotters.root(name, k.d.Config.Root), u)
	}
	if first := k.d.snapshotters.root(k.d.snapshotters.fallback, k.d.Config.Root); first != k.d.Config.Root {
		// A kubelet looks at the first.
		i := slices.IndexFunc(spaces, func(s cri.Space) bool { return s.Mountpoint == first })
		spaces[0], spaces[i] = spaces[i], spaces[0]
	}
	return spaces, nil
}

func addSpace(spaces []cri.Space, mountpoint string, u snapshot.Usage) []cri.Space {
	i := slices.IndexFunc(spaces, func(s cri.Space) bool { return s.Mountpoint == mountpoint })
	if i < 0 {
		return append(spaces, cri.Space{Mountpoint: mountpoint, Usage: u})
	}
	spaces[i].Size += u.Size
	spaces[i].Inodes += u.Inodes
	return spaces
}

func layersOf(ctx context.Context, sn snapshot.Snapshotter) (snapshot.Usage, error) {
	var sum snapshot.Usage
	infos, err := sn.List(ctx, "")
	if err != nil {
		return sum, err
	}
	for _, info := range infos {
		if info.Kind != snapshot.Committed {
			continue
		}
		u, err := sn.Usage(ctx, snapshot.Key{Namespace: info.Namespace, Name: info.Name})
		if errdefs.IsUnavailable(err) {
			return sum, nil // a program that does not answer
		}
		if err != nil {
			continue // it has just been removed
		}
		sum.Size += u.Size
		sum.Inodes += u.Inodes
	}
	return sum, nil
}

// Layer counts what a container has written.
func (k disk) Layer(ctx context.Context, c engine.Container) (snapshot.Usage, error) {
	sn, key, err := k.snapshotOf(c)
	if err != nil {
		return snapshot.Usage{}, err
	}
	return sn.Usage(ctx, key)
}

// Diff writes what a container has changed, as an uncompressed layer.
func (k disk) Diff(ctx context.Context, c engine.Container, w io.Writer) error {
	sn, key, err := k.snapshotOf(c)
	if err != nil {
		return err
	}
	differ, can := sn.(snapshot.Differ)
	if !can {
		return fmt.Errorf("snapshotter %s cannot tell what has changed in container %s: %w", c.Snapshotter, c.ID, errdefs.ErrNotImplemented)
	}
	return differ.Diff(ctx, key, w)
}

func (k disk) snapshotOf(c engine.Container) (snapshot.Snapshotter, snapshot.Key, error) {
	key := snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}
	if c.Snapshot == "" {
		return nil, key, fmt.Errorf("container %s has no root filesystem of the daemon's: %w", c.ID, errdefs.ErrFailedPrecondition)
	}
	sn := k.d.snapshotters.all[c.Snapshotter]
	if sn == nil {
		return nil, key, fmt.Errorf("container %s: %w: %w", c.ID, k.d.snapshotters.missing(c.Snapshotter), errdefs.ErrFailedPrecondition)
	}
	return sn, key, nil
}
