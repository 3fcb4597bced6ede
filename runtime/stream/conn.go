package stream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// closing is how long a client may take to close its side, after we have closed ours.
const closing = 5 * time.Second

// conn is a connection that was taken over from net/http, whose request's context then says nothing of the client any
// more. This one does: leave is called when the connection breaks, or when the transport closes it while it is still used,
// because the client has said good-bye (SPDY's GOAWAY) or nothing for too long. The transports read all the time, also
// while a process is silent, so that it is noticed at once.
type conn struct {
	net.Conn
	server *Server
	leave  context.CancelCauseFunc
	closed atomic.Bool
	once   sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.closed.Load() {
		return 0, io.EOF
	}
	if err != nil && n == 0 {
		c.leave(ErrClientGone)
		c.abort() // so that nobody waits in a write to it
	}
	return n, err
}

// Close ends our side first and takes what the client still sends: the kernel answers a connection that is closed with
// bytes unread by a reset, and a reset makes the client's kernel drop what it has received and not yet handed on
// (RFC 1122, section 4.2.2.13), which is the end of the output.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.closed.Store(true)
		c.leave(ErrClientGone)                               // after the handler's return it says nothing
		half, ok := c.Conn.(interface{ CloseWrite() error }) // TCP and TLS
		if !ok || half.CloseWrite() != nil {
			c.abort()
			return
		}
		_ = c.SetDeadline(time.Now().Add(closing))
		go func() {
			_, _ = io.Copy(io.Discard, c.Conn)
			c.abort()
		}()
	})
	return nil
}

// abort closes at once.
func (c *conn) abort() {
	c.Conn.Close()
	go c.server.forget(c) // the caller may hold the lock
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// taker is a ResponseWriter whose connection, when it is taken over, is a conn.
type taker struct {
	http.ResponseWriter
	server *Server
	leave  context.CancelCauseFunc
	taken  *conn
}

// close ends a connection that was taken over; cri-streaming leaves it open when the client's streams have not come.
func (t *taker) close() {
	if t.taken != nil {
		t.taken.Close()
	}
}

// Hijack is of http.Hijacker.
func (t *taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = raw.SetDeadline(time.Time{}) // of reading the head
	c := &conn{Conn: raw, server: t.server, leave: t.leave}
	t.taken = c
	t.server.mu.Lock()
	stopped := t.server.stopped
	t.server.conns[c] = struct{}{}
	t.server.mu.Unlock()
	if stopped {
		c.abort()
	}
	// What net/http has read already comes first; then c, not what is below it, so that an end is seen.
	buffered := io.LimitReader(rw.Reader, int64(rw.Reader.Buffered()))
	return c, bufio.NewReadWriter(bufio.NewReader(io.MultiReader(buffered, c)), bufio.NewWriter(c)), nil
}
