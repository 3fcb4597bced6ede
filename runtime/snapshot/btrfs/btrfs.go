// Package btrfs keeps each snapshot as a subvolume of btrfs, and makes a new one as that filesystem's own snapshot of its
// parent: at once, and the blocks are shared until they are written. The root must be on btrfs. The ioctls are those of
// linux/btrfs.h.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/native"
)

// Name of the snapshotter, and of the filesystem.
const Name = "btrfs"

// Options of Open.
type Options struct {
	Name    string           // of the snapshotter; empty: Name
	Root    string           // absolute, on btrfs; made if it is not there
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
}

// Open opens the store and clears away what a crash has left. ErrNotImplemented when the root is on another filesystem.
func Open(ctx context.Context, o Options) (*native.Store, error) {
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, fmt.Errorf("root of the btrfs snapshotter: %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(o.Root, &stat); err != nil {
		return nil, fmt.Errorf("root of the btrfs snapshotter, %s: %w", o.Root, err)
	}
	if stat.Type != unix.BTRFS_SUPER_MAGIC {
		return nil, fmt.Errorf("%s is not on btrfs: set the snapshotter's root to a directory that is: %w", o.Root, errdefs.ErrNotImplemented)
	}
	t := trees{o.Name}
	if t.name == "" {
		t.name = Name
	}
	return native.Open(ctx, native.Options{Root: o.Root, Records: o.Records, Log: o.Log, Trees: t})
}

// trees are subvolumes.
type trees struct{ name string }

// Name implements native.Trees.
func (t trees) Name() string { return t.name }

// New implements native.Trees.
func (t trees) New(dir string) error {
	args := volArgsV2{}
	if err := args.named(dir); err != nil {
		return err
	}
	return ioctl(filepath.Dir(dir), iocSubvolCreateV2, unsafe.Pointer(&args), "make the subvolume "+dir)
}

// Copy implements native.Trees: a snapshot, in which owners are changed where ids are mapped.
func (t trees) Copy(ctx context.Context, from, to string, opts snapshot.Options) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	args := volArgsV2{fd: int64(source.Fd())}
	if err := args.named(to); err != nil {
		return err
	}
	if err := ioctl(filepath.Dir(to), iocSnapCreateV2, unsafe.Pointer(&args), "make a snapshot of the subvolume "+from); err != nil {
		return err
	}
	if len(opts.UIDMap) == 0 {
		return nil
	}
	return snapshot.Give(ctx, to, opts)
}

// Clear implements native.Trees. A subvolume with others in it, which a container may have made, is left to the deletion of
// all in it, file by file.
func (t trees) Clear(dir string) error {
	args := volArgs{}
	copy(args.name[:len(args.name)-1], "fs")
	err := ioctl(dir, iocSnapDestroy, unsafe.Pointer(&args), "delete the subvolume in "+dir)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// Usage implements native.Trees: of the files that are not the parent's. A snapshot keeps its parent's inode numbers, and
// a file that has been touched another time of its change; one that has changed in part counts whole.
func (t trees) Usage(ctx context.Context, parent, dir string) (snapshot.Usage, error) {
	if parent == "" {
		return snapshot.Count(ctx, dir)
	}
	var u snapshot.Usage
	seen := map[uint64]struct{}{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if errors.Is(err, os.ErrNotExist) && path != dir {
				return nil
			}
			return err
		}
		var own, theirs unix.Stat_t
		if err := unix.Lstat(path, &own); err != nil {
			return nil // it has just gone
		}
		if _, again := seen[own.Ino]; again {
			return nil
		}
		if unix.Lstat(parent+strings.TrimPrefix(path, dir), &theirs) == nil && own.Ino == theirs.Ino && own.Ctim == theirs.Ctim {
			return nil
		}
		seen[own.Ino] = struct{}{}
		u.Size += own.Blocks * 512
		u.Inodes++
		return nil
	})
	return u, err
}
