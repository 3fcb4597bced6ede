package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// actAs makes the test program act as a daemon that starts what stands on its standard input and waits to be killed.
const actAs = "SANDBOX_TEST_ACT_AS"

type act struct {
	Binary, StateDir, Scope string
	Starts                  []wire.Start
	Execs                   []wire.Exec
}

func actDaemon() int {
	var a act
	err := json.NewDecoder(os.Stdin).Decode(&a)
	if err == nil {
		err = a.run()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

func (a act) run() error {
	ctx := context.Background()
	boxes, err := Open(ctx, Config{Binary: a.Binary, StateDir: a.StateDir, Name: "test", Scope: a.Scope}, Handlers{})
	if err != nil {
		return err
	}
	for _, s := range a.Starts {
		if _, err := boxes.Start(ctx, s.ID, s, nil); err != nil {
			return err
		}
	}
	for _, x := range a.Execs {
		if _, err := boxes.Exec(ctx, x, nil); err != nil {
			return err
		}
	}
	return nil
}

// asDaemon runs another process as the daemon until it has started everything.
func (w *world) asDaemon(a act) *exec.Cmd {
	w.t.Helper()
	a.Binary, a.StateDir = common.binary, w.dir
	in, err := json.Marshal(a)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), actAs+"=1")
	r, pw, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	r.Close()
	pw.Write(in)
	pw.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		w.t.Fatalf("the daemon says %q, %v\n%s", line, err, w.supervisorLog())
	}
	w.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

// ticking counts in a log until TERM ends it with 6.
func ticking(w *world, id string) wire.Start {
	return w.bundle(container{
		id: id, args: []string{"sh", "-c", "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"},
		stdio: wire.Stdio{Log: w.log(id)},
	})
}

func (w *world) recover(known ...Known) map[wire.Process]Recovered {
	w.t.Helper()
	list, err := w.boxes.Recover(context.Background(), known)
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[wire.Process]Recovered{}
	for _, r := range list {
		if r.Err != nil {
			w.t.Errorf("%s %s: %v\n%s", r.ID, r.Exec, r.Err, w.supervisorLog())
		}
		got[r.Process] = r
	}
	return got
}

func knownRunning(s wire.Start) Known {
	return Known{Process: s.Process, Group: s.ID, Dir: s.Dir, State: "running"}
}

func TestDaemonKilled(t *testing.T) {
	for _, scope := range []string{ScopeNode, ScopePod} {
		t.Run(scope, func(t *testing.T) {
			w := newWorld(t, scope)
			tick, short := ticking(w, "tick"), w.bundle(container{id: "short", args: []string{"sh", "-c", "sleep 0.3; exit 4"}})
			daemon := w.asDaemon(act{Scope: scope, Starts: []wire.Start{tick, short}})
			kill(t, daemon)
			w.untilLogged("tick", 50) // on it goes, and the short one ends
			w.awaitFile(short.Dir + "/exit.json")
			got := w.recover(knownRunning(tick), knownRunning(short), Known{Process: key("never"), Dir: "/nowhere", State: "created"})
			if r := got[tick.Process]; r.Action != ActionKeep || r.State != "running" || r.PID == 0 || len(r.CgroupPaths) == 0 {
				t.Errorf("recovered %+v", r)
			}
			if r := got[short.Process]; r.Action != ActionExited || r.Exit == nil || r.Exit.Code != 4 {
				t.Errorf("recovered %+v", r)
			}
			if r := got[key("never")]; r.Action != ActionIdle {
				t.Errorf("recovered %+v", r)
			}
			if err := w.boxes.Signal(context.Background(), wire.Signal{Process: tick.Process, Signal: 15}); err != nil {
				t.Fatal(err)
			}
			if exit := w.awaitExit(tick.Process); exit.Code != 6 {
				t.Errorf("exit is %+v", exit)
			}
			inOrder(t, w.logged("tick")["stdout"])
			w.delete("tick")
			w.delete("short")
		})
	}
}

// TestDaemonThenSupervisorKilled: the second daemon is nobody's parent, but holds the pidfds.
func TestDaemonThenSupervisorKilled(t *testing.T) {
	w := newWorld(t, ScopeNode)
	tick := ticking(w, "tick")
	kill(t, w.asDaemon(act{Starts: []wire.Start{tick}}))
	w.recover(knownRunning(tick))
	w.untilLogged("tick", 10)
	w.killSupervisor()
	w.untilLogged("tick", 10)
	if err := w.boxes.Signal(context.Background(), wire.Signal{Process: tick.Process, Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(tick.Process); exit.Code != 6 {
		t.Errorf("exit is %+v", exit)
	}
	inOrder(t, w.logged("tick")["stdout"])
}

func TestBothKilled(t *testing.T) {
	w := newWorld(t, ScopeNode)
	tick := ticking(w, "tick")
	ended := w.bundle(container{id: "ended", args: []string{"sleep", "1000"}})
	dir := tick.Dir + "/exec/x"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(w.spec("tick", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done").Process)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/process.json", data, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := w.asDaemon(act{Starts: []wire.Start{tick, ended}, Execs: []wire.Exec{{Process: execKey("tick", "x"), Dir: dir}}})
	w.untilLogged("tick", 10)
	kill(t, daemon)
	supervisor := readPID(t, w.dir+"/supervisor/node/lock")
	if err := unix.Kill(supervisor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	known, _ := onDisk(knownRunning(ended))
	if err := unix.Kill(known.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.untilNot(func() bool { return running(known) })
	got := w.recover(knownRunning(tick), knownRunning(ended))
	if r := got[tick.Process]; r.Action != ActionAdopt || r.State != "running" {
		t.Errorf("recovered %+v", r)
	}
	if r := got[execKey("tick", "x")]; r.Action != ActionAdopt || r.State != "running" {
		t.Errorf("recovered %+v", r)
	}
	if r := got[ended.Process]; r.Action != ActionExited || r.Exit == nil || r.Exit.Code != 255 || r.Exit.Reason == "" {
		t.Errorf("recovered %+v", r)
	}
	w.untilLogged("tick", 10)
	ctx := context.Background()
	// The processes are this one's children now, by way of the subreaper: their codes are known.
	for _, p := range []wire.Process{execKey("tick", "x"), tick.Process} {
		if err := w.boxes.Signal(ctx, wire.Signal{Process: p, Signal: 15}); err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"x": 3, "": 6}[p.Exec]
		if exit := w.awaitExit(p); exit.Code != want {
			t.Errorf("exit of %s %s is %+v", p.ID, p.Exec, exit)
		}
	}
	inOrder(t, w.logged("tick")["stdout"])
	w.delete("tick")
	w.delete("ended")
}

// TestHangingSupervisor: recovery is bounded, and what hangs is not taken for dead.
func TestHangingSupervisor(t *testing.T) {
	w := newWorld(t, ScopePod)
	stuck, fine := ticking(w, "stuck"), ticking(w, "fine")
	kill(t, w.asDaemon(act{Scope: ScopePod, Starts: []wire.Start{stuck, fine}}))
	pid := readPID(t, w.dir+"/supervisor/stuck/lock")
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.boxes.Patience = 300 * 1000 * 1000
	list, err := w.boxes.Recover(context.Background(), []Known{knownRunning(stuck), knownRunning(fine)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if hung := r.ID == "stuck"; r.Action != ActionKeep || (r.Err != nil) != hung {
			t.Errorf("recovered %+v", r)
		}
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.boxes.Patience = 10 * 1000 * 1000 * 1000
	for _, s := range []wire.Start{stuck, fine} {
		if err := w.boxes.Signal(context.Background(), wire.Signal{Process: s.Process, Signal: 15}); err != nil {
			t.Fatal(err)
		}
		if exit := w.awaitExit(s.Process); exit.Code != 6 {
			t.Errorf("exit is %+v", exit)
		}
	}
}

func readPID(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}
