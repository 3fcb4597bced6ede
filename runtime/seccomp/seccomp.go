// Package seccomp is told of the system calls that the filters of containers forbid and ask about (SCMP_ACT_NOTIFY,
// seccomp_unotify(2), Linux 5.8), names them, and refuses them. Runtimes hand over the descriptor of a filter as the runtime
// specification has it ("Container Process State"), over one socket for all containers; which container it is, is the
// metadata of its filter. Making filters is not done here.
//
// The daemon's end is no harm to a container: the kernel refuses what nobody is there to be asked about, with ENOSYS.
package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Call is one system call that was refused.
type Call struct {
	Container string // the metadata of the filter
	Name      string // of the call; its number where that is not known
	PID       int    // of the caller, on the host
}

// Listener takes over the filters of containers.
type Listener struct {
	socket *net.UnixListener
	told   func(Call)
	log    *slog.Logger

	mu      sync.Mutex
	closed  bool
	filters map[*os.File]struct{}
	done    sync.WaitGroup
}

// Listen makes the socket, in place of one that an earlier daemon has left. told is called for each call, before it is
// refused: it must not wait.
func Listen(path string, told func(Call), log *slog.Logger) (*Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for filters of system calls: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	l := &Listener{socket: socket, told: told, log: log, filters: map[*os.File]struct{}{}}
	l.done.Go(l.accept)
	return l, nil
}

// Close ends the listening; the filters go on, and refuse by themselves.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	err := l.socket.Close()
	for f := range l.filters {
		f.Close()
	}
	l.mu.Unlock()
	l.done.Wait()
	return err
}

func (l *Listener) accept() {
	for {
		conn, err := l.socket.AcceptUnix()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.log.Error("filters of system calls are not taken over any more", "error", err)
			}
			return
		}
		container, filter, err := receive(conn)
		conn.Close()
		if err != nil {
			l.log.Warn("a filter of system calls is not taken over", "error", err)
			continue
		}
		l.watch(container, filter)
	}
}

func (l *Listener) watch(container string, filter *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		filter.Close()
		return
	}
	l.filters[filter] = struct{}{}
	l.done.Go(func() {
		err := l.answer(container, filter)
		l.mu.Lock()
		closed := l.closed
		delete(l.filters, filter)
		l.mu.Unlock()
		filter.Close()
		if err != nil && !closed {
			l.log.Warn("a filter of system calls is not answered any more", "container", container, "error", err)
		}
	})
}

// maxState bounds a message of a runtime, in bytes.
const maxState = 64 << 10

// receive takes a container process state and the descriptor of its filter.
func receive(conn *net.UnixConn) (container string, filter *os.File, err error) {
	data, oob := make([]byte, maxState), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(data, oob)
	if err != nil {
		return "", nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return "", nil, err
	}
	var fds []int
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	var state specs.ContainerProcessState
	err = json.Unmarshal(data[:n], &state)
	for i, fd := range fds {
		if filter == nil && err == nil && i < len(state.Fds) && state.Fds[i] == specs.SeccompFdName {
			unix.CloseOnExec(fd)
			err = unix.SetNonblock(fd, true) // Go's poller waits for it
			filter = os.NewFile(uintptr(fd), "seccomp")
			continue
		}
		unix.Close(fd)
	}
	if err == nil && filter == nil {
		err = errors.New("the message has no descriptor of a filter")
	}
	if err != nil && filter != nil {
		filter.Close()
	}
	return state.Metadata, filter, err
}

// notification is struct seccomp_notif, and response struct seccomp_notif_resp, of linux/seccomp.h.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// SECCOMP_IOCTL_NOTIF_RECV and _SEND, of linux/seccomp.h.
const (
	ioctlReceive = 0xc0502100
	ioctlSend    = 0xc0182101
)

// answer refuses the calls of a filter until nobody has it any more.
func (l *Listener) answer(container string, filter *os.File) error {
	raw, err := filter.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n notification
		over := false
		var inner error
		err := raw.Read(func(fd uintptr) bool {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(ready, 0); err != nil {
				inner = err
				return !errors.Is(err, unix.EINTR)
			}
			switch events := ready[0].Revents; {
			case events&unix.POLLIN != 0:
				n = notification{}
				inner = ioctl(fd, ioctlReceive, unsafe.Pointer(&n))
				return true
			case events&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
				over = true
				return true
			}
			return false
		})
		switch {
		case err != nil:
			return err
		case over:
			return nil
		case errors.Is(inner, unix.ENOENT), errors.Is(inner, unix.EINTR): // the caller was killed meanwhile
			continue
		case inner != nil:
			return inner
		}
		l.told(Call{Container: container, Name: Name(int(n.nr)), PID: int(n.pid)})
		refuse := response{id: n.id, error: -int32(unix.EPERM)}
		err = raw.Control(func(fd uintptr) { inner = ioctl(fd, ioctlSend, unsafe.Pointer(&refuse)) })
		if err != nil {
			return err
		}
		if inner != nil && !errors.Is(inner, unix.ENOENT) {
			return inner
		}
	}
}

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// Name is that of a system call of this machine by its number, or the number.
func Name(nr int) string {
	next := 0
	for word := range strings.FieldsSeq(table) {
		if at, is := strings.CutPrefix(word, "="); is {
			next, _ = strconv.Atoi(at)
			continue
		}
		if next == nr {
			return word
		}
		next++
	}
	return strconv.Itoa(nr)
}
