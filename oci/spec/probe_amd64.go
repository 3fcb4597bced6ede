package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// x32Bit marks a system call of the x32 ABI (asm/unistd.h, __X32_SYSCALL_BIT).
const x32Bit = 0x40000000

// missingArches lists the two other architectures of an x86-64 machine, as far as the kernel was built without: few have
// x32. filtered says that this process has a seccomp filter itself: then x32 is not tried, because a filter may kill who
// does, and is taken to be there.
func missingArches(filtered bool) []string {
	var missing []string
	if !exists("/proc/sys/abi/vsyscall32") { // there with CONFIG_IA32_EMULATION
		missing = append(missing, string(specs.ArchX86))
	}
	if filtered {
		return missing
	}
	if _, _, errno := unix.Syscall(x32Bit|unix.SYS_GETPID, 0, 0, 0); errno == unix.ENOSYS {
		missing = append(missing, string(specs.ArchX32))
	}
	return missing
}
