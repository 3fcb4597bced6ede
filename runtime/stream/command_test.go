package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// transports are how client-go reaches an address.
var transports = []struct {
	name      string
	halfClose bool // a standard input can end before the connection does
	executor  func(config *rest.Config, address string) (remotecommand.Executor, error)
}{
	{"spdy", true, func(c *rest.Config, address string) (remotecommand.Executor, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(c, "POST", u)
	}},
	{"websocket v5", true, func(c *rest.Config, address string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, "GET", address)
	}},
	{"websocket v4", false, func(c *rest.Config, address string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(c, "GET", address, "v4.channel.k8s.io")
	}},
}

// eachTransport runs a test with a client of each; run executes a shell's script.
func eachTransport(t *testing.T, test func(t *testing.T, c client)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			s, e, w := serve(t, Config{})
			test(t, client{server: s, engine: e, ended: w.ended, halfClose: tr.halfClose, executor: tr.executor})
		})
	}
}

type client struct {
	server    *Server
	engine    *localEngine
	ended     chan error
	halfClose bool
	executor  func(*rest.Config, string) (remotecommand.Executor, error)
}

func (c client) exec(ctx context.Context, script string, o remotecommand.StreamOptions) error {
	address, err := c.server.ExecURL("c", []string{"sh", "-c", script}, optionsOf(o))
	if err != nil {
		return err
	}
	return c.stream(ctx, address, o)
}

func (c client) attach(ctx context.Context, o remotecommand.StreamOptions) error {
	address, err := c.server.AttachURL("c", optionsOf(o))
	if err != nil {
		return err
	}
	return c.stream(ctx, address, o)
}

func (c client) stream(ctx context.Context, address string, o remotecommand.StreamOptions) error {
	x, err := c.executor(&rest.Config{}, address)
	if err != nil {
		return err
	}
	return x.StreamWithContext(ctx, o)
}

func optionsOf(o remotecommand.StreamOptions) Options {
	return Options{Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil, Terminal: o.Tty}
}

// codeOf is the exit code that a client was told.
func codeOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var code exec.CodeExitError
	if !errors.As(err, &code) {
		t.Fatalf("error %v (%T), want an exit code", err, err)
	}
	return code.Code
}

func TestExecCarriesAllBytes(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcde\n"), 200_000)
	eachTransport(t, func(t *testing.T, c client) {
		var out, errOut bytes.Buffer
		o := remotecommand.StreamOptions{Stdin: bytes.NewReader(data), Stdout: &out, Stderr: &errOut}
		script := "cat; echo done >&2; exit 7"
		if !c.halfClose { // such a client cannot say that its input has ended
			script = "head -c 3200000; echo done >&2; exit 7"
		}
		if code := codeOf(t, c.exec(t.Context(), script, o)); code != 7 {
			t.Errorf("exit code %d, want 7", code)
		}
		if !bytes.Equal(out.Bytes(), data) || errOut.String() != "done\n" {
			t.Errorf("got %d bytes and %q, want %d and done", out.Len(), errOut.String(), len(data))
		}
	})
}

// A process that ends at once with much output in the pipes, and with input that it has not read.
func TestExecEndsWithBytesUnderWay(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		for range 5 {
			var out bytes.Buffer
			endless, stop := io.Pipe()
			go func() {
				for block := make([]byte, 64<<10); ; {
					if _, err := stop.Write(block); err != nil {
						return
					}
				}
			}()
			o := remotecommand.StreamOptions{Stdin: endless, Stdout: &out}
			if code := codeOf(t, c.exec(t.Context(), "head -c 3000000 /dev/zero; exit 3", o)); code != 3 {
				t.Errorf("exit code %d, want 3", code)
			}
			endless.Close()
			if out.Len() != 3_000_000 {
				t.Fatalf("got %d bytes of 3000000", out.Len())
			}
		}
	})
}

func TestExecWithoutInput(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		var out, errOut bytes.Buffer
		err := c.exec(t.Context(), "cat; echo out; echo err >&2", remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		if err != nil || out.String() != "out\n" || errOut.String() != "err\n" {
			t.Errorf("%q, %q, error %v", out.String(), errOut.String(), err)
		}
	})
}

// A child that inherits the output and lives on does not hold the client.
func TestExecWithAChildThatStays(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		var out bytes.Buffer
		began := time.Now()
		err := c.exec(t.Context(), "sleep 20 & echo $!", remotecommand.StreamOptions{Stdout: &out})
		if err != nil || time.Since(began) > 10*time.Second {
			t.Errorf("error %v after %s", err, time.Since(began))
		}
		if err := c.exec(t.Context(), "kill "+out.String(), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
			t.Error(err)
		}
	})
}

// sizes are those of a terminal, one after the other as they are sent.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecResize(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		queue := make(sizes, 2)
		queue <- remotecommand.TerminalSize{Width: 101, Height: 33} // before the start
		defer close(queue)
		in, type_ := io.Pipe()
		out, print := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- c.exec(t.Context(), "stty -echo; until [ \"$(stty size)\" = '33 101' ]; do sleep 0.01; done; echo first; "+
				"read l; until [ \"$(stty size)\" = '44 202' ]; do sleep 0.01; done; exit 4",
				remotecommand.StreamOptions{Stdin: in, Stdout: print, Tty: true, TerminalSizeQueue: queue})
			print.Close()
		}()
		expect(t, out, "first")
		go io.Copy(io.Discard, out)
		queue <- remotecommand.TerminalSize{Width: 202, Height: 44}
		io.WriteString(type_, "go on\n")
		if code := codeOf(t, <-ended); code != 4 {
			t.Errorf("exit code %d, want 4", code)
		}
	})
}

// expect reads until a text has come.
func expect(t *testing.T, from io.Reader, text string) {
	t.Helper()
	var got []byte
	for buf := make([]byte, 1024); !strings.Contains(string(got), text); {
		n, err := from.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("%v after %q, want %q", err, got, text)
		}
	}
}

// A client that leaves is noticed though the process is silent; what becomes of the process depends on its terminal.
func TestExecClientGoes(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		for _, tty := range []bool{false, true} {
			ctx, leave := context.WithCancel(t.Context())
			out, print := io.Pipe()
			go c.exec(ctx, "echo here; exec sleep 60", remotecommand.StreamOptions{Stdout: print, Tty: tty})
			expect(t, out, "here")
			leave()
			out.Close()
			select {
			case err := <-c.ended:
				if !errors.Is(err, ErrClientGone) {
					t.Errorf("terminal %t: ended with %v, want %v", tty, err, ErrClientGone)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("terminal %t: the server has not noticed", tty)
			}
			execID := map[bool]string{false: "x1", true: "x2"}[tty]
			select {
			case <-c.engine.proc(execID).ended:
				if !tty {
					t.Error("a process without a terminal was ended")
				}
			case <-time.After(map[bool]time.Duration{false: 100 * time.Millisecond, true: 5 * time.Second}[tty]):
				if tty {
					t.Error("the process with a terminal was not told of the hangup")
				}
			}
		}
	})
}

func TestExecOfAContainerThatStops(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		out, print := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- c.exec(t.Context(), "echo here; exec sleep 60", remotecommand.StreamOptions{Stdout: print, Stderr: io.Discard})
		}()
		expect(t, out, "here")
		c.engine.Signal(t.Context(), "", "", "x1", 9, false)
		if code := codeOf(t, <-ended); code != 137 {
			t.Errorf("exit code %d, want 137", code)
		}
	})
}

func TestExecThatCannotRun(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		o := remotecommand.StreamOptions{Stdin: strings.NewReader("x"), Stdout: io.Discard}
		address, err := c.server.ExecURL("c", []string{"no-such-program"}, optionsOf(o))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.stream(t.Context(), address, o); err == nil || !strings.Contains(err.Error(), "no-such-program") {
			t.Errorf("error %v, want one that names the program", err)
		}
		if err := c.stream(t.Context(), address, o); err == nil {
			t.Error("an address could be used twice")
		}
	})
}

func TestAttachAndDetach(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		c.engine.script, c.engine.stdin = "read l; echo got $l; sleep 60", true
		ctx, leave := context.WithCancel(t.Context())
		out, print := io.Pipe()
		go c.attach(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("hello\n"), Stdout: print})
		expect(t, out, "got hello")
		leave()
		out.Close()
		if err := <-c.ended; !errors.Is(err, ErrClientGone) {
			t.Errorf("ended with %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.attach(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}) }()
		select {
		case err := <-ended:
			t.Errorf("the second attachment ended with %v: the process was ended by the first", err)
		case <-time.After(100 * time.Millisecond):
		}
		c.engine.Signal(t.Context(), "", "", "", 9, false)
		if err := <-ended; err != nil {
			t.Errorf("an attachment to a process that was killed: %v", err)
		}
	})
}

// A container that was made without a standard input reads none, and its client's is no obstacle.
func TestAttachToOneWithoutInput(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		c.engine.script = "cat; echo end"
		var out bytes.Buffer
		err := c.attach(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("ignored"), Stdout: &out, Stderr: io.Discard})
		if err != nil || out.String() != "end\n" {
			t.Errorf("%q, error %v", out.String(), err)
		}
	})
}

func TestStopEndsStreams(t *testing.T) {
	eachTransport(t, func(t *testing.T, c client) {
		out, print := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- c.exec(t.Context(), "echo here; exec sleep 60", remotecommand.StreamOptions{Stdout: print, Tty: true})
		}()
		expect(t, out, "here")
		go io.Copy(io.Discard, out)
		c.server.Stop()
		if err := <-ended; err == nil {
			t.Error("the client was told that its command has succeeded")
		}
		if err := <-c.ended; !errors.Is(err, ErrStopping) {
			t.Errorf("ended with %v, want %v", err, ErrStopping)
		}
		select {
		case <-c.engine.proc("x1").ended:
			t.Error("the process was ended with the server")
		case <-time.After(100 * time.Millisecond):
		}
	})
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	s, _, _ := serve(t, Config{})
	out := Options{Stdout: true}
	for what, try := range map[string]func() (string, error){
		"no container": func() (string, error) { return s.ExecURL("", []string{"true"}, out) },
		"no command":   func() (string, error) { return s.ExecURL("c", nil, out) },
		"no stream":    func() (string, error) { return s.AttachURL("c", Options{}) },
		"terminal and stderr": func() (string, error) {
			return s.AttachURL("c", Options{Stdout: true, Stderr: true, Terminal: true})
		},
		"no pod":  func() (string, error) { return s.PortForwardURL("", nil) },
		"port 0":  func() (string, error) { return s.PortForwardURL("p", []int32{0}) },
		"port -1": func() (string, error) { return s.PortForwardURL("p", []int32{80, -1}) },
	} {
		if address, err := try(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %q, error %v", what, address, err)
		}
	}
}
