package supervisor

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stdin is the standard input of a process: what its clients write is merged, piece by piece.
type stdin struct {
	once    bool   // closed when the first client that has it ends
	onClose func() // tells the daemon to drop its duplicate, without which the process would see no end

	mu   sync.Mutex // held while a piece is written
	file *os.File

	state  sync.Mutex
	closed bool
}

// newStdin takes the file over; a terminal's belongs to the terminal and is not closed.
func newStdin(file *os.File, once bool, onClose func()) *stdin {
	return &stdin{file: file, once: once, onClose: onClose}
}

// write writes all of p and waits for the process to take it. It returns how much it took.
func (s *stdin) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Write(p)
}

// close ends the standard input. It does not wait for a write under way, which fails.
func (s *stdin) close(tell bool) {
	s.state.Lock()
	was := s.closed
	s.closed = true
	s.state.Unlock()
	if was {
		return
	}
	s.file.Close()
	if tell {
		s.onClose()
	}
}

func (s *stdin) isClosed() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return s.closed
}

// inlet copies one client's input to a process.
type inlet struct {
	file    *os.File
	to      *stdin
	buffers *sync.Pool
	done    chan struct{}

	mu      sync.Mutex
	held    bool
	pending []byte // read from the client, not yet written
	ended   bool
}

func newInlet(file *os.File, to *stdin, buffers *sync.Pool, pending []byte) *inlet {
	return &inlet{file: file, to: to, buffers: buffers, pending: pending, done: make(chan struct{})}
}

// run copies until the client's end, or that of the process.
func (i *inlet) run(gone func()) {
	defer close(i.done)
	err := i.writePending()
	for err == nil {
		if i.isHeld() {
			err = os.ErrDeadlineExceeded
			break
		}
		err = i.copyOnce()
	}
	i.mu.Lock()
	held := i.held && errors.Is(err, os.ErrDeadlineExceeded)
	i.ended = !held
	i.mu.Unlock()
	if held {
		return
	}
	i.file.Close()
	if i.to.once {
		i.to.close(true)
	}
	gone()
}

func (i *inlet) isHeld() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held
}

func (i *inlet) copyOnce() error {
	raw, err := i.file.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var readErr error
	var buf *[]byte
	err = raw.Read(func(fd uintptr) bool {
		buf = i.buffers.Get().(*[]byte)
		n, readErr = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), *buf) })
		if n > 0 {
			return true
		}
		i.buffers.Put(buf)
		return !errors.Is(readErr, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return err
	case readErr != nil:
		return readErr
	case n == 0:
		return io.EOF
	}
	written, err := i.to.write((*buf)[:n])
	if err != nil {
		i.pending = append([]byte(nil), (*buf)[written:n]...)
	}
	i.buffers.Put(buf)
	return err
}

func (i *inlet) writePending() error {
	if len(i.pending) == 0 {
		return nil
	}
	n, err := i.to.write(i.pending)
	i.pending = i.pending[n:]
	return err
}

// hold stops the inlet for a re-execution; false when it had ended.
func (i *inlet) hold() (*os.File, []byte, bool) {
	i.mu.Lock()
	i.held = true
	i.mu.Unlock()
	i.file.SetReadDeadline(time.Now())     // a file without deadlines does not block
	i.to.file.SetWriteDeadline(time.Now()) // closed: the inlet ends anyway
	<-i.done
	return i.file, i.pending, !i.ended
}

// cut ends the inlet: the process has no use for input any more.
func (i *inlet) cut() { i.file.SetReadDeadline(time.Now()) }
