package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// shared is what all tests use: the supervisor's binary and a root filesystem with busybox.
type shared struct{ dir, binary, rootfs string }

var common shared

func TestMain(m *testing.M) {
	if os.Getenv(actAs) != "" {
		os.Exit(actDaemon())
	}
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err == nil { // as /run is: exit files are synced
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755")
	}
	if err == nil {
		err = common.make(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func (s *shared) make(dir string) error {
	s.dir, s.binary, s.rootfs = dir, filepath.Join(dir, "minid-supervisor"), filepath.Join(dir, "rootfs")
	args := []string{"build", "-tags", "seccomp", "-o", s.binary}
	if os.Getenv("SANDBOX_RACE") != "" { // the supervisor with the race detector
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/minirt/mini/cmd/minid-supervisor")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the supervisor: %w", err)
	}
	return makeRootfs(s.rootfs)
}

func makeRootfs(root string) error {
	for _, d := range []string{"bin", "dev", "proc", "sys", "etc", "tmp", "run", "root"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "true", "false", "cat", "sleep", "echo", "kill", "stty", "seq", "dd", "head", "tty", "printf", "yes", "setsid", "ps"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/plain"), []byte("no program\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/script"), []byte("echo has no first line\n"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
}

func needsRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// world is a daemon's side with what it has been told.
type world struct {
	t     testing.TB
	dir   string
	boxes *Sandboxes

	mu     sync.Mutex
	exits  map[wire.Process]wire.Exit
	ooms   []wire.OOM
	lost   int
	signal chan struct{} // closed and replaced at each event
}

func newWorld(t testing.TB, scope string) *world {
	t.Helper()
	needsRoot(t)
	dir, err := os.MkdirTemp(common.dir, "w-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, exits: map[wire.Process]wire.Exit{}, signal: make(chan struct{})}
	w.open(scope)
	t.Cleanup(w.clean)
	return w
}

func (w *world) open(scope string) {
	w.t.Helper()
	boxes, err := Open(context.Background(), Config{
		Binary: common.binary, StateDir: w.dir, Name: "test", Scope: scope, Log: slog.New(slog.NewTextHandler(testWriter{w.t}, nil)), Debug: true,
	}, Handlers{
		Exit: func(x wire.Exited) { w.note(func() { w.exits[x.Process] = x.Exit }) },
		OOM:  func(o wire.OOM) { w.note(func() { w.ooms = append(w.ooms, o) }) },
		Lost: func(string, int) { w.note(func() { w.lost++ }) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.boxes = boxes
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if os.Getenv("SANDBOX_TEST_LOG") != "" {
		fmt.Fprintf(os.Stderr, "%s", p)
	}
	return len(p), nil
}

func (w *world) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.signal)
	w.signal = make(chan struct{})
}

// until waits for a condition over what was told.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		ok, signal := holds(), w.signal
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-signal:
		case <-deadline:
			w.t.Fatalf("%s: did not come\n%s", what, w.supervisorLog())
		}
	}
}

func (w *world) awaitExit(p wire.Process) wire.Exit {
	w.t.Helper()
	var exit wire.Exit
	w.until("exit of "+p.ID+" "+p.Exec, func() bool {
		var ok bool
		exit, ok = w.exits[p]
		return ok
	})
	return exit
}

func (w *world) supervisorLog() string {
	paths, _ := filepath.Glob(filepath.Join(w.dir, "supervisor/*/log"))
	var all strings.Builder
	for _, p := range paths {
		data, _ := os.ReadFile(p)
		fmt.Fprintf(&all, "--- %s\n%s", p, data)
	}
	return all.String()
}

// clean removes every container and supervisor, and looks for what stays.
func (w *world) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, p := range w.containers() {
		w.boxes.Signal(ctx, wire.Signal{Process: p, Signal: int(unix.SIGKILL), All: true})
		for range 200 {
			if _, err := w.boxes.Delete(ctx, p); err == nil || strings.Contains(err.Error(), "no supervisor") {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for _, g := range w.boxes.Info() {
		if g.Processes > 0 {
			w.t.Errorf("supervisor %s still has %d processes", g.Group, g.Processes)
		}
	}
	w.boxes.ShutdownIdle(ctx)
	if w.t.Failed() {
		w.t.Logf("%s", w.supervisorLog())
	}
	if err := w.boxes.Close(); err != nil {
		w.t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(w.dir) + "/*/cgroup.procs"); len(left) > 0 {
		w.t.Errorf("cgroups are left: %v", left)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(w.dir))
	for _, g := range groups {
		if err := unix.Rmdir(g); err != nil {
			w.t.Errorf("cgroup %s: %v", g, err)
		}
	}
	os.RemoveAll(w.dir)
}

func (w *world) containers() []wire.Process {
	w.boxes.mu.Lock()
	defer w.boxes.mu.Unlock()
	var list []wire.Process
	for p := range w.boxes.entries {
		if p.Exec == "" {
			list = append(list, p)
		}
	}
	return list
}

// container describes one to be started.
type container struct {
	id     string
	args   []string
	stdio  wire.Stdio
	change func(*specs.Spec)
}

func (w *world) spec(id string, args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: common.rootfs, Readonly: true},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin", "HOME=/root"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"},
			},
		},
		Hostname: "test",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + filepath.Base(w.dir) + "/" + id,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
		},
	}
}

func (w *world) bundle(c container) wire.Start {
	w.t.Helper()
	dir := filepath.Join(w.dir, "bundle", c.id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	spec := w.spec(c.id, c.args...)
	spec.Process.Terminal = c.stdio.Terminal
	if c.change != nil {
		c.change(spec)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return wire.Start{Process: key(c.id), Dir: dir, Stdio: c.stdio}
}

func key(id string) wire.Process { return wire.Process{Namespace: "test", ID: id} }

func (w *world) start(c container, attach ...*os.File) wire.StartResult {
	w.t.Helper()
	s := w.bundle(c)
	if len(attach) > 0 {
		a := wire.Attachment{}
		var files []*os.File
		for i, to := range []*bool{&a.Stdin, &a.Stdout, &a.Stderr} {
			if i < len(attach) && attach[i] != nil {
				*to = true
				files = append(files, attach[i])
			}
		}
		s.Attach, attach = &a, files
	}
	r, err := w.boxes.Start(context.Background(), c.id, s, attach)
	if err != nil {
		w.t.Fatalf("start %s: %v\n%s", c.id, err, w.supervisorLog())
	}
	return r
}

func (w *world) delete(id string) wire.Exit {
	w.t.Helper()
	exit, err := w.boxes.Delete(context.Background(), key(id))
	if err != nil {
		w.t.Fatalf("delete %s: %v\n%s", id, err, w.supervisorLog())
	}
	return exit
}

// capture is the reading end of a client's stream.
type capture struct {
	t    testing.TB
	r, w *os.File

	mu    sync.Mutex
	got   []byte
	more  chan struct{}
	ended bool
}

func newCapture(t testing.TB) *capture {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{t: t, r: r, w: w, more: make(chan struct{})}
	go c.read()
	t.Cleanup(func() { r.Close(); w.Close() })
	return c
}

// give is the end for the container's side; closed is when the supervisor has it.
func (c *capture) give() *os.File { return c.w }

func (c *capture) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.r.Read(buf)
		c.mu.Lock()
		c.got = append(c.got, buf[:n]...)
		c.ended = err != nil
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *capture) wait(what string, holds func() bool) {
	c.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		ok, more := holds(), c.more
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-more:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("waiting for %s: got %d bytes, ending %q", what, len(c.got), c.got[max(0, len(c.got)-200):])
		}
	}
}

// until waits until the stream holds text.
func (c *capture) until(text string) {
	c.t.Helper()
	c.wait(fmt.Sprintf("%q", text), func() bool { return strings.Contains(string(c.got), text) })
}

// all waits for the stream's end and returns everything. Our copy of the writing end is closed first.
func (c *capture) all() string {
	c.t.Helper()
	c.w.Close()
	c.wait("the end", func() bool { return c.ended })
	return string(c.got)
}
