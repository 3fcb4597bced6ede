package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// external runs a container with an OCI runtime's binary (runc, crun, …), by the command line that they share. Its
// processes come to the supervisor as the subreaper when the binary has ended.
type external struct {
	start   wire.Start
	ownPIDs bool
	uid     int
	gid     int
	cgroups map[string]string
}

func newExternal(s wire.Start, load bool) (*external, error) {
	e := &external{start: s}
	spec, err := loadSpec(s.Dir)
	if err != nil {
		return nil, err
	}
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace && n.Path == "" {
			e.ownPIDs = true
		}
	}
	e.uid, e.gid = hostRoot(spec.Linux.UIDMappings), hostRoot(spec.Linux.GIDMappings)
	if load {
		if rec, err := loadRecord(s.Dir); err == nil {
			e.cgroups = rec.Cgroups
		}
	}
	return e, nil
}

func hostRoot(maps []specs.LinuxIDMapping) int {
	for _, m := range maps {
		if m.ContainerID == 0 {
			return int(m.HostID)
		}
	}
	return 0
}

func (e *external) prepare() (map[string]string, error) {
	if _, err := os.Stat(e.start.Runtime); err != nil {
		return nil, fmt.Errorf("runtime %s: %w: install it, or correct its path in the configuration: %w", e.start.Runtime, err, errdefs.ErrFailedPrecondition)
	}
	return nil, nil
}

func (e *external) premake()                         {}
func (e *external) owner() (uid, gid int, err error) { return e.uid, e.gid, nil }
func (e *external) killsAll() bool                   { return e.ownPIDs }

// command is the runtime with its global options. Paths are relative to the bundle where they might be too long for a
// socket's name.
func (e *external) command(args ...string) *exec.Cmd {
	global := []string{"--root", filepath.Join(e.start.Dir, "state"), "--log", e.logPath(), "--log-format", "json"}
	if e.start.SystemdCgroup {
		global = append(global, "--systemd-cgroup")
	}
	global = append(global, e.start.RuntimeArgs...)
	cmd := exec.Command(e.start.Runtime, append(global, args...)...)
	cmd.Dir = e.start.Dir
	return cmd
}

func (e *external) logPath() string { return filepath.Join(e.start.Dir, "runtime.log") }

// patience is how long a runtime may take for anything, where nobody says otherwise. One that hangs must not keep a
// container for ever: nobody could remove it.
const patience = 4 * time.Minute

// run runs the runtime and tells the last error of its log when it fails.
func (e *external) run(cmd *exec.Cmd) error {
	if err := os.Remove(e.logPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Not pipes: the container's processes would inherit them, and the wait for their end would last as long.
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("runtime %s: %w: %w", e.start.Runtime, err, errdefs.ErrFailedPrecondition)
	}
	limit := cmp.Or(e.start.Patience, patience)
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		return fmt.Errorf("%s has not answered for %s (container_create_timeout of the runtime handler): %w", filepath.Base(e.start.Runtime), limit, context.DeadlineExceeded)
	}
	if err == nil {
		return nil
	}
	if data, readErr := os.ReadFile(e.logPath()); readErr == nil {
		if text := lastMessage(data); text != "" {
			return errors.New(text)
		}
	}
	return fmt.Errorf("%s: %w", filepath.Base(e.start.Runtime), err)
}

// lastMessage is the last error in a runtime's log of JSON lines.
func lastMessage(data []byte) string {
	last := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return last
}

func (e *external) create(io childIO) (int, error) {
	verb := []string{"create", "--bundle", e.start.Dir}
	if e.start.Restore != "" {
		if err := hasCRIU("restore"); err != nil {
			return 0, err
		}
		verb = []string{"restore", "--detach", "--bundle", e.start.Dir, "--image-path", e.start.Restore}
	}
	if e.start.NoPivot {
		verb = append(verb, "--no-pivot")
	}
	pid, err := e.launch(verb, []string{e.start.ID}, io)
	if err != nil {
		return 0, e.named(startError(nil, "", err))
	}
	e.cgroups = cgroupsOf(pid)
	return pid, nil
}

func (e *external) exec(spec *specs.Process, io childIO, _ *os.File) (int, error) {
	f, err := os.CreateTemp(e.start.Dir, "process-*.json")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	err = errors.Join(json.NewEncoder(f).Encode(spec), f.Close())
	if err != nil {
		return 0, err
	}
	verb := []string{"exec", "--detach", "--process", f.Name()}
	if io.console != nil {
		verb = append(verb, "--tty")
	}
	pid, err := e.launch(verb, []string{e.start.ID}, io)
	if err != nil {
		return 0, e.named(startError(spec.Args, spec.Cwd, err))
	}
	return pid, nil
}

// launch has the runtime create a process, and returns the number that it writes.
func (e *external) launch(verb, rest []string, io childIO) (int, error) {
	pidFile, err := os.CreateTemp(e.start.Dir, "pid-")
	if err != nil {
		return 0, err
	}
	pidFile.Close()
	defer os.Remove(pidFile.Name())
	args := append(verb, "--pid-file", pidFile.Name())
	var console *consoleSocket
	if io.console != nil {
		if console, err = listenConsole(e.start.Dir); err != nil {
			return 0, err
		}
		defer console.close()
		args = append(args, "--console-socket", console.name)
	}
	cmd := e.command(append(args, rest...)...)
	// A nil *os.File in an interface is not nil.
	if io.stdin != nil {
		cmd.Stdin = io.stdin
	}
	if io.stdout != nil {
		cmd.Stdout = io.stdout
	}
	if io.stderr != nil {
		cmd.Stderr = io.stderr
	}
	if err := e.run(cmd); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(pidFile.Name())
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("runtime %s: its pid file holds %q: %w", e.start.Runtime, data, err)
	}
	if console != nil {
		return pid, console.forward(io.console)
	}
	return pid, nil
}

// consoleSocket receives a terminal's master from a runtime.
type consoleSocket struct {
	name     string // relative to the bundle
	path     string
	listener *net.UnixListener
	dir      *os.File
}

const consoleTimeout = 5 * time.Second

func listenConsole(bundle string) (*consoleSocket, error) {
	dir, err := os.Open(bundle)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(bundle, "tty-")
	if err != nil {
		dir.Close()
		return nil, err
	}
	f.Close()
	os.Remove(f.Name())
	c := &consoleSocket{name: filepath.Base(f.Name()), path: f.Name(), dir: dir}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), c.name)
	if c.listener, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: short}); err != nil {
		dir.Close()
		return nil, err
	}
	c.listener.SetUnlinkOnClose(false)
	return c, nil
}

func (c *consoleSocket) close() {
	c.listener.Close()
	c.dir.Close()
	os.Remove(c.path)
}

// forward passes the master on to where libcontainer's would come.
func (c *consoleSocket) forward(to *os.File) error {
	if err := c.listener.SetDeadline(time.Now().Add(consoleTimeout)); err != nil {
		return err
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return fmt.Errorf("terminal of the container: the runtime did not connect: %w", err)
	}
	defer conn.Close()
	socket, err := conn.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	master, err := receiveMaster(socket)
	if err != nil {
		return err
	}
	defer master.Close()
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.Sendmsg(int(to.Fd()), []byte("tty"), unix.UnixRights(int(fd)), nil, 0)
	})
	return errors.Join(err, inner)
}

func (e *external) release() error {
	if e.start.Restore != "" {
		return nil
	}
	if err := e.run(e.command("start", e.start.ID)); err != nil {
		return e.named(startError(nil, "", err))
	}
	return nil
}

// named says whose error it is: another runtime's words may mean something to its users alone.
func (e *external) named(err error) error {
	return fmt.Errorf("runtime %s: %w", e.start.Runtime, err)
}

func (e *external) processes() ([]int, error) {
	seen := map[int]bool{}
	var pids []int
	for _, dir := range e.cgroups {
		for _, pid := range processesBelow(dir) {
			if !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

func (e *external) pause() error  { return e.run(e.command("pause", e.start.ID)) }
func (e *external) resume() error { return e.run(e.command("resume", e.start.ID)) }

func (e *external) paused() (bool, error) {
	out, err := e.command("state", e.start.ID).Output()
	if err != nil {
		return false, fmt.Errorf("runtime %s: state of %s: %w", e.start.Runtime, e.start.ID, err)
	}
	var state struct{ Status string }
	err = json.Unmarshal(out, &state)
	return state.Status == "paused", err
}

func (e *external) update(r *specs.LinuxResources) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	cmd := e.command("update", "--resources", "/proc/self/fd/0", e.start.ID) // not "-": crun opens /dev/stdin for that, which a bare /dev has not
	cmd.Stdin = bytes.NewReader(data)
	if err := e.run(cmd); err != nil {
		return fmt.Errorf("container %s: new limits: %w: %w", e.start.ID, plain(err), errdefs.ErrInvalidArgument)
	}
	return nil
}

func (e *external) checkpoint(r wire.Checkpoint) error {
	work, err := criuWork(r.WorkPath, e.start.Dir)
	if err != nil {
		return err
	}
	args := []string{"checkpoint", "--image-path", r.Path, "--work-path", work}
	for flag, on := range map[string]bool{
		"--leave-running": r.LeaveRunning, "--tcp-established": r.TCPEstablished, "--file-locks": r.FileLocks, "--shell-job": e.start.Stdio.Terminal,
	} {
		if on {
			args = append(args, flag)
		}
	}
	if err := e.run(e.command(append(args, e.start.ID)...)); err != nil {
		return fmt.Errorf("checkpoint of container %s: %w: see dump.log in %s: %w", e.start.ID, plain(err), work, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (e *external) destroy() error {
	if _, err := os.Stat(filepath.Join(e.start.Dir, "state", e.start.ID)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return e.run(e.command("delete", "--force", e.start.ID))
}
