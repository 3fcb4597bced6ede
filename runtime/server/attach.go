package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/stdio"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// pendingInput bounds the messages of standard input that wait for the process to read, so that a resize or a signal
// overtakes them.
const pendingInput = 16

// Attach joins a client to the streams of a process by the pipes of runtime/stdio:
//
//	client ──recv──▶ input queue ──▶ pipes
//	client ◀─send──  two pumps   ◀── pipes
//
// The handler's return cancels the stream's context and closes the pipes, which ends all the goroutines here.
func (s *processesServer) Attach(stream grpc.BidiStreamingServer[api.AttachInput, api.AttachOutput]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return fmt.Errorf("attach: the first message must open it: %w", errdefs.ErrInvalidArgument)
	}
	if open.Start && open.Exec != nil {
		return fmt.Errorf("attach: either start the container or execute in it: %w", errdefs.ErrInvalidArgument)
	}
	c, err := s.Engine.Get(stream.Context(), namespace(open), open.Id)
	if err != nil {
		return err
	}
	open.Id = c.ID // a prefix may become ambiguous
	if open.ExecId == "" && open.Exec == nil && !c.Stdin {
		open.Stdin = false // it was made without: what the client would feed it is left
	}
	a := &attachment{processesServer: s, stream: stream, open: open, ns: namespace(open)}
	a.ctx, a.cancel = s.whileServing(stream.Context())
	defer a.close()
	return a.run()
}

// attachment is one Attach under way.
type attachment struct {
	*processesServer
	stream grpc.BidiStreamingServer[api.AttachInput, api.AttachOutput]
	open   *api.AttachOpen
	ns     string
	execID string
	wait   func(context.Context) (wire.Exit, error)
	ctx    context.Context
	cancel context.CancelFunc

	pipes   *stdio.Pipes
	input   chan []byte
	workers sync.WaitGroup

	sendLock sync.Mutex // one sender at a time, says gRPC
	over     bool       // nothing is sent any more
}

// errDetached ends an attachment whose client wants to go and leave the process running.
var errDetached = errors.New("detached")

func (a *attachment) run() error {
	pipes, streams, err := stdio.Open(a.open.Stdin, a.open.Stdout, a.open.Stderr)
	if err != nil {
		return err
	}
	a.pipes = pipes
	begun := time.Now()
	p, err := a.begin(streams)
	if err != nil {
		return err
	}
	a.execID, a.wait = p.ExecID, p.Wait
	if err := a.opened(p); err != nil {
		return err
	}
	if err := a.replay(begun); err != nil {
		return err
	}
	ended := make(chan error, 1)
	a.input = make(chan []byte, pendingInput)
	a.workers.Go(a.feed)
	go func() { ended <- a.receive() }() // ends with the stream, after the handler's return
	done := make(chan error, 1)
	a.workers.Go(func() { done <- a.deliver() })
	select {
	case err := <-done:
		return orStopping(a.ctx, err)
	case err := <-ended:
		if errors.Is(err, errDetached) {
			return nil
		}
		return err
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// close ends what still runs, and lets nothing be sent after it.
func (a *attachment) close() {
	a.cancel()
	if a.pipes != nil {
		a.pipes.Close()
	}
	a.workers.Wait()
	a.sendLock.Lock()
	defer a.sendLock.Unlock()
	a.over = true
}

// begin attaches the streams to a process, which is started or made first when the client wants that.
func (a *attachment) begin(streams *engine.Streams) (engine.Process, error) {
	switch {
	case a.open.Start:
		return a.Engine.Start(a.ctx, a.ns, a.open.Id, engine.StartOptions{Streams: streams})
	case a.open.Exec != nil:
		o, err := execOf(a.open.Exec)
		o.Streams, o.Stdin, o.AutoRemove = streams, o.Stdin || a.open.Stdin, true
		if err != nil {
			stdio.CloseStreams(streams)
			return engine.Process{}, err
		}
		return a.Engine.Exec(a.ctx, a.ns, a.open.Id, o)
	}
	if streams != nil {
		if err := a.Engine.Attach(a.ctx, a.ns, a.open.Id, a.open.ExecId, *streams); err != nil {
			return engine.Process{}, err
		}
	}
	return a.Engine.Process(a.ctx, a.ns, a.open.Id, a.open.ExecId)
}

// opened tells the client that it is attached, and gives the terminal its size.
func (a *attachment) opened(p engine.Process) error {
	err := a.send(&api.AttachOutput{Output: &api.AttachOutput_Opened{
		Opened: &api.AttachOpened{ExecId: p.ExecID, Pid: int64(p.PID), Terminal: p.Terminal},
	}})
	for _, w := range p.Warnings {
		a.warn(w)
	}
	if p.Terminal && a.open.Size != nil {
		a.resize(a.open.Size)
	}
	return err
}

// replay sends what was logged before the attachment, when the client wants it. Bytes that arrive while the attachment
// is being made may come twice, never not at all.
func (a *attachment) replay(begun time.Time) error {
	if !a.open.Logs || a.open.Start || a.execID != "" {
		return nil
	}
	return a.Engine.Logs(a.ctx, a.ns, a.open.Id, engine.LogOptions{Tail: -1, Until: begun}, func(e logs.Entry) error {
		if e.Stream == "stderr" {
			return a.sendStderr(e.Data)
		}
		return a.sendStdout(e.Data)
	})
}

// deliver sends the output until it is over, and then the exit.
func (a *attachment) deliver() error {
	exit, err := a.pipes.Deliver(a.ctx, a.wait, a.sendStdout, a.sendStderr)
	if err != nil {
		return err
	}
	return a.send(&api.AttachOutput{Output: &api.AttachOutput_Exit{Exit: exitOf(&exit)}})
}

// feed writes queued input to the process.
func (a *attachment) feed() {
	defer func() {
		if a.pipes.Stdin != nil {
			a.pipes.Stdin.Close()
		}
	}()
	for {
		select {
		case <-a.ctx.Done():
			return
		case data := <-a.input:
			if data == nil {
				return
			}
			if a.pipes.Stdin == nil {
				continue
			}
			if _, err := a.pipes.Stdin.Write(data); err != nil {
				a.discard() // the process has closed its input, and goes on
				return
			}
		}
	}
}

// discard takes input that nobody reads, so that the client's other messages get through.
func (a *attachment) discard() {
	for {
		select {
		case <-a.ctx.Done():
			return
		case data := <-a.input:
			if data == nil {
				return
			}
		}
	}
}

// receive obeys the client until it goes.
func (a *attachment) receive() error {
	closed := false
	closeInput := func() {
		if !closed {
			closed = true
			a.queue(nil)
		}
	}
	for {
		m, err := a.stream.Recv()
		if errors.Is(err, io.EOF) { // half closed: the client has no more to say, but listens
			closeInput()
			<-a.ctx.Done()
			return a.ctx.Err()
		}
		if err != nil {
			return err
		}
		switch in := m.Input.(type) {
		case *api.AttachInput_Stdin:
			if !closed && len(in.Stdin) > 0 {
				a.queue(in.Stdin)
			}
		case *api.AttachInput_CloseStdin:
			closeInput()
		case *api.AttachInput_Resize:
			a.resize(in.Resize)
		case *api.AttachInput_Signal:
			if err := a.Engine.Signal(a.ctx, a.ns, a.open.Id, a.execID, int(in.Signal), false); err != nil {
				a.warn(err.Error())
			}
		case *api.AttachInput_Detach:
			return errDetached
		case *api.AttachInput_Open:
			return fmt.Errorf("attach: it is open already: %w", errdefs.ErrInvalidArgument)
		}
	}
}

// queue hands input to feed; nil is its end.
func (a *attachment) queue(data []byte) {
	select {
	case a.input <- data:
	case <-a.ctx.Done():
	}
}

func (a *attachment) resize(s *api.TerminalSize) {
	w, h := size(s.GetWidth(), s.GetHeight())
	if err := a.Engine.Resize(a.ctx, a.ns, a.open.Id, a.execID, w, h); err != nil {
		a.Log.Debug("resize the terminal of an attachment", "id", a.open.Id, "exec", a.execID, "error", err)
	}
}

func (a *attachment) send(m *api.AttachOutput) error {
	a.sendLock.Lock()
	defer a.sendLock.Unlock()
	if a.over {
		return errDetached
	}
	return a.stream.Send(m)
}

func (a *attachment) sendStdout(p []byte) error {
	return a.send(&api.AttachOutput{Output: &api.AttachOutput_Stdout{Stdout: p}})
}

func (a *attachment) sendStderr(p []byte) error {
	return a.send(&api.AttachOutput{Output: &api.AttachOutput_Stderr{Stderr: p}})
}

// warn tells the client something that is for a person; one that is gone need not know.
func (a *attachment) warn(message string) {
	_ = a.send(&api.AttachOutput{Output: &api.AttachOutput_Warning{Warning: message}})
}
