package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// checkpoint writes an image of a container with criu. Without LeaveRunning the container ends, and its exit is told
// as any other.
func (s *Supervisor) checkpoint(r wire.Checkpoint) error {
	c, _, err := s.running(containerKey(r.Process))
	if err != nil {
		return err
	}
	if r.Path == "" {
		return fmt.Errorf("checkpoint of %s: no directory is named: %w", name(c.key), errdefs.ErrInvalidArgument)
	}
	if err := hasCRIU("checkpoint"); err != nil {
		return err
	}
	return c.rt.checkpoint(r)
}

func hasCRIU(what string) error {
	if _, err := exec.LookPath("criu"); err != nil {
		return fmt.Errorf("%s: criu is not in the supervisor's PATH: install it: %w", what, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (n *native) checkpoint(r wire.Checkpoint) error {
	if err := n.recordPlain(); err != nil {
		return fmt.Errorf("checkpoint of container %s: %w", n.start.ID, err)
	}
	ctr, err := n.container()
	if err != nil {
		return err
	}
	work, err := criuWork(r.WorkPath, n.start.Dir)
	if err != nil {
		return err
	}
	state, err := ctr.State()
	if err == nil {
		err = n.leaveStreams(state.InitProcessPid, r.Path)
	}
	if err != nil {
		return fmt.Errorf("checkpoint of container %s: %w", n.start.ID, plain(err))
	}
	err = ctr.Checkpoint(&libcontainer.CriuOpts{
		ImagesDirectory: r.Path, WorkDirectory: work, LeaveRunning: r.LeaveRunning, TcpEstablished: r.TCPEstablished,
		FileLocks: r.FileLocks, ShellJob: n.start.Stdio.Terminal, EmptyNs: unix.CLONE_NEWNET,
	})
	if err != nil {
		return fmt.Errorf("checkpoint of container %s: %w: %s: %w", n.start.ID, plain(err), criuSays(work, "dump.log"), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// restore makes the first process from a checkpoint; it runs at once.
func (n *native) restore(ctr *libcontainer.Container, p *libcontainer.Process) error {
	if err := hasCRIU("restore"); err != nil {
		return err
	}
	work, err := criuWork("", n.start.Dir)
	if err != nil {
		return err
	}
	done, err := n.takeStreams(n.start.Restore)
	if err != nil {
		return fmt.Errorf("restore from %s: %w", n.start.Restore, err)
	}
	defer done()
	err = ctr.Restore(p, &libcontainer.CriuOpts{
		ImagesDirectory: n.start.Restore, WorkDirectory: work, TcpEstablished: n.start.TCPEstablished,
		ShellJob: n.start.Stdio.Terminal, EmptyNs: unix.CLONE_NEWNET,
	})
	if err != nil {
		return fmt.Errorf("restore from %s: %w: %s: %w", n.start.Restore, plain(err), criuSays(work, "restore.log"), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// criuWork is the directory of criu's logs.
func criuWork(wish, bundle string) (string, error) {
	if wish == "" {
		wish = filepath.Join(bundle, "criu")
	}
	return wish, os.MkdirAll(wish, 0o700)
}

// criuSays is the mistake that criu's log tells, and where the log is.
func criuSays(work, log string) string {
	name := filepath.Join(work, log)
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Sprintf("there is no %s: %v", name, err)
	}
	return mistake(string(data)) + "see " + name
}

// mistake finds the last line like "(00.38) Error (criu/net.c:3071): Locking network failed: …", and keeps what it says.
// Before it are things that criu only tries, after it that a program ended so and that all has failed.
func mistake(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		_, rest, found := strings.Cut(line, "Error (")
		_, said, ok := strings.Cut(strings.TrimSpace(rest), "): ")
		consequence := strings.HasPrefix(said, "exited, status=") || strings.HasSuffix(said, "FAILED.") || strings.HasSuffix(said, "failed with -1")
		if found && ok && !consequence {
			last = said + ": "
		}
	}
	return last
}
