// Package enter starts a process in the namespaces and cgroups of another: what libcontainer's setns init does for an
// exec, without executing this program once more as init, without Go in the process, and without a protocol. A probe's
// exec is 2 ms instead of 12.
//
//	caller ──clone3──▶ first: cgroups, limits, setns ──clone(CLONE_PARENT)──▶ second: user, capabilities, filter, execve
//	   ▲                  exits when the second has begun its program           │
//	   └────────────────── socket: "ready" and its number, or the stage that failed
//
// It is all or nothing. When any step fails the program has not begun, both processes are gone, and the caller may run
// the request by libcontainer, whose errors are then those that the user sees. So there is no second set of messages, and
// what this package cannot do on some kernel (clone3 before 5.5, setns with a pidfd before 5.8, close_range before 5.9)
// is done the old way.
//
// # Why it is as safe as libcontainer
//
// Order. The steps are libcontainer's, in its order (nsexec.c, setns_init_linux.go, finalizeNamespace): oom_score_adj,
// non-dumpable, namespaces with the user namespace last, setsid, root of that namespace, session keyring, no_new_privs,
// umask, the filter where that needs a privilege, chdir, bounding set, keepcaps, owner of the standard streams, groups,
// gid, uid, check of the working directory, the other sets, look-up of the program, the filter where no_new_privs lets it
// be the last, execve. Two come earlier, because the parent does them there and here the process itself: the cgroups and
// the limits, both before the namespaces are entered, while the process may.
//
// The half-way process. Until execve it is a copy of the supervisor, in the container's namespaces and with more rights
// than the container. It is not dumpable before it goes there (PR_SET_DUMPABLE; CVE-2016-9962): without CAP_SYS_PTRACE in
// the host's user namespace nobody can trace it, read its memory, or follow the links of its /proc/PID (fd, cwd, root, exe).
// A container that has this capability is the host's equal, here as with libcontainer. Its memory is a copy, without Go's
// heap (heap.go): the first process is forked, not vforked, so that nothing in the container's namespaces shares the
// supervisor's; the second, which the container can see, borrows the first one's.
//
// The program file (CVE-2019-5736). /proc/PID/exe of that process is the supervisor's. It cannot be written, because the
// supervisor runs from a sealed memory file, as libcontainer's init does; the caller must not use this package
// otherwise (see exeseal.IsSelfExeCloned).
//
// Descriptors (CVE-2024-21626). All but the standard streams and the socket are closed, not only marked, between setns and
// the second clone: before a path of the container is used for the first time. The socket is close-on-exec. The working
// directory is checked by getcwd after the last chdir.
//
// What the program inherits of the supervisor beside this: nothing but what libcontainer leaves too. Signal handlers are
// reset (CLONE_CLEAR_SIGHAND), the mask is empty, RLIMIT_NOFILE is what it was before Go raised it, processors are all.
//
// What does not live here: which request is fit (runtime/supervisor, direct.go).
package enter

/*
#include <stdlib.h>
#include "enter.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request is what a process shall be.
type Request struct {
	First         *os.File // a pidfd of a process in the namespaces
	Namespaces    int      // CLONE_NEW* to take from it
	Paths         []string
	Cgroup        string   // directory of a cgroup v2; empty: none
	Procs         []string // the cgroup.procs files of cgroups v1
	Stdin         *os.File // nil, as the others: /dev/null
	Stdout        *os.File
	Stderr        *os.File
	OOMScoreAdj   string // empty: inherited
	Rlimits       []Rlimit
	Keyring       string // name of the session keyring; empty: inherited
	NoNewPrivs    bool
	Umask         int // -1: inherited
	Cwd           string
	UID, GID      uint32
	Groups        []uint32
	Capabilities  Capabilities
	Filter        []byte // seccomp program; empty: none
	FilterFlags   uint
	Programs      []string // paths to try, in order
	Args, Environ []string
}

// Rlimit is one of setrlimit(2).
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// Capabilities are sets of bits.
type Capabilities struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
	Last                                                 int // the kernel's last capability
}

// Error says that a process was not started, and that nothing of it is left.
type Error struct {
	Stage string
	Err   syscall.Errno // 0: the process was killed
}

func (e *Error) Error() string { return fmt.Sprintf("enter a container: %s: %v", e.Stage, e.Err) }

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Err }

// Start starts a process, as this one's child, and returns its number when its program has begun.
func Start(r Request) (int, error) {
	var open files
	defer open.close()
	var m memory
	defer m.free()
	c := (*C.struct_enter_request)(m.alloc(C.sizeof_struct_enter_request))
	if err := open.all(r, c, &m); err != nil {
		return 0, err
	}
	c.namespaces, c.user_namespace = C.int(r.Namespaces&^unix.CLONE_NEWUSER), flag(r.Namespaces&unix.CLONE_NEWUSER != 0)
	c.oom_score_adj, c.keyring, c.cwd = m.text(r.OOMScoreAdj), m.text(r.Keyring), m.text(r.Cwd)
	c.no_new_privs, c.umask = flag(r.NoNewPrivs), C.int(r.Umask)
	c.uid, c.gid = C.uint32_t(r.UID), C.uint32_t(r.GID)
	c.groups, c.group_count = (*C.uint32_t)(copied(&m, r.Groups)), C.int(len(r.Groups))
	c.bounding, c.effective = C.uint64_t(r.Capabilities.Bounding), C.uint64_t(r.Capabilities.Effective)
	c.permitted, c.inheritable = C.uint64_t(r.Capabilities.Permitted), C.uint64_t(r.Capabilities.Inheritable)
	c.ambient, c.last_cap = C.uint64_t(r.Capabilities.Ambient), C.int(r.Capabilities.Last)
	const instruction = 8 // bytes of a struct sock_filter
	c.filter, c.filter_length, c.filter_flags = copied(&m, r.Filter), C.int(len(r.Filter)/instruction), C.uint(r.FilterFlags)
	limits := limitsOf(r.Rlimits)
	c.rlimits, c.rlimit_count = (*C.struct_enter_rlimit)(copied(&m, limits)), C.int(len(limits))
	c.programs, c.argv, c.envp = m.list(r.Programs), m.list(r.Args), m.list(r.Environ)

	var result C.struct_enter_result
	withholdHeap(unsafe.Pointer(&result))
	C.enter(c, &result)
	if result.stage != 0 {
		return 0, &Error{Stage: C.GoString(C.enter_stage(result.stage)), Err: syscall.Errno(result.error)}
	}
	return int(result.pid), nil
}

// limitsOf adds what Go has changed.
func limitsOf(list []Rlimit) []C.struct_enter_rlimit {
	limits := []C.struct_enter_rlimit{C.enter_nofile()}
	for _, l := range list {
		limits = append(limits, C.struct_enter_rlimit{resource: C.int(l.Resource), soft: C.uint64_t(l.Soft), hard: C.uint64_t(l.Hard)})
	}
	return limits
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// files are opened for one start.
type files struct{ fds []int }

// above is where descriptors that the first process still needs begin: its standard streams and its socket are below.
const above = 10

func (o *files) open(path string, flags int) (C.int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	o.fds = append(o.fds, fd)
	return o.raise(fd)
}

// duplicate holds a file open that its owner may close meanwhile.
func (o *files) duplicate(f *os.File) (C.int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var inner error
	err = raw.Control(func(old uintptr) { fd, inner = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, above) })
	if err := errors.Join(err, inner); err != nil {
		return -1, err
	}
	o.fds = append(o.fds, fd)
	return C.int(fd), nil
}

func (o *files) raise(fd int) (C.int, error) {
	if fd >= above {
		return C.int(fd), nil
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above)
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	o.fds = append(o.fds, fd)
	return C.int(fd), nil
}

func (o *files) close() {
	for _, fd := range o.fds {
		unix.Close(fd)
	}
}

// all opens what a request names.
func (o *files) all(r Request, c *C.struct_enter_request, m *memory) error {
	var err error
	if c.pidfd, err = o.duplicate(r.First); err != nil {
		return err
	}
	each := func(paths []string, flags int) ([]C.int, error) {
		var fds []C.int
		for _, p := range paths {
			fd, err := o.open(p, flags)
			if err != nil {
				return nil, err
			}
			fds = append(fds, fd)
		}
		return fds, nil
	}
	paths, err := each(r.Paths, unix.O_RDONLY)
	if err != nil {
		return err
	}
	procs, err := each(r.Procs, unix.O_WRONLY)
	if err != nil {
		return err
	}
	c.paths, c.path_count = (*C.int)(copied(m, paths)), C.int(len(paths))
	c.procs, c.proc_count = (*C.int)(copied(m, procs)), C.int(len(procs))
	c.cgroup = -1
	if r.Cgroup != "" {
		if c.cgroup, err = o.open(r.Cgroup, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return err
		}
	}
	for i, f := range []*os.File{r.Stdin, r.Stdout, r.Stderr} {
		if f != nil {
			c.stdio[i] = C.int(f.Fd()) // open until the start is over, says the caller, and blocking
			continue
		}
		mode := unix.O_WRONLY
		if i == 0 {
			mode = unix.O_RDONLY
		}
		if c.stdio[i], err = o.open(os.DevNull, mode); err != nil {
			return err
		}
	}
	return nil
}

// memory is C's, freed at once: the copy of the process finds it where it is, and cgo lets no pointers to Go's pass.
type memory struct{ blocks []unsafe.Pointer }

func (m *memory) alloc(size int) unsafe.Pointer {
	p := C.calloc(1, C.size_t(max(size, 1))) // cgo ends the program when there is none
	m.blocks = append(m.blocks, p)
	return p
}

func (m *memory) free() {
	for _, p := range m.blocks {
		C.free(p)
	}
}

// text is null for the empty string.
func (m *memory) text(s string) *C.char {
	if s == "" {
		return nil
	}
	return m.string(s)
}

func (m *memory) string(s string) *C.char {
	p := m.alloc(len(s) + 1)
	copy(unsafe.Slice((*byte)(p), len(s)), s)
	return (*C.char)(p)
}

func (m *memory) list(texts []string) **C.char {
	p := (**C.char)(m.alloc((len(texts) + 1) * int(unsafe.Sizeof((*C.char)(nil)))))
	for i, s := range texts {
		unsafe.Slice(p, len(texts))[i] = m.string(s)
	}
	return p
}

func copied[T any](m *memory, list []T) unsafe.Pointer {
	if len(list) == 0 {
		return nil
	}
	p := m.alloc(len(list) * int(unsafe.Sizeof(list[0])))
	copy(unsafe.Slice((*T)(p), len(list)), list)
	return p
}
