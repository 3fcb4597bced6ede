package supervisor

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"
)

// Main runs a supervisor in this process. readyFD, when not negative, is written an error to, or just closed when the
// socket answers. resumeFD, when not negative, holds the state of the program that re-executed itself.
func Main(o Options, readyFD, resumeFD int) error {
	// Relative paths of a bundle never mean this process's working directory, and no mount shall be kept busy by it.
	if err := unix.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	unix.Umask(0o022)
	// Run from a memory file, its name would be the number of a descriptor.
	if err := os.WriteFile("/proc/self/comm", []byte("minid-supervisor"), 0); err != nil {
		return err
	}
	if !exeseal.IsSelfExeCloned() {
		o.Log.Warn("the program does not run from a sealed memory file: each start of a container copies it")
	}
	if resumeFD >= 0 {
		s, err := resume(o, resumeFD)
		if err != nil {
			return err
		}
		return s.Run()
	}
	s, err := New(o)
	if readyFD >= 0 {
		ready := os.NewFile(uintptr(readyFD), "ready")
		if err != nil {
			fmt.Fprintln(ready, err)
		}
		ready.Close()
	}
	if err != nil {
		return err
	}
	return s.Run()
}
