package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/client"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/native"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// fakeEngine has one container, whose process is a Go function of its streams. What a test does not set is not called.
type fakeEngine struct {
	Engine
	run       func(stdin io.Reader, stdout, stderr io.Writer) int // the process; its result is its exit code
	stop      context.CancelFunc                                  // tells the server that the daemon is to stop
	terminal  bool
	logged    []logs.Entry
	container engine.Container

	mu       sync.Mutex
	calls    []string
	launched *launched
	created  engine.CreateOptions
	executed engine.ExecOptions
}

func newFakeEngine(run func(stdin io.Reader, stdout, stderr io.Writer) int) *fakeEngine {
	return &fakeEngine{
		run:       run,
		container: engine.Container{ID: "abcdef", Namespace: "default", State: engine.Running, Stdin: true, Labels: map[string]string{"a": "b"}},
	}
}

func (e *fakeEngine) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

func (e *fakeEngine) noted() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.calls...)
}

func (e *fakeEngine) Get(_ context.Context, ns, id string) (engine.Container, error) {
	if ns != "default" || id != "abc" && id != "abcdef" {
		return engine.Container{}, fmt.Errorf("container %s: not in namespace %s: %w", id, ns, errdefs.ErrNotFound)
	}
	return e.container, nil
}

func (e *fakeEngine) List(context.Context, string) ([]engine.Container, error) {
	other := e.container
	other.ID, other.Labels, other.State = "zzz", nil, engine.Exited
	return []engine.Container{e.container, other}, nil
}

func (e *fakeEngine) Bundle(c engine.Container) string { return "/bundles/" + c.ID }

func (e *fakeEngine) Create(_ context.Context, _ string, o engine.CreateOptions) (engine.Container, error) {
	e.created = o
	return e.container, nil
}

func (e *fakeEngine) process(execID string) engine.Process {
	l := e.last()
	return engine.Process{ExecID: execID, PID: 42, State: engine.Running, Terminal: e.terminal, Wait: func(ctx context.Context) (wire.Exit, error) {
		select {
		case <-l.ended:
			return wire.Exit{PID: 42, Code: l.code}, nil
		case <-ctx.Done():
			return wire.Exit{}, ctx.Err()
		}
	}}
}

// launched is one run of the process.
type launched struct {
	ended chan struct{}
	code  int // once ended is closed
}

func (e *fakeEngine) last() *launched {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.launched
}

// ended is closed when the process launched last has exited.
func (e *fakeEngine) ended() <-chan struct{} { return e.last().ended }

// launch runs the process with the files of an attachment, which it closes at its end, as the supervisor does.
func (e *fakeEngine) launch(s *engine.Streams) {
	l := &launched{ended: make(chan struct{})}
	e.mu.Lock()
	e.launched = l
	e.mu.Unlock()
	go func() {
		l.code = e.run(s.Stdin, s.Stdout, s.Stderr)
		close(l.ended)
		for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
			if f != nil {
				f.Close()
			}
		}
	}()
}

func (e *fakeEngine) Start(_ context.Context, _, id string, o engine.StartOptions) (engine.Process, error) {
	e.note("start %s", id)
	e.launch(o.Streams)
	return e.process(""), nil
}

func (e *fakeEngine) Exec(_ context.Context, _, _ string, o engine.ExecOptions) (engine.Process, error) {
	e.executed = o
	e.launch(o.Streams)
	return e.process("x1"), nil
}

func (e *fakeEngine) Attach(_ context.Context, _, id, execID string, s engine.Streams) error {
	e.note("attach %s %s", id, execID)
	e.launch(&s)
	return nil
}

func (e *fakeEngine) Process(_ context.Context, _, _, execID string) (engine.Process, error) {
	return e.process(execID), nil
}

func (e *fakeEngine) Resize(_ context.Context, _, _, _ string, w, h uint16) error {
	e.note("resize %dx%d", w, h)
	return nil
}

func (e *fakeEngine) Signal(_ context.Context, _, _, _ string, sig int, _ bool) error {
	e.note("signal %d", sig)
	return errors.New("no such signal here")
}

func (e *fakeEngine) Logs(_ context.Context, _, _ string, _ engine.LogOptions, each func(logs.Entry) error) error {
	for _, l := range e.logged {
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}

func (e *fakeEngine) CollectGarbage(context.Context, bool) (image.Collected, error) {
	e.note("collect")
	return image.Collected{Bytes: 7}, nil
}

// serve serves a fake engine and real stores in temporary directories.
func serve(t *testing.T, e Engine) (*client.Client, Deps) {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "meta.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	blobs, err := content.Open(filepath.Join(dir, "content"), store.NewTable[content.Record](db, "content", 1, nil), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close() })
	sn, err := native.Open(t.Context(), native.Options{Root: filepath.Join(dir, "native"), Records: snapshot.NewRecords(db, "native"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d := Deps{
		Engine: e, Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"native": sn}, Snapshotter: "native",
		Namespaces: store.NewNamespaces(db), Leases: store.NewLeases(db), Events: events.New(), Log: log,
	}
	serving, stop := context.WithCancel(context.Background())
	d.Serving = serving
	t.Cleanup(stop)
	if f, ok := e.(*fakeEngine); ok {
		f.stop = stop
	}
	d.Images, err = image.New(image.Deps{
		Content: blobs, Snapshotters: d.Snapshotters, Default: "native", Images: store.NewTable[image.Image](db, "images", 1, nil),
		Leases: d.Leases, Events: d.Events, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: log}, nil)...)
	Register(s, d)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	c, err := client.Dial(t.Context(), client.Options{Address: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, d
}
