package supervisor

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info of linux/pidfd.h in its first version, 64 bytes (Linux 6.13).
type pidfdInfo struct {
	mask     uint64
	cgroupID uint64
	pid      uint32
	tgid     uint32
	ppid     uint32
	ids      [8]uint32
	exitCode int32 // a wait status, valid with pidfdInfoExit (Linux 6.15)
}

const (
	// _IOWR(0xFF, 11, struct pidfd_info)
	pidfdGetInfo  = 3<<30 | 64<<16 | 0xFF<<8 | 11
	pidfdInfoExit = 1 << 3
)

var errNotReaped = errors.New("the kernel does not tell its exit (yet): its parent has not reaped it, or Linux is older than 6.15")

// pidfdStatus is the wait status of a process that somebody else has reaped.
func pidfdStatus(pidfd *os.File) (unix.WaitStatus, error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return 0, err
	}
	info := pidfdInfo{mask: pidfdInfoExit}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, fmt.Errorf("ioctl(PIDFD_GET_INFO): %w", errno)
	case info.mask&pidfdInfoExit == 0:
		return 0, errNotReaped
	}
	return unix.WaitStatus(info.exitCode), nil
}
