package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// DaemonOptions says what kind of daemon a test wants.
type DaemonOptions struct {
	Config string   // TOML, after what testenv writes; top-level keys belong into Top
	Top    string   // top-level TOML keys
	Env    []string // more of the environment: MINI_FAILPOINT=…
	Root   string   // the root directory; empty: one of the test's own
}

// DaemonProcess is a real minid with root, state, socket and name of its own.
type DaemonProcess struct {
	Name, Dir, Root, State, Address, Config string
	Env                                     []string

	t       testing.TB
	process *os.Process
	done    chan struct{} // closed when the process has ended
	state   *os.ProcessState
	before  snapshot
}

// Daemon starts a minid and ends it with the test; then nothing of it may be left. The test is skipped where minid is not
// built or there is no root.
func Daemon(t testing.TB, o DaemonOptions) *DaemonProcess {
	t.Helper()
	Root(t)
	Binary(t, "minictr")
	Binary(t, "minid-supervisor")
	dir := Dir(t)
	d := &DaemonProcess{
		Name: filepath.Base(dir), Dir: dir, Root: o.Root, State: filepath.Join(dir, "state"), Env: o.Env,
		Address: filepath.Join(dir, "minid.sock"), Config: filepath.Join(dir, "config.toml"), t: t, before: look(),
	}
	if d.Root == "" {
		d.Root = filepath.Join(dir, "root")
	}
	text := fmt.Sprintf("name = %q\nroot = %q\nstate = %q\naddress = %q\nlog_level = \"debug\"\n%s\n%s\n",
		d.Name, d.Root, d.State, d.Address, o.Top, o.Config)
	if err := os.WriteFile(d.Config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.end)
	d.Start()
	return d
}

// In is the daemon for a part of the test, which then fails in place of the whole. It is only for commands: who starts,
// stops or kills uses the daemon itself.
func (d *DaemonProcess) In(t testing.TB) *DaemonProcess {
	part := *d
	part.t = t
	return &part
}

// Start starts the daemon and waits until it answers.
func (d *DaemonProcess) Start() {
	d.t.Helper()
	d.Launch()
	if !poll(20*time.Second, func() bool { return d.Ended() || d.ready() }) {
		d.t.Fatalf("minid does not answer after 20 s:\n%s", d.Log())
	}
	if d.Ended() {
		d.t.Fatalf("minid ended at its start (%s):\n%s", d.state, d.Log())
	}
}

// Launch starts the daemon and does not wait: for one that dies at a failure point.
func (d *DaemonProcess) Launch() {
	d.t.Helper()
	log, err := os.OpenFile(d.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(Binary(d.t, "minid"), "--config", d.Config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	done := make(chan struct{})
	d.process, d.done = cmd.Process, done
	go func() {
		_ = cmd.Wait() // how it ended is in the state
		d.state = cmd.ProcessState
		close(done)
	}()
}

func (d *DaemonProcess) ready() bool {
	_, err := d.command(context.Background(), "version").Output()
	return err == nil
}

func (d *DaemonProcess) logPath() string { return filepath.Join(d.Dir, "minid.log") }

// Log is what the daemon has written since the test began.
func (d *DaemonProcess) Log() string {
	data, err := os.ReadFile(d.logPath())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// PID is the daemon's.
func (d *DaemonProcess) PID() int { return d.process.Pid }

// Ended says whether the daemon's process has ended.
func (d *DaemonProcess) Ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// WaitEnd waits until the daemon has ended by itself, as at a failure point.
func (d *DaemonProcess) WaitEnd(within time.Duration) bool { return poll(within, d.Ended) }

// Kill9 kills the daemon with SIGKILL and waits until it is gone.
func (d *DaemonProcess) Kill9() {
	d.t.Helper()
	if err := d.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
	<-d.done
}

// Stop ends the daemon with SIGTERM; containers run on.
func (d *DaemonProcess) Stop() {
	d.t.Helper()
	if err := d.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
	if !d.WaitEnd(20 * time.Second) {
		_ = d.process.Signal(syscall.SIGQUIT) // its log then has what every goroutine waits for
		d.WaitEnd(5 * time.Second)
		d.t.Errorf("minid does not end 20 s after SIGTERM:\n%s", d.Log())
		d.Kill9()
	}
}

// Restart kills the daemon with SIGKILL and starts it again.
func (d *DaemonProcess) Restart() {
	d.t.Helper()
	d.Kill9()
	d.Start()
}

// Supervisors lists the daemon's supervisors by process number. They run from a sealed copy in memory, so that they are
// known by their command line.
func (d *DaemonProcess) Supervisors() []int {
	return processes(func(p process) bool {
		return filepath.Base(p.args[0]) == "minid-supervisor" && slices.ContainsFunc(p.args, func(arg string) bool {
			return strings.HasPrefix(arg, d.State+"/")
		})
	})
}

// Output is what a command gave.
type Output struct {
	Stdout, Stderr string
	Code           int
}

func (d *DaemonProcess) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, Binary(d.t, "minictr"), append([]string{"--address", d.Address}, args...)...)
}

// Try runs minictr against this daemon.
func (d *DaemonProcess) Try(args ...string) Output {
	d.t.Helper()
	var out, errs bytes.Buffer
	cmd := d.command(d.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("minictr %s: %v", strings.Join(args, " "), err)
	}
	return Output{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// Minictr runs minictr against this daemon and returns its standard output; the test fails unless it exits with 0.
func (d *DaemonProcess) Minictr(args ...string) string {
	d.t.Helper()
	o := d.Try(args...)
	if o.Code != 0 {
		d.t.Fatalf("minictr %s: exit code %d\n%s%s\nlog of minid:\n%s", strings.Join(args, " "), o.Code, o.Stdout, o.Stderr, tail(d.Log(), 40))
	}
	return o.Stdout
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// end removes what the test made, ends the daemon and looks for leftovers.
func (d *DaemonProcess) end() {
	if d.process == nil {
		return
	}
	if d.t.Failed() {
		d.t.Logf("log of minid:\n%s", tail(d.Log(), 80))
	}
	if d.Ended() {
		d.Env = nil // no failure point this time
		d.Launch()
		if !poll(20*time.Second, func() bool { return d.Ended() || d.ready() }) || d.Ended() {
			d.t.Errorf("minid does not start again to clean up:\n%s", tail(d.Log(), 40))
		}
	}
	if !d.Ended() {
		d.removeContainers()
		d.Stop()
	}
	d.endSupervisors()
	d.before.compare(d.t, append(linkMarks(d.Name), d.Name, d.Dir)...)
}

func (d *DaemonProcess) removeContainers() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, ns := range d.lines(ctx, "namespaces", "ls", "-q") {
		for _, id := range d.lines(ctx, "-n", ns, "containers", "ls", "-q") {
			if out, err := d.command(ctx, "-n", ns, "containers", "rm", "--force", id).CombinedOutput(); err != nil {
				d.t.Errorf("remove container %s/%s: %v: %s", ns, id, err, out)
			}
		}
	}
}

func (d *DaemonProcess) lines(ctx context.Context, args ...string) []string {
	out, err := d.command(ctx, args...).Output()
	if err != nil {
		d.t.Errorf("minictr %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

// endSupervisors ends the idle supervisors, which a daemon leaves to its successor. One that had containers left would
// show in their cgroups.
func (d *DaemonProcess) endSupervisors() {
	for _, pid := range d.Supervisors() {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may end meanwhile
	}
	if poll(5*time.Second, func() bool { return len(d.Supervisors()) == 0 }) {
		return
	}
	d.t.Errorf("supervisors %v do not end 5 s after SIGTERM", d.Supervisors())
	for _, pid := range d.Supervisors() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
