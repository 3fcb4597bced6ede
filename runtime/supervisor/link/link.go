// Package link carries wire messages over an fdpass connection: calls matched with their answers by number, in any
// order and at the same time, and events. It knows neither what a method means nor who is at which end.
package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// sendTimeout is how long a side may refuse to read before the connection counts as dead.
const sendTimeout = 10 * time.Second

// Send sends a message with a body (nil for none) and files, which stay the caller's.
func Send(c *fdpass.Conn, m wire.Message, body any, files []*os.File) error {
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		m.Body = raw
	}
	m.FDs = len(files)
	packet, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(packet) > wire.MaxMessage {
		return fmt.Errorf("message %s: %d bytes, at most %d fit: %w", m.Method, len(packet), wire.MaxMessage, errdefs.ErrInvalidArgument)
	}
	return c.Send(packet, files, time.Now().Add(sendTimeout))
}

// Receive receives a message; the files are the caller's. buf has room for wire.MaxMessage bytes.
func Receive(c *fdpass.Conn, buf []byte) (wire.Message, []*os.File, error) {
	n, files, err := c.Recv(buf)
	if err != nil {
		return wire.Message{}, nil, err
	}
	m, err := parse(buf[:n], len(files))
	if err != nil {
		fdpass.CloseAll(files)
		return wire.Message{}, nil, err
	}
	return m, files, nil
}

func parse(packet []byte, files int) (wire.Message, error) {
	var m wire.Message
	if err := json.Unmarshal(packet, &m); err != nil {
		return m, fmt.Errorf("packet of %d bytes: not a message: %w: %w", len(packet), err, errdefs.ErrInvalidArgument)
	}
	if m.FDs != files {
		return m, fmt.Errorf("message %d %s: %d descriptors came, %d are named: %w", m.ID, m.Method, files, m.FDs, errdefs.ErrInvalidArgument)
	}
	return m, nil
}

// Caller is the side that asks.
type Caller struct {
	conn  *fdpass.Conn
	event func(method string, body json.RawMessage)
	done  chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	err     error // why the connection ended
}

type answer struct {
	message wire.Message
	files   []*os.File
}

// NewCaller takes the connection over. event is called for each event, in order, by a goroutine that delivers answers
// too: it must not wait for a call.
func NewCaller(conn *fdpass.Conn, event func(method string, body json.RawMessage)) *Caller {
	c := &Caller{conn: conn, event: event, done: make(chan struct{}), waiting: map[uint64]chan answer{}}
	go c.receive()
	return c
}

// Done is closed when the connection has ended, however that came.
func (c *Caller) Done() <-chan struct{} { return c.done }

// Close ends the connection; calls under way return ErrUnavailable.
func (c *Caller) Close() error { return c.conn.Close() }

// Peer tells who is at the other end.
func (c *Caller) Peer() (fdpass.Peer, error) { return c.conn.Peer() }

// Call asks, and waits for the answer or the context's end. out, when not nil, receives the answer's body; the files
// that came with it are the caller's. When the context ends first, the request may still be carried out.
func (c *Caller) Call(ctx context.Context, method string, in any, files []*os.File, out any) ([]*os.File, error) {
	id, reply, err := c.expect()
	if err != nil {
		return nil, err
	}
	if err := Send(c.conn, wire.Message{ID: id, Method: method}, in, files); err != nil {
		c.forget(id)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.conn.Close()
		}
		return nil, fmt.Errorf("supervisor: %s: %w: %w", method, err, errdefs.ErrUnavailable)
	}
	select {
	case a := <-reply:
		return a.take(method, out)
	case <-ctx.Done():
		if !c.forget(id) { // the answer has come at the same time
			a := <-reply
			return a.take(method, out)
		}
		return nil, fmt.Errorf("supervisor: no answer to %s: %w", method, ctx.Err())
	case <-c.done:
		c.forget(id)
		select {
		case a := <-reply:
			return a.take(method, out)
		default:
		}
		return nil, fmt.Errorf("supervisor: connection ended before the answer to %s: %w", method, errdefs.ErrUnavailable)
	}
}

func (a answer) take(method string, out any) ([]*os.File, error) {
	err := Decode(a.message.Error)
	if err == nil && out != nil {
		err = json.Unmarshal(a.message.Body, out)
		if err != nil {
			err = fmt.Errorf("supervisor: answer to %s: %w", method, err)
		}
	}
	if err != nil {
		fdpass.CloseAll(a.files)
		return nil, err
	}
	return a.files, nil
}

func (c *Caller) expect() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, fmt.Errorf("supervisor: connection has ended: %w: %w", c.err, errdefs.ErrUnavailable)
	}
	c.next++
	reply := make(chan answer, 1)
	c.waiting[c.next] = reply
	return c.next, reply, nil
}

// forget says whether nobody has answered yet.
func (c *Caller) forget(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.waiting[id]
	delete(c.waiting, id)
	return ok
}

func (c *Caller) receive() {
	buf := make([]byte, wire.MaxMessage)
	for {
		m, files, err := Receive(c.conn, buf)
		if err != nil {
			c.end(err)
			return
		}
		if m.ID == 0 {
			fdpass.CloseAll(files)
			c.event(m.Method, m.Body)
			continue
		}
		c.mu.Lock()
		reply := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		if reply != nil {
			reply <- answer{m, files}
		}
		c.mu.Unlock()
		if reply == nil {
			fdpass.CloseAll(files)
		}
	}
}

func (c *Caller) end(err error) {
	c.conn.Close()
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
}
