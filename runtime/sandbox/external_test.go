package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// TestExternalRuntimes runs the same life of a container with other runtimes' binaries.
func TestExternalRuntimes(t *testing.T) {
	for _, binary := range []string{"runc", "crun"} {
		t.Run(binary, func(t *testing.T) {
			path, err := exec.LookPath(binary)
			if err != nil {
				t.Skip(err)
			}
			if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil && binary == "crun" {
				t.Skip("crun does not know the hybrid mode of cgroups")
			}
			w := newWorld(t, ScopeNode)
			externalLife(t, w, path)
		})
	}
}

// older is a version of the specification that crun 1.8 knows.
func older(s *specs.Spec) { s.Version = "1.0.2" }

func externalLife(t *testing.T, w *world, path string) {
	ctx := context.Background()
	start := func(c container, files ...*os.File) wire.StartResult {
		t.Helper()
		c.change = older
		s := w.bundle(c)
		s.Runtime = path
		if len(files) > 0 {
			s.Attach = &wire.Attachment{Stdin: len(files) > 1, Stdout: true}
		}
		r, err := w.boxes.Start(ctx, c.id, s, files)
		if err != nil {
			t.Fatalf("start: %v\n%s", err, w.supervisorLog())
		}
		return r
	}
	r := start(container{id: "c", args: []string{"sh", "-c", "echo up; trap 'exit 6' TERM; while :; do sleep 0.05; done"}, stdio: wire.Stdio{Log: w.log("c")}})
	if r.PID == 0 || len(r.CgroupPaths) == 0 {
		t.Errorf("result is %+v", r)
	}
	w.untilLogged("c", 0)
	out := newCapture(t)
	if _, err := w.exec("c", "x", wire.Stdio{}, []*os.File{nil, out.give()}, "sh", "-c", "echo hello; exit 3"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "x")); exit.Code != 3 {
		t.Errorf("exit is %+v", exit)
	}
	if got := out.all(); got != "hello\n" {
		t.Errorf("got %q", got)
	}
	if _, err := w.exec("c", "y", wire.Stdio{}, nil, "nothing"); !errdefs.IsNotFound(err) {
		t.Errorf("exec of nothing: %v", err)
	}
	if err := w.boxes.Pause(ctx, key("c")); err != nil {
		t.Error(err)
	}
	if err := w.boxes.Resume(ctx, key("c")); err != nil {
		t.Error(err)
	}
	w.killSupervisor()
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("c"), Signal: int(unix.SIGTERM)}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("c")); exit.Code != 6 {
		t.Errorf("exit is %+v", exit)
	}
	if got := w.logged("c")["stdout"]; got != "up\n" {
		t.Errorf("log holds %q", got)
	}
	w.delete("c")
	rd, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	tty := newCapture(t)
	start(container{id: "tty", args: []string{"sh"}, stdio: wire.Stdio{Terminal: true, Stdin: true}}, rd, tty.give())
	rd.Close()
	fmt.Fprintln(in, "tty; exit 2")
	tty.until("/dev/pts/0")
	if exit := w.awaitExit(key("tty")); exit.Code != 2 {
		t.Errorf("exit is %+v", exit)
	}
	in.Close()
	s := w.bundle(container{id: "bad", args: []string{"nothing"}, change: older})
	s.Runtime = path
	if _, err := w.boxes.Start(ctx, "bad", s, nil); !errdefs.IsNotFound(err) || strings.Contains(err.Error(), "\n") {
		t.Errorf("start of nothing: %v", err)
	}
	s.Runtime = "/does/not/exist"
	if _, err := w.boxes.Start(ctx, "bad", s, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start with no runtime: %v", err)
	}
}
