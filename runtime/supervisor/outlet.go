package supervisor

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outletLimit is how much an outlet holds for a client that is slower than the process.
	outletLimit = 1 << 20
	// outletPatience is how long a client may take no byte before it is cut off.
	outletPatience = 30 * time.Second
)

// outlet writes a stream to one client. Writers put bytes in and wait only while it is full; a goroutine takes them out.
type outlet struct {
	file     *os.File
	patience time.Duration

	mu      sync.Mutex
	changed *sync.Cond
	pending []byte        // not written yet
	ending  bool          // nothing more will be put: close when pending is empty
	dead    bool          // the client is gone, or was cut off
	held    bool          // a re-execution: stop writing, keep pending
	room    chan struct{} // closed and replaced when pending shrinks or the outlet dies
	done    chan struct{} // closed when the goroutine has ended
}

// newOutlet takes the file over.
func newOutlet(file *os.File, pending []byte) *outlet {
	o := &outlet{file: file, patience: outletPatience, pending: pending, room: make(chan struct{}), done: make(chan struct{})}
	o.changed = sync.NewCond(&o.mu)
	return o
}

// run writes until the end; gone is called when the outlet has ended by itself.
func (o *outlet) run(gone func()) {
	go o.watch()
	defer close(o.done)
	for {
		chunk, ok := o.next()
		if !ok {
			break
		}
		n, err := o.write(chunk)
		o.written(n, err)
	}
	if o.isHeld() {
		return
	}
	o.file.Close()
	gone()
}

func (o *outlet) next() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) == 0 && !o.ending && !o.dead && !o.held {
		o.changed.Wait()
	}
	if o.dead || o.held || len(o.pending) == 0 {
		return nil, false
	}
	return o.pending, true
}

// write writes what it can until the client has taken nothing for the outlet's patience. Regular files have no deadline, and
// need none.
func (o *outlet) write(chunk []byte) (int, error) {
	if err := o.file.SetWriteDeadline(time.Now().Add(o.patience)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return 0, err
	}
	if o.isHeld() { // hold came before the deadline was moved on
		return 0, os.ErrDeadlineExceeded
	}
	return o.file.Write(chunk[:min(len(chunk), readSize)])
}

func (o *outlet) written(n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending = o.pending[n:]
	if len(o.pending) == 0 {
		o.pending = nil
	}
	if err != nil && n == 0 && !o.held {
		o.dead = true
	}
	o.wake()
}

// wake tells those who wait in put. The lock is held.
func (o *outlet) wake() {
	close(o.room)
	o.room = make(chan struct{})
}

func (o *outlet) isHeld() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.held
}

// put adds bytes; while the outlet is full it waits for room, at most until hurry is closed, when they are added at once.
func (o *outlet) put(p []byte, hurry <-chan struct{}) {
	for {
		o.mu.Lock()
		if o.dead || o.ending {
			o.mu.Unlock()
			return
		}
		room := o.room
		if len(o.pending) == 0 || len(o.pending)+len(p) <= outletLimit || isClosed(hurry) {
			o.pending = append(o.pending, p...)
			o.changed.Signal()
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		select {
		case <-room:
		case <-hurry:
		}
	}
}

// end closes the client's descriptor after the last byte.
func (o *outlet) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
	o.changed.Signal()
}

// hold stops the outlet for a re-execution and returns its file and the bytes it has not written.
func (o *outlet) hold() (*os.File, []byte, bool) {
	o.mu.Lock()
	o.held = true
	o.changed.Signal()
	o.mu.Unlock()
	o.file.SetWriteDeadline(time.Now()) // a file without deadlines does not block
	<-o.done
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file, o.pending, !o.dead
}

// cut ends the outlet now.
func (o *outlet) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.changed.Signal()
	o.wake()
	o.file.SetWriteDeadline(time.Now())
}

// watch notices that the client has closed its end while there is nothing to write.
func (o *outlet) watch() {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return
	}
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
	})
	if err == nil {
		o.cut()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// private makes a description of our own of a client's file, because being non-blocking is a property of the open
// file, which the client shares: its shell would not like its terminal to become non-blocking. Pipes and terminals can
// be opened again. A socket cannot, and its other end does not share it. A regular file must not be: the offset is
// shared on purpose.
func private(f *os.File, flags int) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	var inner error
	err = raw.Control(func(fd uintptr) { file, inner = privateFD(int(fd), flags) })
	return file, errors.Join(err, inner)
}

func privateFD(fd, flags int) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	kind := st.Mode & unix.S_IFMT
	// /dev/ptmx opened again is another terminal.
	master := kind == unix.S_IFCHR && st.Rdev == unix.Mkdev(5, 2)
	if (kind == unix.S_IFIFO || kind == unix.S_IFCHR) && !master {
		if file, err := openPollable("/proc/self/fd/"+itoa(fd), flags); err == nil {
			return file, nil
		}
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if kind == unix.S_IFSOCK || master {
		if err := unix.SetNonblock(dup, true); err != nil {
			unix.Close(dup)
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	return os.NewFile(uintptr(dup), "client"), nil
}
