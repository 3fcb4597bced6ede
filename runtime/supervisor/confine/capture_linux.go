//go:build cgo && seccomp

package confine

import (
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"
)

// What libcontainer gives the kernel is more than libseccomp's export: it puts a stub before it, and chooses flags. So
// that nobody has to do the same again, it is had do it, in a thread whose calls to put a filter in force are answered by
// this one (SECCOMP_RET_USER_NOTIF, Linux 5.0): the program is read where the call says it is, and refused.

// finalOf is what libcontainer would put in force for a profile; nothing when that cannot be seen. As Compile, it is for a
// process with nothing more to do: one thread of it stays confined, and memory is not collected any more, because a thread
// that waits for an answer in a raw system call cannot be stopped for that.
func finalOf(profile *configs.Seccomp) (f final) {
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(-1)
	listener, loaded := make(chan int, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // for good
		defer close(loaded)
		fd := listen()
		listener <- fd
		if fd >= 0 {
			_, _ = seccomp.InitSeccomp(profile) // it fails when all went well
		}
	}()
	fd := <-listener
	if fd < 0 {
		return final{}
	}
	defer unix.Close(fd)
	for {
		select {
		case <-loaded:
			return f
		default:
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(poll, 1); n == 1 && poll[0].Revents&unix.POLLIN != 0 {
			answer(fd, &f)
		}
	}
}

// listen has this thread's calls of seccomp(2) and of prctl(2) with PR_SET_SECCOMP answered by who reads the result, a
// descriptor; -1 when the kernel does not know that.
func listen() int {
	const (
		number   = 0  // offsets in struct seccomp_data
		argument = 16 // the first, its lower half on the machines that Go has this for
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result   = unix.BPF_RET | unix.BPF_K
	)
	code := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, K: unix.SYS_SECCOMP, Jt: 3},
		{Code: equal, K: unix.SYS_PRCTL, Jf: 3},
		{Code: load, K: argument},
		{Code: equal, K: unix.PR_SET_SECCOMP, Jf: 1},
		{Code: result, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: result, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// notification and response are struct seccomp_notif and struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	pointer    uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// answer refuses a call that would put a filter in force, after a look at it, and lets others through: libseccomp asks
// the kernel what it knows by calls without a program.
func answer(fd int, f *final) {
	var n notification
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return
	}
	r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	mode, flags, program := n.args[0], n.args[1], n.args[2]
	filters := mode == unix.SECCOMP_SET_MODE_FILTER
	if n.number == unix.SYS_PRCTL {
		filters, flags = n.args[1] == unix.SECCOMP_MODE_FILTER, 0
	}
	if filters && program != 0 {
		r.flags, r.error = 0, -int32(unix.EPERM)
		*f = final{program: programAt(program), flags: uint32(flags)}
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
}

// programAt copies what a struct sock_fprog describes.
func programAt(address uint64) []byte {
	head := readSelf(address, 16) // length; at 8, where the pointer's alignment puts it, the address
	if head == nil {
		return nil
	}
	length := int(binary.NativeEndian.Uint16(head))
	if length == 0 || length > maxLength {
		return nil
	}
	return readSelf(binary.NativeEndian.Uint64(head[8:]), length*instruction)
}

func readSelf(address uint64, length int) []byte {
	data := make([]byte, length)
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(length)
	n, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: uintptr(address), Len: length}}, 0)
	if err != nil || n != length {
		return nil
	}
	return data
}
