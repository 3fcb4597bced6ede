package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// spawn starts a supervisor for the group and waits until it answers. It is in a session of its own and outlives this
// process: no signal of ours reaches it, and it dies of none of ours.
func (g *group) spawn(ctx context.Context) error {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.dir, "group"), []byte(g.name), 0o600); err != nil {
		return err
	}
	binary, err := g.s.sealed()
	if err != nil {
		return err
	}
	log, err := openLog(filepath.Join(g.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// By our number, because the child's descriptors are shuffled before it executes.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), binary.Fd())
	cmd := exec.Command(path, "serve", "--dir", g.dir, "--ready-fd", "3")
	if g.s.Debug {
		cmd.Args = append(cmd.Args, "--debug")
	}
	cmd.Args[0] = "minid-supervisor"
	cmd.Env = environment(os.Environ())
	cmd.Stderr, cmd.ExtraFiles = log, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("supervisor %s: %s: %w", g.name, g.s.Binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the supervisor, which may outlive everything here
	return g.awaitReady(ctx, r, ended)
}

// awaitReady reads the pipe that the supervisor closes when its socket is there.
func (g *group) awaitReady(ctx context.Context, r *os.File, ended <-chan error) error {
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	said, err := io.ReadAll(r)
	if text := strings.TrimSpace(string(said)); text != "" {
		return fmt.Errorf("supervisor %s: %s: %w", g.name, text, errdefs.ErrUnavailable)
	}
	if err != nil {
		return fmt.Errorf("supervisor %s: it did not begin to serve: %w", g.name, errors.Join(ctx.Err(), err))
	}
	select {
	case err := <-ended:
		return fmt.Errorf("supervisor %s: it ended at once (%w): see %s: %w", g.name, err, filepath.Join(g.dir, "log"), errdefs.ErrUnavailable)
	default:
		return nil
	}
}

// maxLog is the size in bytes above which a supervisor's own log begins anew with the next supervisor.
const maxLog = 1 << 20

func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// environment is what a supervisor needs of ours: hooks and criu are found by PATH.
func environment(all []string) []string {
	var env []string
	for _, e := range all {
		switch key, _, _ := strings.Cut(e, "="); key {
		case "PATH", "HOME", "LANG", "GORACE", "TMPDIR", "GOTRACEBACK", "GOCOVERDIR", "MINI_FAILPOINT":
			env = append(env, e)
		}
	}
	return env
}

// sealed is the supervisor's binary in a sealed memory file. From one, libcontainer need not copy the binary at each
// start to keep a container from overwriting it (CVE-2019-5736). It is made again when the file has changed.
func (s *Sandboxes) sealed() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := os.Stat(s.Binary)
	if err != nil {
		return nil, fmt.Errorf("supervisor's binary: %w: install it or set its path: %w", err, errdefs.ErrFailedPrecondition)
	}
	if s.binary != nil && s.stat.ModTime().Equal(st.ModTime()) && s.stat.Size() == st.Size() {
		return s.binary, nil
	}
	f, err := seal(s.Binary)
	if err != nil {
		return nil, fmt.Errorf("supervisor's binary %s: %w", s.Binary, err)
	}
	if s.binary != nil {
		s.binary.Close()
	}
	s.binary, s.stat = f, st
	return f, nil
}

// seal copies an executable into a memory file that nobody can change any more (memfd_create(2), fcntl(2) F_ADD_SEALS).
func seal(path string) (_ *os.File, err error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	fd, err := unix.MemfdCreate("minid-supervisor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 there is no MFD_EXEC: all are executable
		fd, err = unix.MemfdCreate("minid-supervisor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	to := os.NewFile(uintptr(fd), path)
	defer func() {
		if err != nil {
			to.Close()
		}
	}()
	if _, err := io.Copy(to, from); err != nil {
		return nil, err
	}
	if err := to.Chmod(0o511); err != nil {
		return nil, err
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return to, nil
}
