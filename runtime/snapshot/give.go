package snapshot

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Give changes the owners of a tree to the ids that a user namespace has in their places. Modes and capabilities, which a
// change of the owner takes away, are put back.
func Give(ctx context.Context, root string, opts Options) error {
	given := map[uint64]struct{}{} // a file with several names is given once
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if _, again := given[stat.Ino]; again {
			return nil
		}
		given[stat.Ino] = struct{}{}
		capability := make([]byte, 64) // more than vfs_ns_cap_data has
		n, capErr := unix.Lgetxattr(path, capabilityAttribute, capability)
		if err := os.Lchown(path, int(HostID(stat.Uid, opts.UIDMap)), int(HostID(stat.Gid, opts.GIDMap))); err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return nil
		}
		if err := unix.Chmod(path, stat.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: path, Err: err}
		}
		if capErr == nil {
			return unix.Lsetxattr(path, capabilityAttribute, capability[:n], 0)
		}
		return nil
	})
}

const capabilityAttribute = "security.capability"
