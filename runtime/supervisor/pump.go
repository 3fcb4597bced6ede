package supervisor

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readSize is the size of the buffers that streams are read with. They are shared by all pumps: one is held only while
// there are bytes in it.
const readSize = 32 << 10

// maxPipe is the largest a pipe is made (pipe-max-size).
const maxPipe = 1 << 20

// drainGrace is how long after its process's end a stream is still read, when something else holds it open.
const drainGrace = 2 * time.Second

// pump reads one stream of a process and hands each piece on. It waits in the runtime's poller: no thread, no buffer.
type pump struct {
	file    *os.File
	raw     syscall.RawConn
	buffers *sync.Pool
	deliver func(p []byte, t time.Time, hurry <-chan struct{})

	mu      sync.Mutex
	order   pumpOrder
	hurry   chan struct{} // closed to make deliver not wait for clients
	drained chan struct{} // closed when everything that was there at the drain order has been delivered
	done    chan struct{} // closed when the pump has ended
	ended   bool          // by the end of the stream, not by hold
}

type pumpOrder int

const (
	pumpCopy  pumpOrder = iota
	pumpDrain           // the process has exited: deliver what is there, then go on for drainGrace
	pumpHold            // a re-execution: stop, keep the file
)

func newPump(file *os.File, buffers *sync.Pool, deliver func([]byte, time.Time, <-chan struct{})) (*pump, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &pump{
		file: file, raw: raw, buffers: buffers, deliver: deliver,
		hurry: make(chan struct{}), drained: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// run copies until the stream's end, or an order to stop.
func (p *pump) run() {
	defer close(p.done)
	var err error
	for {
		err = p.copyOnce(true)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if p.interrupted() {
				continue
			}
			break
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	held := p.order == pumpHold && errors.Is(err, os.ErrDeadlineExceeded)
	p.ended = !held
	p.mu.Unlock()
	if !held {
		p.file.Close()
	}
	p.setDrained()
}

// interrupted obeys an order, and says whether to go on.
func (p *pump) interrupted() bool {
	p.mu.Lock()
	order := p.order
	p.mu.Unlock()
	if order != pumpDrain || isClosed(p.drained) {
		return false
	}
	if err := p.file.SetReadDeadline(time.Now().Add(drainGrace)); err != nil {
		return false
	}
	// What the process left is at most what fits the pipe; more comes from others.
	for left := maxPipe; left > 0; left -= readSize {
		if err := p.copyOnce(false); err != nil {
			p.setDrained()
			return errors.Is(err, unix.EAGAIN)
		}
	}
	p.setDrained()
	return true
}

// setDrained says that the process's bytes are delivered; what still comes waits for slow clients again.
func (p *pump) setDrained() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isClosed(p.drained) {
		return
	}
	close(p.drained)
	if p.order == pumpDrain {
		p.hurry = make(chan struct{})
	}
}

func (p *pump) hurried() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hurry
}

// copyOnce reads once and delivers. Without wait it returns EAGAIN when nothing is there. The end of a pipe is io.EOF,
// that of a terminal EIO: no process has it open any more.
func (p *pump) copyOnce(wait bool) error {
	var n int
	var buf *[]byte
	var readErr error
	err := p.raw.Read(func(fd uintptr) bool {
		buf = p.buffers.Get().(*[]byte)
		n, readErr = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), *buf) })
		if n > 0 {
			return true
		}
		p.buffers.Put(buf)
		return !errors.Is(readErr, unix.EAGAIN) || !wait
	})
	switch {
	case err != nil:
		return err
	case readErr != nil:
		return readErr
	case n == 0:
		return io.EOF
	}
	p.deliver((*buf)[:n], time.Now(), p.hurried())
	p.buffers.Put(buf)
	return nil
}

// give gives an order; it takes effect at once, also while deliver waits for a slow client.
func (p *pump) give(order pumpOrder) {
	p.mu.Lock()
	p.order = order
	if !isClosed(p.hurry) {
		close(p.hurry)
	}
	p.mu.Unlock()
	if err := p.file.SetReadDeadline(time.Now()); err != nil {
		return // it has ended, and closed its file
	}
}

// drain waits until all that the process wrote before its end has been delivered.
func (p *pump) drain() {
	p.give(pumpDrain)
	<-p.drained
}

// hold stops the pump; false when the stream has ended.
func (p *pump) hold() bool {
	p.give(pumpHold)
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
