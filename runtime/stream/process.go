package stream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/stdio"
	"github.com/minirt/mini/runtime/supervisor/wire"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Engine is what the streams of processes want of the engine; *engine.Engine is one.
type Engine interface {
	Get(ctx context.Context, ns, id string) (engine.Container, error)
	Exec(ctx context.Context, ns, id string, o engine.ExecOptions) (engine.Process, error)
	Attach(ctx context.Context, ns, id, execID string, s engine.Streams) error
	Process(ctx context.Context, ns, id, execID string) (engine.Process, error)
	Signal(ctx context.Context, ns, id, execID string, sig int, all bool) error
	Resize(ctx context.Context, ns, id, execID string, width, height uint16) error
}

// Processes joins streams to the processes of an engine.
type Processes struct {
	Engine    Engine
	Namespace string
	Log       *slog.Logger
}

// Exec is of Runtime. A command whose client leaves goes on without it; one with a terminal is told that the terminal
// has hung up, as its own would be.
func (p Processes) Exec(ctx context.Context, container string, command []string, s Streams) (int, error) {
	pipes, files, err := stdio.Open(s.Stdin != nil, s.Stdout != nil, s.Stderr != nil)
	if err != nil {
		return 0, err
	}
	defer pipes.Close()
	process, err := p.Engine.Exec(ctx, p.Namespace, container, engine.ExecOptions{
		Process: spec.Exec{Args: command, Terminal: s.Terminal, ConsoleSize: firstSize(s.Resize)},
		Stdin:   s.Stdin != nil, Streams: files, AutoRemove: true,
	})
	if err != nil {
		return 0, err
	}
	exit, err := p.join(ctx, container, process, pipes, s)
	if s.Terminal && errors.Is(context.Cause(ctx), ErrClientGone) {
		p.hangUp(ctx, container, process.ExecID)
	}
	return exit.Code, err
}

// firstSize is the size that the client has sent before its command runs, if it has.
func firstSize(sizes <-chan remotecommand.TerminalSize) *specs.Box {
	select {
	case size, ok := <-sizes:
		if ok {
			return &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
		}
	default:
	}
	return nil
}

const hangUpTimeout = 10 * time.Second

func (p Processes) hangUp(ctx context.Context, container, execID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
	defer cancel()
	if err := p.Engine.Signal(ctx, p.Namespace, container, execID, int(unix.SIGHUP), false); err != nil {
		p.Log.Debug("hang up the terminal of a client that has gone", "id", container, "exec", execID, "error", err)
	}
}

// Attach is of Runtime. A client that leaves has detached; the process goes on.
func (p Processes) Attach(ctx context.Context, container string, s Streams) error {
	c, err := p.Engine.Get(ctx, p.Namespace, container)
	if err != nil {
		return err
	}
	// One that was made without a standard input reads none: what the client sends is taken and dropped.
	pipes, files, err := stdio.Open(s.Stdin != nil && c.Stdin, s.Stdout != nil, s.Stderr != nil)
	if err != nil {
		return err
	}
	defer pipes.Close()
	if files != nil {
		if err := p.Engine.Attach(ctx, p.Namespace, c.ID, "", *files); err != nil {
			return err
		}
	}
	process, err := p.Engine.Process(ctx, p.Namespace, c.ID, "")
	if err != nil {
		return err
	}
	_, err = p.join(ctx, c.ID, process, pipes, s)
	return err
}

// join copies until the process has ended and its output is written, or until ctx ends.
func (p Processes) join(ctx context.Context, container string, process engine.Process, pipes *stdio.Pipes, s Streams) (wire.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, pipes.Close)()
	var resizing sync.WaitGroup
	resizing.Go(func() { p.resize(ctx, container, process, s.Resize) })
	defer resizing.Wait()
	defer cancel()
	go feed(pipes, s.Stdin) // ends with the client's stream, with its connection at the latest, and holds only that
	exit, err := pipes.Deliver(ctx, process.Wait, writeTo(s.Stdout), writeTo(s.Stderr))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return exit, err
}

// feed passes the client's input on, and its end. Input that the process does not want is taken all the same: on a
// WebSocket nothing else would get through.
func feed(pipes *stdio.Pipes, from io.Reader) {
	if from == nil {
		return
	}
	if pipes.Stdin != nil {
		_, _ = io.Copy(pipes.Stdin, from)
		pipes.Stdin.Close()
	}
	_, _ = io.Copy(io.Discard, from)
}

func (p Processes) resize(ctx context.Context, container string, process engine.Process, sizes <-chan remotecommand.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes: // never, when there is none
			if !ok {
				return
			}
			if !process.Terminal {
				continue
			}
			if err := p.Engine.Resize(ctx, p.Namespace, container, process.ExecID, size.Width, size.Height); err != nil {
				p.Log.Debug("resize a client's terminal", "id", container, "exec", process.ExecID, "error", err)
			}
		}
	}
}

func writeTo(w io.Writer) func([]byte) error {
	return func(p []byte) error {
		_, err := w.Write(p)
		return err
	}
}
