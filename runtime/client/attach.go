package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
)

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint32 }

// Attachment is the client's side of an attached process. What is nil is not attached.
type Attachment struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Resize brings the sizes of the client's terminal.
	Resize <-chan Size
	// Signals are sent on to the process.
	Signals <-chan syscall.Signal
	// DetachKeys, typed on Stdin, end the attachment and leave the process running; see ParseDetachKeys. Empty: none.
	DetachKeys []byte
	// Opened is called when the attachment is in place, Warning with what a person should know.
	Opened  func(*api.AttachOpened)
	Warning func(string)
}

// Attach opens an attachment and carries its streams until the process ends or the detach keys are typed; then the exit
// is nil. open says which process, and whether it is started first; its stdin, stdout and stderr are set here.
//
// A Read of Stdin that blocks is left behind when Attach returns: nothing can interrupt it in general.
func (c *Client) Attach(ctx context.Context, open *api.AttachOpen, a Attachment) (*api.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Processes.Attach(ctx)
	if err != nil {
		return nil, err
	}
	open.Stdin, open.Stdout, open.Stderr = a.Stdin != nil, a.Stdout != nil, a.Stderr != nil
	s := &attachment{Attachment: a, stream: stream}
	if err := s.send(&api.AttachInput{Input: &api.AttachInput_Open{Open: open}}); err != nil {
		return nil, err
	}
	return s.receive(ctx)
}

type attachment struct {
	Attachment
	stream   grpc.BidiStreamingClient[api.AttachInput, api.AttachOutput]
	sendLock sync.Mutex // one sender at a time, says gRPC
}

// send tells nothing of a stream that the server has ended: receive gets the reason.
func (a *attachment) send(m *api.AttachInput) error {
	a.sendLock.Lock()
	defer a.sendLock.Unlock()
	if err := a.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (a *attachment) receive(ctx context.Context) (*api.Exit, error) {
	var exit *api.Exit
	for {
		m, err := a.stream.Recv()
		if errors.Is(err, io.EOF) {
			return exit, nil
		}
		if err != nil {
			return exit, err
		}
		switch o := m.Output.(type) {
		case *api.AttachOutput_Opened:
			if a.Opened != nil {
				a.Opened(o.Opened)
			}
			// Input waits until the process is there to take it.
			go a.pumpStdin()
			go a.pumpControl(ctx)
		case *api.AttachOutput_Stdout:
			err = write(a.Stdout, o.Stdout)
		case *api.AttachOutput_Stderr:
			err = write(a.Stderr, o.Stderr)
		case *api.AttachOutput_Exit:
			exit = o.Exit
		case *api.AttachOutput_Warning:
			if a.Warning != nil {
				a.Warning(o.Warning)
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

func write(w io.Writer, data []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(data)
	return err
}

// pumpStdin sends what is read, until the end of the input, the detach keys, or the end of the stream.
func (a *attachment) pumpStdin() {
	if a.Stdin == nil {
		return
	}
	in := &detachReader{r: a.Stdin, keys: a.DetachKeys}
	buf := make([]byte, grpcx.ChunkSize/8)
	for {
		n, err := in.Read(buf)
		if n > 0 && a.send(&api.AttachInput{Input: &api.AttachInput_Stdin{Stdin: buf[:n]}}) != nil {
			return
		}
		switch {
		case errors.Is(err, errDetached):
			_ = a.send(&api.AttachInput{Input: &api.AttachInput_Detach{Detach: true}})
			return
		case err != nil:
			_ = a.send(&api.AttachInput{Input: &api.AttachInput_CloseStdin{CloseStdin: true}})
			return
		}
	}
}

// pumpControl sends sizes and signals.
func (a *attachment) pumpControl(ctx context.Context) {
	sizes, signals := a.Resize, a.Signals
	for sizes != nil || signals != nil {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			_ = a.send(&api.AttachInput{Input: &api.AttachInput_Resize{Resize: &api.TerminalSize{Width: size.Width, Height: size.Height}}})
		case s, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			_ = a.send(&api.AttachInput{Input: &api.AttachInput_Signal{Signal: int32(s)}})
		}
	}
}
