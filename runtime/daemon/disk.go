package daemon

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/snapshot"
)

// disk tells the CRI what is on it.
type disk struct{ d *Daemon }

func (k disk) Mountpoint() string { return k.d.Config.Root }

// Images counts the blobs and the unpacked layers.
func (k disk) Images(ctx context.Context) (snapshot.Usage, error) {
	var sum snapshot.Usage
	err := k.d.content.List(ctx, func(i content.Info) error {
		sum.Size += i.Size
		sum.Inodes++
		return nil
	})
	if err != nil {
		return sum, err
	}
	for _, sn := range k.d.snapshotters {
		infos, err := sn.List(ctx, "")
		if err != nil {
			return sum, err
		}
		for _, info := range infos {
			if info.Kind != snapshot.Committed {
				continue
			}
			u, err := sn.Usage(ctx, snapshot.Key{Namespace: info.Namespace, Name: info.Name})
			if err != nil {
				continue // it has just been removed
			}
			sum.Size += u.Size
			sum.Inodes += u.Inodes
		}
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

// Apply lays a layer over the root filesystem of a container that does not run.
func (k disk) Apply(ctx context.Context, c engine.Container, r io.Reader) error {
	sn, key, err := k.snapshotOf(c)
	if err != nil {
		return err
	}
	mounts, err := sn.Mounts(ctx, key)
	if err != nil {
		return err
	}
	return mount.Temp(ctx, mounts, func(dir string) error {
		_, err := layer.Apply(ctx, dir, r, layer.ApplyOptions{})
		return err
	})
}

func (k disk) snapshotOf(c engine.Container) (snapshot.Snapshotter, snapshot.Key, error) {
	key := snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}
	if c.Snapshot == "" {
		return nil, key, fmt.Errorf("container %s has no root filesystem of the daemon's: %w", c.ID, errdefs.ErrFailedPrecondition)
	}
	sn := k.d.snapshotters[c.Snapshotter]
	if sn == nil {
		return nil, key, fmt.Errorf("container %s: snapshotter %s is not there any more: %w", c.ID, c.Snapshotter, errdefs.ErrFailedPrecondition)
	}
	return sn, key, nil
}
