package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// halfOpen is how long a connection that the pod has half closed may be silent.
const halfOpen = time.Minute

// forwarder is what the protocols of port forwarding call, for one request. They pass no context of the connection, and
// may still call when they have ended.
type forwarder struct {
	runtime Runtime
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

func newForwarder(ctx context.Context, runtime Runtime) *forwarder {
	f := &forwarder{runtime: runtime}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// PortForward is of portforward.PortForwarder.
func (f *forwarder) PortForward(_ context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	f.mu.Lock()
	ended := f.ended
	if !ended {
		f.running.Add(1)
		defer f.running.Done()
	}
	f.mu.Unlock()
	if ended {
		return ErrClientGone
	}
	return f.runtime.PortForward(f.ctx, pod, port, stream)
}

// end is called when the client's connection has ended.
func (f *forwarder) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.cancel()
	f.running.Wait()
}

// Dialer makes connections from within a pod's network.
type Dialer interface {
	DialPod(ctx context.Context, pod, network, address string) (net.Conn, error)
}

// Forwarder forwards ports by dialing.
type Forwarder struct{ Dialer Dialer }

// PortForward is of Runtime.
func (f Forwarder) PortForward(ctx context.Context, pod string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	target, err := f.dial(ctx, pod, port)
	if err != nil {
		return err
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() {
		target.Close()
		stream.Close()
	})()
	return join(target, stream)
}

// dial tries localhost in both families: which of them a server listens on is not said.
func (f Forwarder) dial(ctx context.Context, pod string, port int32) (net.Conn, error) {
	var failed []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := f.Dialer.DialPod(ctx, pod, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err == nil {
			return c, nil
		}
		failed = append(failed, err)
		if errdefs.IsNotFound(err) || ctx.Err() != nil { // no pod; no client
			break
		}
	}
	return nil, fmt.Errorf("connect to port %d in pod %s: %w", port, pod, errors.Join(failed...))
}

// join copies both ways. One side's end is passed on and the other direction goes on, as TCP has it; after the pod's end
// only while the client sends.
func join(target net.Conn, stream io.ReadWriteCloser) error {
	upward := make(chan error, 1)
	sends := make(chan struct{}, 1)
	go func() {
		_, err := io.Copy(target, noting{stream, sends})
		if half, ok := target.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // closed: then the other direction tells
		}
		upward <- err
	}()
	_, err := io.Copy(stream, target)
	stream.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // by us, because the client has gone
	}
	silence := time.NewTimer(halfOpen)
	defer silence.Stop()
	for {
		select {
		case <-upward: // a pod that takes no more is no fault of the forwarding
			return err
		case <-sends:
			silence.Reset(halfOpen)
		case <-silence.C:
			return err
		}
	}
}

// noting is a reader that leaves a note when something was read.
type noting struct {
	io.Reader
	note chan<- struct{}
}

func (n noting) Read(p []byte) (int, error) {
	count, err := n.Reader.Read(p)
	select {
	case n.note <- struct{}{}:
	default:
	}
	return count, err
}
