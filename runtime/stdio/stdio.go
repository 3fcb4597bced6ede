// Package stdio joins readers and writers of this program to the standard streams of a process in a container. The
// supervisor has one end of a pipe per stream, this package the other; whoever ends first closes its ends, and the rest
// follows:
//
//	front end ──▶ pipe ──▶ supervisor ──▶ process
//	front end ◀── pipes ◀── supervisor ◀── process
//
// How the bytes reach a client is the front ends' matter.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

const (
	// linger is how long after the exit of a process the silence of its output must last before the output counts as
	// over: a child that has inherited it may hold it open for ever.
	linger = 2 * time.Second
	buffer = 32 << 10
)

// Pipes are our ends of the pipes; nil where a stream is not wanted.
type Pipes struct {
	Stdin, Stdout, Stderr *os.File
	exited                atomic.Bool // the process has: see linger
}

// Open makes a pipe for each stream that is wanted, and returns the ends for the supervisor; nil when none is.
func Open(stdin, stdout, stderr bool) (*Pipes, *engine.Streams, error) {
	p, s := &Pipes{}, &engine.Streams{}
	var err error
	pipe := func(wanted bool, read, write **os.File) {
		if wanted && err == nil {
			*read, *write, err = os.Pipe()
		}
	}
	pipe(stdin, &s.Stdin, &p.Stdin)
	pipe(stdout, &p.Stdout, &s.Stdout)
	pipe(stderr, &p.Stderr, &s.Stderr)
	if err != nil {
		p.Close()
		CloseStreams(s)
		return nil, nil, fmt.Errorf("make a pipe for a process's streams: %w", err)
	}
	if *s == (engine.Streams{}) {
		return p, nil, nil
	}
	return p, s, nil
}

// CloseStreams closes files that could not be handed over.
func CloseStreams(s *engine.Streams) {
	if s != nil {
		closeAll(s.Stdin, s.Stdout, s.Stderr)
	}
}

// Close ends what reads and writes the pipes. It may be called again, and beside everything else.
func (p *Pipes) Close() { closeAll(p.Stdin, p.Stdout, p.Stderr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// Deliver hands the output on until it is over, and then returns the exit. The first error of stdout or stderr ends it;
// so does Close.
func (p *Pipes) Deliver(ctx context.Context, wait func(context.Context) (wire.Exit, error), stdout, stderr func([]byte) error) (wire.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	var pumps sync.WaitGroup
	pump := func(f *os.File, send func([]byte) error) {
		if f != nil {
			pumps.Go(func() {
				if err := p.pump(f, send); err != nil {
					failed <- err
					cancel()
				}
			})
		}
	}
	pump(p.Stdout, stdout)
	pump(p.Stderr, stderr)
	exit, waitErr := wait(ctx)
	p.hasExited()
	pumps.Wait()
	select {
	case err := <-failed:
		return wire.Exit{}, err
	default:
		return exit, waitErr
	}
}

// hasExited puts a limit to the silence of the output.
func (p *Pipes) hasExited() {
	p.exited.Store(true)
	for _, f := range []*os.File{p.Stdout, p.Stderr} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now().Add(linger)) // closed: its pump has ended
		}
	}
}

// pump sends what comes out of a pipe until its other end is closed, or until it is silent after the exit.
func (p *Pipes) pump(f *os.File, send func([]byte) error) error {
	buf := make([]byte, buffer)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
			if p.exited.Load() {
				_ = f.SetReadDeadline(time.Now().Add(linger))
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return nil
		default:
			return fmt.Errorf("read the output of a process: %w", err)
		}
	}
}
