// Package blockfile keeps each snapshot as a file with an ext4 in it, which is mounted by a loop device. A new snapshot is a
// copy of its parent's file, whose blocks are shared where the filesystem can (reflink: xfs, btrfs). It bounds what a
// container can write, and is what virtual machines take as a disk.
package blockfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/treecopy"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/disks"
)

// Name of the snapshotter.
const Name = "blockfile"

// Open opens the store and clears away what a crash has left. ErrNotImplemented where there are no loop devices, or no
// mkfs.ext4.
func Open(ctx context.Context, o disks.Options) (*disks.Store, error) {
	o, err := o.Complete(Name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, err
	}
	f := files{empty: filepath.Join(o.Root, fmt.Sprintf("empty-%d.img", o.Size))}
	if err := f.makeEmpty(ctx, o.Size); err != nil {
		return nil, fmt.Errorf("filesystems in files cannot be used here: %w", err)
	}
	directories, err := snapshot.OpenDirectories(ctx, o.Root, o.Records, o.Log, nil)
	if err != nil {
		return nil, err
	}
	return disks.New(o.Name, directories, f), nil
}

// files are disks in files.
type files struct {
	empty string // a file with an empty filesystem
}

// makeEmpty makes the filesystem that those without a parent are copies of.
func (f files) makeEmpty(ctx context.Context, size int64) error {
	if _, err := os.Stat(f.empty); err == nil {
		return nil
	}
	provisional := f.empty + ".new"
	if err := os.WriteFile(provisional, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(provisional, size); err != nil {
		return err
	}
	if err := disks.Format(ctx, provisional, "loop", "discard"); err != nil {
		return err
	}
	return os.Rename(provisional, f.empty)
}

func image(d disks.Disk) string { return filepath.Join(d.Dir, "disk.img") }

// stat is ErrDataLoss for a file that is gone.
func stat(name string) (os.FileInfo, error) {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	return info, err
}

// Make implements disks.Device.
func (f files) Make(_ context.Context, d disks.Disk, from *disks.Disk) error {
	source := f.empty
	if from != nil {
		source = image(*from)
	}
	info, err := stat(source)
	if err != nil {
		return err
	}
	return treecopy.CopyFile(source, image(d), info.Size())
}

// Grow implements disks.Device.
func (files) Grow(_ context.Context, d disks.Disk, size int64) error {
	info, err := stat(image(d))
	if err != nil {
		return err
	}
	if size < info.Size() {
		return disks.TooSmall(size, info.Size())
	}
	return os.Truncate(image(d), size)
}

// Source implements disks.Device.
func (files) Source(_ context.Context, d disks.Disk) (string, []string, error) {
	return image(d), []string{"loop"}, nil
}

// Rest implements disks.Device.
func (files) Rest(_ context.Context, d disks.Disk) error {
	_, err := stat(image(d))
	return err
}

// Usage implements disks.Device.
func (files) Usage(_ context.Context, d disks.Disk) (snapshot.Usage, error) {
	info, err := stat(image(d))
	if err != nil {
		return snapshot.Usage{}, err
	}
	return snapshot.Usage{Size: info.Sys().(*syscall.Stat_t).Blocks * 512, Inodes: 1}, nil
}
