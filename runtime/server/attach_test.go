package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
	"github.com/minirt/mini/runtime/logs"
)

// cat is a process that copies its input to its output, and says on its error output how much that was.
func cat(stdin io.Reader, stdout, stderr io.Writer) int {
	n, _ := io.Copy(stdout, stdin)
	io.WriteString(stderr, strings.Repeat("!", int(n%7)))
	return int(n % 7)
}

func TestAttachCarriesAllBytes(t *testing.T) {
	e := newFakeEngine(cat)
	c, _ := serve(t, e)
	data := bytes.Repeat([]byte("0123456789abcde\n"), 100_000)
	var out, errOut bytes.Buffer
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Start: true}, client.Attachment{
		Stdin: bytes.NewReader(data), Stdout: &out, Stderr: &errOut,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := len(data) % 7
	if !bytes.Equal(out.Bytes(), data) || errOut.Len() != want || exit.GetCode() != int32(want) {
		t.Errorf("got %d bytes, %d on the error output, exit %v; want %d, %d, %d", out.Len(), errOut.Len(), exit, len(data), want, want)
	}
	if calls := e.noted(); !slices.Equal(calls, []string{"start abcdef"}) {
		t.Errorf("calls: %v, want a start with the whole id", calls)
	}
}

func TestAttachExec(t *testing.T) {
	e := newFakeEngine(cat)
	c, _ := serve(t, e)
	var opened *api.AttachOpened
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Exec: &api.ExecRequest{Process: []byte(`{"args":["cat"]}`)}}, client.Attachment{
		Stdin: strings.NewReader("abc"), Stdout: io.Discard, Stderr: io.Discard, Opened: func(o *api.AttachOpened) { opened = o },
	})
	if err != nil || exit.GetCode() != 3 || opened.GetExecId() != "x1" || opened.GetPid() != 42 {
		t.Errorf("exit %v, opened %v, error %v", exit, opened, err)
	}
	if !e.executed.Stdin || !slices.Equal(e.executed.Process.Args, []string{"cat"}) {
		t.Errorf("executed %+v", e.executed)
	}
	_, err = c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Exec: &api.ExecRequest{Process: []byte(`{"arks":1}`)}}, client.Attachment{Stdout: io.Discard})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "arks") {
		t.Errorf("a misspelled field: %v", err)
	}
}

// until makes a process that runs until it is told to end.
func until(end <-chan struct{}) func(io.Reader, io.Writer, io.Writer) int {
	return func(_ io.Reader, stdout, _ io.Writer) int {
		<-end
		io.WriteString(stdout, "bye")
		return 5
	}
}

func TestAttachControl(t *testing.T) {
	end := make(chan struct{})
	e := newFakeEngine(until(end))
	e.terminal = true
	e.logged = []logs.Entry{{Stream: "stdout", Data: []byte("old\n")}, {Stream: "stderr", Data: []byte("err\n")}}
	c, _ := serve(t, e)
	sizes, signals := make(chan client.Size, 1), make(chan syscall.Signal, 1)
	sizes <- client.Size{Width: 100, Height: 70_000}
	signals <- syscall.SIGUSR1
	var out, errOut bytes.Buffer
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abcdef", Logs: true, Size: &api.TerminalSize{Width: 80, Height: 25}}, client.Attachment{
		Stdout: &out, Stderr: &errOut, Resize: sizes, Signals: signals,
		Warning: func(w string) { // the answer to the signal
			if w != "no such signal here" {
				t.Errorf("warning: %q", w)
			}
			close(end)
		},
	})
	if err != nil || exit.GetCode() != 5 || out.String() != "old\nbye" || errOut.String() != "err\n" {
		t.Errorf("exit %v, error %v, output %q, error output %q", exit, err, out.String(), errOut.String())
	}
	calls := e.noted()
	for _, want := range []string{"attach abcdef ", "resize 80x25", "signal 10"} {
		if !slices.Contains(calls, want) {
			t.Errorf("calls %q do not have %q", calls, want)
		}
	}
}

func TestAttachDetachLeavesTheProcess(t *testing.T) {
	end := make(chan struct{})
	e := newFakeEngine(until(end))
	c, _ := serve(t, e)
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc"}, client.Attachment{
		Stdin: strings.NewReader("\x10\x11"), Stdout: io.Discard, DetachKeys: []byte{0x10, 0x11},
	})
	if err != nil || exit != nil {
		t.Errorf("exit %v, error %v", exit, err)
	}
	select {
	case <-e.ended():
		t.Error("the process has ended with the attachment")
	default:
	}
	close(end)
	<-e.ended()
}

// TestAttachOutputHeldOpen: a child of the process holds the output open after the exit.
func TestAttachOutputHeldOpen(t *testing.T) {
	e := newFakeEngine(nil)
	var held *os.File
	e.run = func(_ io.Reader, stdout, _ io.Writer) int {
		fd, err := syscall.Dup(int(stdout.(*os.File).Fd()))
		if err != nil {
			t.Error(err)
		}
		held = os.NewFile(uintptr(fd), "held")
		io.WriteString(stdout, "last words")
		return 0
	}
	c, _ := serve(t, e)
	var out bytes.Buffer
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Start: true}, client.Attachment{Stdout: &out})
	if err != nil || exit == nil || out.String() != "last words" {
		t.Errorf("exit %v, error %v, output %q", exit, err, out.String())
	}
	held.Close()
}

// TestAttachLeavesNothing: clients that vanish leave neither goroutines nor files.
func TestAttachLeavesNothing(t *testing.T) {
	e := newFakeEngine(nil)
	stopped := make(chan struct{}, 64)
	e.run = func(stdin io.Reader, stdout, _ io.Writer) int {
		io.Copy(io.Discard, stdin) // until the server closes its end
		stopped <- struct{}{}
		return 0
	}
	c, _ := serve(t, e)
	attach := func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := c.Attach(ctx, &api.AttachOpen{Id: "abc"}, client.Attachment{
			Stdin: blocked{}, Stdout: io.Discard, Stderr: io.Discard, Opened: func(*api.AttachOpened) { cancel() },
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		<-stopped
		<-e.ended()
	}
	attach()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	const times = 20
	for range times {
		attach()
	}
	deadline := time.Now().Add(10 * time.Second)
	// Each client leaves the goroutine that reads its blocked input.
	for runtime.NumGoroutine() > goroutines+times+3 || openFiles(t) > files+1 {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d; %d files, before %d\n%s", runtime.NumGoroutine(), goroutines, openFiles(t), files, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

type blocked struct{}

func (blocked) Read([]byte) (int, error) { select {} }

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestStopEndsAttachmentsOnly(t *testing.T) {
	end := make(chan struct{})
	e := newFakeEngine(until(end))
	c, _ := serve(t, e)
	_, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc"}, client.Attachment{
		Stdout: io.Discard, Opened: func(*api.AttachOpened) { e.stop() },
	})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "the container runs on") {
		t.Errorf("error is %v", err)
	}
	select {
	case <-e.ended():
		t.Error("the process has ended with the daemon")
	default:
	}
	close(end)
}

func TestAttachRefusals(t *testing.T) {
	c, _ := serve(t, newFakeEngine(cat))
	if _, err := c.Attach(t.Context(), &api.AttachOpen{Id: "none"}, client.Attachment{Stdout: io.Discard}); !errdefs.IsNotFound(err) {
		t.Errorf("no such container: %v", err)
	}
	if _, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Start: true, Exec: &api.ExecRequest{}}, client.Attachment{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("start and exec: %v", err)
	}
	stream, err := c.Processes.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&api.AttachInput{Input: &api.AttachInput_Stdin{Stdin: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no open: %v", err)
	}
}

// TestAttachSlowReader: a client that does not read holds up its own output only.
func TestAttachSlowReader(t *testing.T) {
	e := newFakeEngine(func(_ io.Reader, stdout, _ io.Writer) int {
		stdout.Write(make([]byte, 4<<20))
		return 0
	})
	c, _ := serve(t, e)
	gate := &gated{open: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := c.Attach(t.Context(), &api.AttachOpen{Id: "abc", Start: true}, client.Attachment{Stdout: gate})
		done <- err
	}()
	if _, err := c.Containers.Get(t.Context(), &api.ContainerRequest{Id: "abc"}); err != nil {
		t.Errorf("another request meanwhile: %v", err)
	}
	close(gate.open)
	if err := <-done; err != nil || gate.n != 4<<20 {
		t.Errorf("got %d bytes, %v", gate.n, err)
	}
}

type gated struct {
	open chan struct{}
	n    int
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.open
	g.n += len(p)
	return len(p), nil
}
