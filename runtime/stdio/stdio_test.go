package stdio

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// process is the other side of the pipes: what the supervisor and a process would do.
type process struct {
	*engine.Streams
	end chan wire.Exit
}

func start(t *testing.T, stdin, stdout, stderr bool) (*Pipes, process) {
	t.Helper()
	p, s, err := Open(stdin, stdout, stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		CloseStreams(s)
	})
	return p, process{s, make(chan wire.Exit, 1)}
}

func (p process) wait(ctx context.Context) (wire.Exit, error) {
	select {
	case exit := <-p.end:
		return exit, nil
	case <-ctx.Done():
		return wire.Exit{}, ctx.Err()
	}
}

func (p process) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.Stdout, text); err != nil {
		t.Fatal(err)
	}
}

// collect gathers what is sent.
func collect(to *strings.Builder) func([]byte) error {
	return func(data []byte) error {
		to.Write(data)
		return nil
	}
}

func TestDeliver(t *testing.T) {
	pipes, p := start(t, true, true, true)
	var out, errs strings.Builder
	go func() {
		line := make([]byte, 5)
		_, _ = io.ReadFull(p.Stdin, line)
		_, _ = p.Stdout.Write(line)
		_, _ = io.WriteString(p.Stderr, "remark")
		CloseStreams(p.Streams)
		p.end <- wire.Exit{Code: 7}
	}()
	if _, err := io.WriteString(pipes.Stdin, "hello"); err != nil {
		t.Fatal(err)
	}
	exit, err := pipes.Deliver(t.Context(), p.wait, collect(&out), collect(&errs))
	if err != nil || exit.Code != 7 || out.String() != "hello" || errs.String() != "remark" {
		t.Errorf("exit %+v, error %v, %q and %q", exit, err, out.String(), errs.String())
	}
}

// TestHeldOpen has a child that inherits the output: what it writes soon is delivered, and it does not hold up the exit.
func TestHeldOpen(t *testing.T) {
	pipes, p := start(t, false, true, false)
	var out strings.Builder
	p.write(t, "parent ")
	p.end <- wire.Exit{Code: 1}
	go func() {
		time.Sleep(linger / 10) // after the exit
		_, _ = io.WriteString(p.Stdout, "child")
	}()
	exit, err := pipes.Deliver(t.Context(), p.wait, collect(&out), nil)
	if err != nil || exit.Code != 1 || out.String() != "parent child" {
		t.Errorf("exit %+v, error %v, %q", exit, err, out.String())
	}
}

// TestReceiverGone has a client that no longer takes the output: the wait is over, with its error.
func TestReceiverGone(t *testing.T) {
	pipes, p := start(t, false, true, true)
	gone := errors.New("gone")
	p.write(t, "text")
	_, err := pipes.Deliver(t.Context(), func(ctx context.Context) (wire.Exit, error) {
		<-ctx.Done()
		CloseStreams(p.Streams)
		return wire.Exit{}, ctx.Err()
	}, func([]byte) error { return gone }, func([]byte) error { return nil })
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want that of the receiver", err)
	}
}

// TestClose ends a delivery whose process says nothing and does not end.
func TestClose(t *testing.T) {
	pipes, p := start(t, true, true, false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := pipes.Deliver(ctx, p.wait, func([]byte) error { return nil }, nil)
		done <- err
	}()
	pipes.Close()
	pipes.Close()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the delivery goes on")
	}
}

func TestNoneWanted(t *testing.T) {
	pipes, s, err := Open(false, false, false)
	if err != nil || s != nil || pipes.Stdin != nil || pipes.Stdout != nil || pipes.Stderr != nil {
		t.Errorf("%+v %+v, error %v", pipes, s, err)
	}
}
