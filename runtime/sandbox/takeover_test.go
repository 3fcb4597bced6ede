package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func (w *world) supervisorPID() int {
	w.t.Helper()
	info := w.boxes.Info()
	if len(info) != 1 {
		w.t.Fatalf("supervisors are %+v", info)
	}
	return info[0].PID
}

// killSupervisor kills it and waits until another one has taken over.
func (w *world) killSupervisor() {
	w.t.Helper()
	pid := w.supervisorPID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.until("the loss", func() bool { return w.lost > 0 })
	// Any call waits for the new one.
	for range 100 {
		if info := w.boxes.Info(); len(info) == 1 && info[0].Connected && info[0].PID != pid {
			w.mu.Lock()
			w.lost = 0
			w.mu.Unlock()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Fatalf("no new supervisor: %+v", w.boxes.Info())
}

// inOrder checks that a log has every number once, and returns the last.
func inOrder(t *testing.T, log string) int {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	for i, l := range lines {
		if l != fmt.Sprint(i+1) {
			t.Errorf("line %d is %q", i+1, l)
			break
		}
	}
	return len(lines)
}

func TestSupervisorKilled(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newCapture(t)
	w.start(container{id: "c", args: []string{"sh", "-c", "while read x; do echo got $x; done; exit 6"}, stdio: wire.Stdio{Stdin: true, Log: w.log("c")}}, r, out.give())
	r.Close()
	tty := newCapture(t)
	w.start(container{id: "tty", args: []string{"sh"}, stdio: wire.Stdio{Terminal: true, Stdin: true, Log: w.log("tty")}}, nil, tty.give())
	if _, err := w.exec("c", "x", wire.Stdio{}, nil, "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	w.start(container{id: "gone", args: []string{"true"}})
	w.awaitExit(key("gone"))
	fmt.Fprintln(in, "one")
	out.until("got one\n")
	w.killSupervisor()
	list, err := w.boxes.List(ctx)
	if err != nil || len(list) != 3 {
		t.Errorf("list is %+v, %v", list, err)
	}
	for _, e := range list {
		if e.State != "running" || !e.Adopted {
			t.Errorf("entry is %+v", e)
		}
	}
	// Attachments ended with the supervisor; the process's input did not.
	out.all()
	r2, in2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out2, tty2 := newCapture(t), newCapture(t)
	if err := w.boxes.Attach(ctx, key("c"), wire.Attachment{Stdin: true, Stdout: true}, []*os.File{r2, out2.give()}); err != nil {
		t.Fatal(err)
	}
	r2.Close()
	fmt.Fprintln(in2, "two")
	out2.until("got two\n")
	r3, in3, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.boxes.Attach(ctx, key("tty"), wire.Attachment{Stdin: true, Stdout: true}, []*os.File{r3, tty2.give()}); err != nil {
		t.Fatal(err)
	}
	r3.Close()
	fmt.Fprintln(in3, "tty; exit 8")
	tty2.until("/dev/pts/0")
	if exit := w.awaitExit(key("tty")); exit.Code != 8 {
		t.Errorf("exit of the terminal is %+v", exit)
	}
	if _, err := w.exec("c", "after", wire.Stdio{}, nil, "sh", "-c", "exit 2"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "after")); exit.Code != 2 {
		t.Errorf("exit of a new process is %+v", exit)
	}
	// Again: what was adopted is adopted once more.
	w.killSupervisor()
	if err := w.boxes.Signal(ctx, wire.Signal{Process: execKey("c", "x"), Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "x")); exit.Code != 143 {
		t.Errorf("exit of the adopted exec is %+v", exit)
	}
	if err := w.boxes.CloseStdin(ctx, key("c")); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("c")); exit.Code != 6 {
		t.Errorf("exit is %+v", exit)
	}
	if got := w.logged("c")["stdout"]; got != "got one\ngot two\n" {
		t.Errorf("log holds %q", got)
	}
	w.delete("c")
	w.delete("gone")
	in.Close()
	in2.Close()
	in3.Close()
}

func TestExitsWhileNoSupervisorLives(t *testing.T) {
	w := newWorld(t, ScopeNode)
	r := w.start(container{id: "c", args: []string{"sleep", "1000"}})
	// Stopped, the new supervisor's start is what we wait for; the process ends before.
	pid := w.supervisorPID()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(r.PID, unix.SIGTERM); err != nil { // an init without a handler: ignored, so
		t.Fatal(err)
	}
	if err := unix.Kill(r.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("c")); exit.Code != 137 || exit.Reason != "" {
		t.Errorf("exit is %+v", exit)
	}
	w.delete("c")
}

func TestLogsAcrossSupervisors(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sh", "-c", "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"}, stdio: wire.Stdio{Log: w.log("c")}})
	for range 3 {
		w.untilLogged("c", 20)
		w.killSupervisor()
	}
	w.untilLogged("c", 20)
	if err := w.boxes.Signal(context.Background(), wire.Signal{Process: key("c"), Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("c")); exit.Code != 6 {
		t.Errorf("exit is %+v", exit)
	}
	inOrder(t, w.logged("c")["stdout"])
}

// untilLogged waits until the log has grown by some lines.
func (w *world) untilLogged(id string, more int) {
	w.t.Helper()
	count := func() int {
		data, _ := os.ReadFile(w.log(id).Path)
		return strings.Count(string(data), "\n")
	}
	from := count()
	for range 1000 {
		if count() >= from+more {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("the log does not grow beyond %d lines\n%s", count(), w.supervisorLog())
}

// TestStartCutOff kills the supervisor between the creation of a process and its first instruction.
func TestStartCutOff(t *testing.T) {
	t.Setenv("MINI_FAILPOINT", "supervisor-created=kill")
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	_, err := w.boxes.Start(ctx, "half", w.bundle(container{id: "half", args: []string{"sleep", "1000"}}), nil)
	if !errdefs.IsUnavailable(err) {
		t.Fatalf("start: %v", err)
	}
	t.Setenv("MINI_FAILPOINT", "")
	if _, err := w.boxes.Delete(ctx, key("half")); err != nil {
		t.Fatalf("delete of the half: %v\n%s", err, w.supervisorLog())
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(w.dir) + "/half"); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "bundle/half/state/half")); err == nil {
		t.Error("its state is left")
	}
	w.start(container{id: "half", args: []string{"true"}})
	w.awaitExit(key("half"))
}

// TestStartUnderWay asks a supervisor, as a new daemon does, while it starts what an earlier one has asked for.
func TestStartUnderWay(t *testing.T) {
	t.Setenv("MINI_FAILPOINT", "supervisor-created=sleep:500ms")
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	s := w.bundle(container{id: "slow", args: []string{"sleep", "1000"}})
	started := make(chan error, 1)
	go func() {
		_, err := w.boxes.Start(ctx, "slow", s, nil)
		started <- err
	}()
	w.awaitFile(filepath.Join(s.Dir, "supervisor.json"))
	c, err := w.boxes.groupFor("slow").connected(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if has, err := listed(ctx, c); err != nil || len(has) != 0 {
		t.Errorf("before it runs: %v, %v", has, err)
	}
	has, err := listedBy(ctx, c, wire.ListParams{Settled: true})
	if err != nil || has[s.Process].State != "running" {
		t.Errorf("asked to wait: %v, %v", has, err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

// untilNot polls what nobody tells: the kernel's and the supervisor's files.
func (w *world) untilNot(holds func() bool) {
	w.t.Helper()
	for range 1000 {
		if !holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("it stays so\n%s", w.supervisorLog())
}

func (w *world) awaitFile(path string) {
	w.t.Helper()
	w.untilNot(func() bool {
		_, err := os.Stat(path)
		return err != nil
	})
}
