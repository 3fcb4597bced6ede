package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Requests of linux/btrfs.h: _IOW(0x94, number, a struct of 4096 bytes).
const (
	iocSnapDestroy    = 0x5000940f
	iocSnapCreateV2   = 0x50009417
	iocSubvolCreateV2 = 0x50009418
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	_    int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2. The transaction's number, which the kernel writes, is not used.
type volArgsV2 struct {
	fd      int64
	_       uint64 // transid
	_       uint64 // flags
	_       [4]uint64
	subname [4040]byte
}

// named says how the new subvolume is called in its directory.
func (a *volArgsV2) named(path string) error {
	name := filepath.Base(path)
	if len(name) >= 256 { // BTRFS_SUBVOL_NAME_MAX
		return fmt.Errorf("name of a subvolume, %s, is longer than 255 bytes: %w", name, errdefs.ErrInvalidArgument)
	}
	copy(a.subname[:len(a.subname)-1], name)
	return nil
}

// ioctl makes a request of the directory that a subvolume is in.
func ioctl(dir string, request uintptr, args unsafe.Pointer, what string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(args)); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}
