package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// exec runs a process in a container.
func (w *world) exec(id, exec string, stdio wire.Stdio, files []*os.File, args ...string) (wire.StartResult, error) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "bundle", id, "exec", exec)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	p := w.spec(id, args...).Process
	data, err := json.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "process.json"), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	x := wire.Exec{Process: execKey(id, exec), Dir: dir, Stdio: stdio}
	var given []*os.File
	if files != nil {
		a := wire.Attachment{}
		for i, to := range []*bool{&a.Stdin, &a.Stdout, &a.Stderr} {
			if i < len(files) && files[i] != nil {
				*to = true
				given = append(given, files[i])
			}
		}
		x.Attach = &a
	}
	return w.boxes.Exec(context.Background(), x, given)
}

func execKey(id, exec string) wire.Process {
	return wire.Process{Namespace: "test", ID: id, Exec: exec}
}

func (w *world) log(id string) wire.Log {
	return wire.Log{Driver: "json-file", Path: filepath.Join(w.dir, "logs", id+".log")}
}

// logged is what a log holds, by stream.
func (w *world) logged(id string) map[string]string {
	w.t.Helper()
	data, err := os.ReadFile(w.log(id).Path)
	if err != nil {
		w.t.Fatal(err)
	}
	streams := map[string]*strings.Builder{"stdout": {}, "stderr": {}}
	for line := range strings.Lines(string(data)) {
		var e struct{ Log, Stream string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatalf("log line %q: %v", line, err)
		}
		streams[e.Stream].WriteString(e.Log)
	}
	return map[string]string{"stdout": streams["stdout"].String(), "stderr": streams["stderr"].String()}
}

func TestLogs(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sh", "-c", "seq 1 20000; echo err >&2; printf end"}, stdio: wire.Stdio{Log: w.log("c")}})
	w.awaitExit(key("c"))
	// The log is complete when the exit is told.
	var want strings.Builder
	for i := 1; i <= 20000; i++ {
		fmt.Fprintln(&want, i)
	}
	got := w.logged("c")
	if got["stdout"] != want.String()+"end" || got["stderr"] != "err\n" {
		t.Errorf("log holds %d bytes of stdout, want %d, and %q of stderr", len(got["stdout"]), want.Len()+3, got["stderr"])
	}
}

func TestAttachments(t *testing.T) {
	w := newWorld(t, ScopeNode)
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	first, second := newCapture(t), newCapture(t)
	w.start(container{
		id: "cat", args: []string{"sh", "-c", "echo ready; cat; echo bye >&2"},
		stdio: wire.Stdio{Stdin: true, Log: w.log("cat")},
	}, r, first.give())
	r.Close()
	first.until("ready")
	r2, in2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	third := newCapture(t)
	err = w.boxes.Attach(context.Background(), key("cat"), wire.Attachment{Stdin: true, Stdout: true, Stderr: true}, []*os.File{r2, second.give(), third.give()})
	if err != nil {
		t.Fatal(err)
	}
	r2.Close()
	fmt.Fprintln(in, "from the first")
	second.until("from the first\n")
	fmt.Fprintln(in2, "from the second")
	first.until("from the second\n")
	// The end of one client's input is not that of the process's.
	in.Close()
	fmt.Fprintln(in2, "again")
	first.until("again\n")
	// A client that goes away leaves the others alone.
	first.r.Close()
	first.w.Close()
	fmt.Fprintln(in2, "alone")
	second.until("alone\n")
	if err := w.boxes.CloseStdin(context.Background(), key("cat")); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("cat")); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	want := "from the first\nfrom the second\nagain\nalone\n"
	if got := second.all(); got != want {
		t.Errorf("second client got %q", got)
	}
	if got := third.all(); got != "bye\n" {
		t.Errorf("stderr of the second client is %q", got)
	}
	if got := w.logged("cat"); got["stdout"] != "ready\n"+want || got["stderr"] != "bye\n" {
		t.Errorf("log holds %q", got)
	}
	in2.Close()
}

func TestStdinOnce(t *testing.T) {
	w := newWorld(t, ScopeNode)
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newCapture(t)
	w.start(container{id: "once", args: []string{"cat"}, stdio: wire.Stdio{Stdin: true, StdinOnce: true}}, r, out.give())
	r.Close()
	data := strings.Repeat("0123456789abcdef", 1<<16) // more than all pipes hold
	go func() {
		fmt.Fprint(in, data)
		in.Close()
	}()
	if exit := w.awaitExit(key("once")); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	if got := out.all(); got != data {
		t.Errorf("got %d bytes of %d", len(got), len(data))
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t, ScopeNode)
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newCapture(t)
	w.start(container{
		id: "tty", args: []string{"sh"},
		stdio: wire.Stdio{Terminal: true, Stdin: true, Width: 100, Height: 30, Log: w.log("tty")},
	}, r, out.give())
	r.Close()
	fmt.Fprintln(in, "tty; stty size")
	out.until("/dev/pts/0\r\n30 100\r\n")
	if err := w.boxes.Resize(context.Background(), wire.Resize{Process: key("tty"), Width: 77, Height: 11}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "stty size; exit 5")
	out.until("11 77\r\n")
	if exit := w.awaitExit(key("tty")); exit.Code != 5 {
		t.Errorf("exit is %+v", exit)
	}
	out.all()
	if got := w.logged("tty"); !strings.Contains(got["stdout"], "11 77\r\n") {
		t.Errorf("log holds %q", got)
	}
	in.Close()
}

func TestExec(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}})
	out, errs := newCapture(t), newCapture(t)
	if _, err := w.exec("c", "one", wire.Stdio{}, []*os.File{nil, out.give(), errs.give()}, "sh", "-c", "echo out; echo err >&2; exit 9"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "one")); exit.Code != 9 {
		t.Errorf("exit is %+v", exit)
	}
	if o, e := out.all(), errs.all(); o != "out\n" || e != "err\n" {
		t.Errorf("got %q and %q", o, e)
	}
	if _, err := w.boxes.Delete(context.Background(), execKey("c", "one")); err != nil {
		t.Error(err)
	}
	if _, err := w.boxes.Delete(context.Background(), execKey("c", "one")); !errdefs.IsNotFound(err) {
		t.Errorf("delete again: %v", err)
	}
	tty := newCapture(t)
	if _, err := w.exec("c", "two", wire.Stdio{Terminal: true, Width: 90, Height: 9}, []*os.File{nil, tty.give()}, "stty", "size"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "two")); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	if got := tty.all(); got != "9 90\r\n" {
		t.Errorf("got %q", got)
	}
	// A process that leaves another one behind, which holds its streams: the exit does not wait for it, the streams do a little.
	behind := newCapture(t)
	if _, err := w.exec("c", "three", wire.Stdio{}, []*os.File{nil, behind.give()}, "sh", "-c", "echo mine; sleep 1000 &"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "three")); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	if got := behind.all(); got != "mine\n" {
		t.Errorf("got %q", got)
	}
}

func TestFailingStarts(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}})
	for i, c := range []struct {
		args   []string
		change func(*specs.Spec)
		class  func(error) bool
		want   string
	}{
		{[]string{"foo"}, nil, errdefs.IsNotFound, `exec "foo": not found in the container's PATH: check the command: not found`},
		{[]string{"/bin/foo"}, nil, errdefs.IsNotFound, `exec "/bin/foo": no such file in the container: check the command: not found`},
		{[]string{"/etc/plain"}, nil, errdefs.IsPermissionDenied, `exec "/etc/plain": not an executable file for this user: check its mode and mount: permission denied`},
		{[]string{"/etc"}, nil, errdefs.IsPermissionDenied, `exec "/etc": is a directory: name a program: permission denied`},
		{[]string{"true"}, func(s *specs.Spec) { s.Process.Cwd = "/etc/plain" }, errdefs.IsInvalidArgument, ``},
		{[]string{"true"}, func(s *specs.Spec) { s.Process.Cwd = "etc" }, errdefs.IsInvalidArgument, ``},
		{[]string{"true"}, func(s *specs.Spec) { s.Root.Path = "/does/not/exist" }, errdefs.IsInvalidArgument, ``},
		{[]string{"true"}, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/does/not/exist", Destination: "/mnt", Options: []string{"bind"}})
		}, errdefs.IsInvalidArgument, ``},
	} {
		id := fmt.Sprint("f", i)
		_, err := w.boxes.Start(context.Background(), id, w.bundle(container{id: id, args: c.args, change: c.change}), nil)
		if err == nil || !c.class(err) || c.want != "" && err.Error() != c.want {
			t.Errorf("%v: %v", c.args, err)
		}
		t.Log(err)
		if err != nil && (strings.Contains(err.Error(), "failed to") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%v: message is %q", c.args, err)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "bundle", id, "state", id)); err == nil {
			t.Errorf("%v: its state is left", c.args)
		}
		if c.change == nil {
			if _, err := w.exec("c", id, wire.Stdio{}, nil, c.args...); err == nil || !c.class(err) || err.Error() != c.want {
				t.Errorf("exec %v: %v", c.args, err)
			}
		}
	}
	// The name is free again.
	w.start(container{id: "f0", args: []string{"true"}})
	w.awaitExit(key("f0"))
	if _, err := w.boxes.Start(context.Background(), "f0", w.bundle(container{id: "f0", args: []string{"true"}}), nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second start: %v", err)
	}
}

func TestPauseAndKill(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	w.start(container{id: "p", args: []string{"sleep", "1000"}})
	if err := w.boxes.Pause(ctx, key("p")); err != nil {
		t.Fatal(err)
	}
	list, err := w.boxes.List(ctx)
	if err != nil || len(list) != 1 || list[0].State != "paused" {
		t.Errorf("list is %+v, %v", list, err)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("p"), Signal: int(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("p")); exit.Code != 137 {
		t.Errorf("exit is %+v", exit)
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	r := w.start(container{id: "u", args: []string{"sleep", "1000"}})
	limit := int64(64 << 20)
	body, err := json.Marshal(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.boxes.Update(ctx, wire.Update{Process: key("u"), Resources: body}); err != nil {
		t.Fatal(err)
	}
	if dir := r.CgroupPaths["memory"]; dir != "" {
		data, err := os.ReadFile(filepath.Join(dir, "memory.limit_in_bytes"))
		if err != nil || strings.TrimSpace(string(data)) != "67108864" {
			t.Errorf("limit is %s, %v", data, err)
		}
	}
	if _, err := w.exec("u", "after", wire.Stdio{}, nil, "true"); err != nil {
		t.Errorf("exec after an update: %v", err)
	}
	w.awaitExit(execKey("u", "after"))
}

func TestOOM(t *testing.T) {
	w := newWorld(t, ScopeNode)
	limit := int64(48 << 20)
	w.start(container{id: "oom", args: []string{"sh", "-c", "x=$(yes | head -c 200000000); echo survived"}, change: func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
		s.Process.Args = []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"}
	}})
	if exit := w.awaitExit(key("oom")); !exit.OOM || exit.Code != 137 {
		t.Errorf("exit is %+v", exit)
	}
	w.until("the event", func() bool { return len(w.ooms) == 1 })
}

func TestHostPIDNamespace(t *testing.T) {
	w := newWorld(t, ScopeNode)
	hostPIDs := func(s *specs.Spec) {
		kept := s.Linux.Namespaces[:0]
		for _, n := range s.Linux.Namespaces {
			if n.Type != specs.PIDNamespace {
				kept = append(kept, n)
			}
		}
		s.Linux.Namespaces = kept
	}
	r := w.start(container{id: "h", args: []string{"sh", "-c", "setsid sleep 1234 & setsid sleep 1234 & exit 4"}, change: hostPIDs})
	if exit := w.awaitExit(key("h")); exit.Code != 4 {
		t.Errorf("exit is %+v", exit)
	}
	// What it left behind is killed with it.
	for _, dir := range r.CgroupPaths {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(data)) {
			if st, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(st), ") Z") {
				t.Errorf("process %s lives: %s", pid, st)
			}
		}
	}
	w.delete("h")
}
