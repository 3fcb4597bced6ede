package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// options are those of a daemon in a temporary directory, with the configuration's text after what it needs.
func options(t *testing.T, dir, text string) (Options, *lockedBuffer) {
	t.Helper()
	path := filepath.Join(dir, "config.toml")
	// The supervisor is not started in these tests; any program will do.
	whole := "root = \"" + dir + "/root\"\nstate = \"" + dir + "/state\"\n" + text + "\n[supervisor]\npath = \"/bin/true\"\n"
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := Load(path, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	log, level := &lockedBuffer{}, &slog.LevelVar{}
	return Options{Config: config, Path: path, Version: "test", Log: NewLogger(log, config.LogFormat, level), Level: level}, log
}

// running is a daemon that serves until the test ends or stop is called.
type running struct {
	*client.Client
	d      *Daemon
	reload chan os.Signal
	stop   func() error
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d, err := Open(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	r := &running{d: d, reload: make(chan os.Signal, 1)}
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, r.reload) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if r.Client, err = client.Dial(t.Context(), client.Options{Address: o.Config.Address}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestDaemon(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	o, log := options(t, dir, "")
	r := run(t, o)
	ctx := t.Context()
	v, err := r.System.Version(ctx, &api.VersionRequest{})
	if err != nil || v.Version != "test" {
		t.Errorf("version %v, %v", v, err)
	}
	info, err := r.System.Info(ctx, &api.InfoRequest{})
	if err != nil || info.Name != o.Config.Name || info.Root != dir+"/root" || info.Uuid == "" || info.Kernel == "" || info.Snapshotter == "" {
		t.Errorf("info %v, %v", info, err)
	}
	if h, err := r.Health.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", h, err)
	}
	if _, err := r.Containers.Get(ctx, &api.ContainerRequest{Id: "none"}); !errdefs.IsNotFound(err) {
		t.Errorf("no such container: %v", err)
	}
	if s, err := os.Stat(o.Config.Address); err != nil || s.Mode().Perm() != 0o660 {
		t.Errorf("socket %v, %v", s.Mode(), err)
	}

	// A second daemon in the same directories is refused, and disturbs nothing.
	_, err = Open(ctx, o)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "another daemon has the root directory "+dir+"/root") {
		t.Errorf("a second daemon: %v", err)
	}
	other := o
	other.Config.Root = dir + "/root2"
	if _, err := Open(ctx, other); err == nil || !strings.Contains(err.Error(), "another daemon has the state directory") {
		t.Errorf("a second daemon with the same state: %v", err)
	}

	// A subscriber does not hold up the stop.
	ended := make(chan error, 1)
	subscribed := make(chan struct{})
	go func() {
		defer close(ended)
		stream, err := r.System.Subscribe(context.Background(), &api.SubscribeRequest{})
		if err != nil {
			t.Error(err)
			close(subscribed)
			return
		}
		_, err = stream.Header()
		close(subscribed)
		if err == nil {
			_, err = stream.Recv()
		}
		ended <- err
	}()
	<-subscribed
	start := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != io.EOF || time.Since(start) > drainTimeout {
		t.Errorf("the subscription ended with %v, the stop took %s", err, time.Since(start))
	}
	if _, err := os.Stat(o.Config.Address); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}

	// The next one in the same root is the same daemon.
	again := run(t, o)
	if i, err := again.System.Info(ctx, &api.InfoRequest{}); err != nil || i.Uuid != info.Uuid {
		t.Errorf("after a restart: %v, %v", i, err)
	}
}

func TestDaemonReload(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	o, log := options(t, dir, "")
	r := run(t, o)
	if o.Level.Level() != slog.LevelInfo {
		t.Fatalf("level %s", o.Level.Level())
	}
	options(t, dir, "log_level = \"debug\"\nname = \"other\"\n")
	got, err := r.System.Reload(t.Context(), &api.ReloadRequest{})
	if err != nil || !slices.Equal(got.Changed, []string{"log_level"}) || !slices.Equal(got.NeedRestart, []string{"name"}) {
		t.Errorf("reload: %v, %v", got, err)
	}
	if o.Level.Level() != slog.LevelDebug {
		t.Errorf("level %s", o.Level.Level())
	}
	if err := os.WriteFile(o.Path, []byte("rooot = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.System.Reload(t.Context(), &api.ReloadRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a broken file: %v", err)
	}
	r.reload <- os.Interrupt
	testenv.Eventually(t, 5*time.Second, "the log to tell of the broken file", func() bool {
		return strings.Contains(log.String(), "did you mean") && strings.Contains(log.String(), "that in force stays")
	})
}

func TestDaemonIsObserved(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	metricsSocket := filepath.Join(dir, "metrics.sock")
	// Nobody listens where the traces go: that must not matter.
	o, _ := options(t, dir, "[metrics]\naddress = \""+metricsSocket+"\"\n[debug]\npprof = true\n[tracing]\nendpoint = \"127.0.0.1:1\"\n")
	r := run(t, o)
	if _, err := r.System.Version(t.Context(), &api.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	text := get(t, metricsSocket, "/metrics")
	for _, want := range []string{
		`minid_request_duration_seconds_count{code="OK",method="/minid.v1.System/Version"} 1`, "minid_containers 0", `minid_build_info{version="test"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	if text := get(t, debugSocket(o.Config.State), "/debug/pprof/goroutine?debug=1"); !strings.Contains(text, "goroutine profile:") {
		t.Errorf("profile: %.100s", text)
	}
	start := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if time.Since(start) > traceFlushTimeout+drainTimeout+time.Second {
		t.Errorf("the stop took %s", time.Since(start))
	}
}

func get(t *testing.T, socket, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	answer, err := c.Get("http://minid" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, answer.Status, err)
	}
	return string(body)
}

func TestOpenFailsClean(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	o, _ := options(t, dir, "")
	o.Config.Supervisor.Path = "/nonexistent/supervisor"
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "supervisor.path") {
		t.Fatalf("error is %v", err)
	}
	// What was opened before the failure is closed, so that the next try finds the way free.
	o.Config.Supervisor.Path = "/bin/true"
	r := run(t, o)
	if _, err := r.System.Version(t.Context(), &api.VersionRequest{}); err != nil {
		t.Error(err)
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	l, err := listenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "somebody already listens") {
		t.Errorf("a live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := listenUnix(path, 0o640)
	if err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	defer again.Close()
	if s, err := os.Stat(path); err != nil || s.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", s.Mode(), err)
	}
	file := filepath.Join(filepath.Dir(path), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(file, 0o600); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
}
