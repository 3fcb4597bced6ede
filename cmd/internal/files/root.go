package files

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// Running says whether a container has a process.
func Running(c *api.Container) bool { return c.State == "running" || c.State == "paused" }

// Mount is the mount of a container's root filesystem: that which is there already, or its snapshot's.
func Mount(ctx context.Context, d *client.Client, c *api.Container) (mount.Mount, error) {
	dir := filepath.Join(c.Bundle, "rootfs")
	if mounted, err := mount.Mounted(dir); err == nil && mounted {
		return mount.Mount{Type: "bind", Source: dir, Options: []string{"rbind"}}, nil
	}
	answer, err := d.Snapshots.Mounts(ctx, &api.SnapshotRequest{Namespace: c.Namespace, Snapshotter: c.Snapshotter, Name: c.Snapshot})
	if err != nil {
		return mount.Mount{}, fmt.Errorf("files of container %s: %w", c.Id, err)
	}
	return single(answer.Mounts, "files of container "+c.Id)
}

func single(list []*api.Mount, what string) (mount.Mount, error) {
	if len(list) != 1 {
		return mount.Mount{}, fmt.Errorf("%s: its snapshot has %d mounts, want one: %w", what, len(list), errdefs.ErrNotImplemented)
	}
	return mount.Mount{Type: list[0].Type, Source: list[0].Source, Options: list[0].Options}, nil
}
