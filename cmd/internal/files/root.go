package files

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
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

// In hands on where a container's files are: as its process sees them, with its volumes, or else its root filesystem.
func In(ctx context.Context, d *client.Client, c *api.Container, do func(root string) error) error {
	if Running(c) {
		return do(fmt.Sprintf("/proc/%d/root", c.Pid))
	}
	return Root(ctx, d, c, do)
}

// Root hands on a container's root filesystem, without what is mounted into it.
func Root(ctx context.Context, d *client.Client, c *api.Container, do func(root string) error) error {
	m, err := Mount(ctx, d, c)
	if err != nil {
		return err
	}
	return at(ctx, m, do)
}

func at(ctx context.Context, m mount.Mount, do func(string) error) error {
	if m.Type == "bind" {
		return do(m.Source)
	}
	return mount.Temp(ctx, []mount.Mount{m}, do)
}

// Changed hands on a container's root filesystem and the tree that it began as, which is its image's.
func Changed(ctx context.Context, d *client.Client, c *api.Container, do func(lower, upper string) error) error {
	info, err := d.Snapshots.Info(ctx, &api.SnapshotRequest{Namespace: c.Namespace, Snapshotter: c.Snapshotter, Name: c.Snapshot})
	if err != nil {
		return fmt.Errorf("snapshot of container %s: %w", c.Id, err)
	}
	view := &api.SnapshotRequest{Namespace: c.Namespace, Snapshotter: c.Snapshotter, Name: "view-" + id.New()}
	answer, err := d.Snapshots.View(ctx, &api.PrepareSnapshotRequest{Namespace: c.Namespace, Snapshotter: c.Snapshotter, Name: view.Name, Parent: info.Parent})
	if err != nil {
		return fmt.Errorf("image of container %s: %w", c.Id, err)
	}
	m, err := single(answer.Mounts, "image of container "+c.Id)
	if err == nil {
		err = at(ctx, m, func(lower string) error {
			return Root(ctx, d, c, func(upper string) error { return do(lower, upper) })
		})
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, removeErr := d.Snapshots.Remove(clean, view)
	return errors.Join(err, removeErr)
}
