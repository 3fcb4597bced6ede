package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/console"
	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// localEngine runs commands as processes of this machine, in no container. Its one container is "c", whose first process
// is a shell's script.
type localEngine struct {
	script string // of the container's first process, which begins with the first attachment
	stdin  bool   // the container was made with a standard input
	only6  bool   // nobody listens on IPv4 in the pod

	mu    sync.Mutex
	procs map[string]*localProcess
	next  int
}

type localProcess struct {
	cmd      *exec.Cmd
	terminal console.Console
	ended    chan struct{}
	exit     wire.Exit // once ended is closed
}

func newLocalEngine() *localEngine { return &localEngine{procs: map[string]*localProcess{}} }

func (e *localEngine) known(id string) error {
	if id != "c" {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return nil
}

func (e *localEngine) Get(_ context.Context, _, id string) (engine.Container, error) {
	return engine.Container{ID: id, Stdin: e.stdin}, e.known(id)
}

func (e *localEngine) Exec(_ context.Context, _, id string, o engine.ExecOptions) (engine.Process, error) {
	defer closeFiles(o.Streams)
	if err := e.known(id); err != nil {
		return engine.Process{}, err
	}
	p := &localProcess{cmd: exec.Command(o.Process.Args[0], o.Process.Args[1:]...), ended: make(chan struct{})}
	if err := p.start(o); err != nil {
		return engine.Process{}, err
	}
	e.mu.Lock()
	e.next++
	execID := fmt.Sprint("x", e.next)
	e.procs[execID] = p
	e.mu.Unlock()
	return p.info(execID), nil
}

func (p *localProcess) start(o engine.ExecOptions) error {
	var copies sync.WaitGroup
	if o.Process.Terminal {
		master, path, err := console.NewPty()
		if err != nil {
			return err
		}
		slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		defer slave.Close()
		p.terminal = master
		if box := o.Process.ConsoleSize; box != nil {
			master.Resize(console.WinSize{Width: uint16(box.Width), Height: uint16(box.Height)})
		}
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if in := dup(o.Streams.Stdin); in != nil {
			go func() { io.Copy(master, in); in.Close() }()
		}
		if out := dup(o.Streams.Stdout); out != nil {
			copies.Go(func() { io.Copy(out, master); out.Close() })
		}
	} else if o.Streams != nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = reader(o.Streams.Stdin), writer(o.Streams.Stdout), writer(o.Streams.Stderr)
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		copies.Wait()
		if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			p.exit.Code = 128 + int(status.Signal())
		} else {
			p.exit.Code = status.ExitStatus()
		}
		close(p.ended)
	}()
	return nil
}

func (p *localProcess) info(execID string) engine.Process {
	return engine.Process{ExecID: execID, PID: p.cmd.Process.Pid, Terminal: p.terminal != nil, Wait: func(ctx context.Context) (wire.Exit, error) {
		select {
		case <-p.ended:
			return p.exit, nil
		case <-ctx.Done():
			return wire.Exit{}, ctx.Err()
		}
	}}
}

// Attach starts the container's first process with the first attachment's streams; a later one's lead nowhere.
func (e *localEngine) Attach(_ context.Context, _, id, _ string, s engine.Streams) error {
	defer closeFiles(&s)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.procs[""] != nil {
		return nil
	}
	p := &localProcess{cmd: exec.Command("sh", "-c", e.script), ended: make(chan struct{})}
	e.procs[""] = p
	return p.start(engine.ExecOptions{Streams: &s})
}

func (e *localEngine) proc(execID string) *localProcess {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.procs[execID]
}

func (e *localEngine) Process(_ context.Context, _, _, execID string) (engine.Process, error) {
	if p := e.proc(execID); p != nil {
		return p.info(execID), nil
	}
	return engine.Process{}, errdefs.ErrNotFound
}

func (e *localEngine) Signal(_ context.Context, _, _, execID string, sig int, _ bool) error {
	return e.proc(execID).cmd.Process.Signal(syscall.Signal(sig))
}

func (e *localEngine) Resize(_ context.Context, _, _, execID string, w, h uint16) error {
	return e.proc(execID).terminal.Resize(console.WinSize{Width: w, Height: h})
}

// DialPod is of Dialer: the network of pod "p" is this machine's.
func (e *localEngine) DialPod(ctx context.Context, pod, network, address string) (net.Conn, error) {
	if pod != "p" {
		return nil, fmt.Errorf("pod %s: %w", pod, errdefs.ErrNotFound)
	}
	if e.only6 && strings.HasPrefix(address, "127.") {
		return nil, syscall.ECONNREFUSED
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// killAll ends what a test has left.
func (e *localEngine) killAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.procs {
		p.cmd.Process.Kill()
		<-p.ended
		if p.terminal != nil {
			p.terminal.Close()
		}
	}
}

func closeFiles(s *engine.Streams) {
	if s != nil {
		for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
			if f != nil {
				f.Close()
			}
		}
	}
}

func dup(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// A nil *os.File in an interface is not nil.
func reader(f *os.File) io.Reader {
	if f == nil {
		return nil
	}
	return f
}

func writer(f *os.File) io.Writer {
	if f == nil {
		return nil
	}
	return f
}

// watched passes calls on, and tells how they ended.
type watched struct {
	Runtime
	ended chan error
}

func (w *watched) Exec(ctx context.Context, container string, command []string, s Streams) (int, error) {
	code, err := w.Runtime.Exec(ctx, container, command, s)
	w.ended <- err
	return code, err
}

func (w *watched) Attach(ctx context.Context, container string, s Streams) error {
	err := w.Runtime.Attach(ctx, container, s)
	w.ended <- err
	return err
}

// both is a whole runtime.
type both struct {
	Processes
	Forwarder
}

// serve serves a local engine.
func serve(t *testing.T, config Config) (*Server, *localEngine, *watched) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	e := newLocalEngine()
	w := &watched{Runtime: both{Processes{Engine: e, Namespace: "k8s.io", Log: log}, Forwarder{e}}, ended: make(chan error, 10)}
	s, err := New(config, w, log)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		e.killAll()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.conns) > 0 && !errors.Is(context.Cause(s.ctx), ErrStopping) {
			t.Errorf("%d connections are left", len(s.conns))
		}
	})
	return s, e, w
}
