package seccomp

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestName(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("system calls have no names on this machine")
	}
	for nr, want := range map[int]string{
		unix.SYS_READ: "read", unix.SYS_MOUNT: "mount", unix.SYS_UNSHARE: "unshare", unix.SYS_OPENAT2: "openat2", unix.SYS_PIDFD_OPEN: "pidfd_open",
		unix.SYS_SWAPOFF: "swapoff", unix.SYS_FSTAT: "fstat", 9999: "9999", -1: "-1",
	} {
		if got := Name(nr); got != want {
			t.Errorf("system call %d is %q, want %q", nr, got, want)
		}
	}
}
