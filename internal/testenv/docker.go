package testenv

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dockerd is Debian's Docker daemon in directories of its own.
type Dockerd struct {
	Host    string // its socket, as docker's --host takes it
	Program string // the docker command of the same package
	PID     int

	t testing.TB
}

// StartDocker starts a Docker daemon with these flags, and ends it with the test. The test is skipped where there is none.
func StartDocker(t testing.TB, flags ...string) *Dockerd {
	t.Helper()
	Root(t)
	Need(t, "dockerd", "docker")
	dir := Dir(t)
	d := &Dockerd{Host: "unix://" + filepath.Join(dir, "docker.sock"), Program: "/usr/bin/docker", t: t}
	if !executable(d.Program) {
		d.Program = "docker"
	}
	var log bytes.Buffer
	cmd := exec.Command("dockerd", append([]string{"--host", d.Host, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid")}, flags...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("dockerd does not start: %v", err)
	}
	d.PID = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		// dockerd makes its data a mount of its own where the one above is private, and leaves it.
		for _, left := range []string{"data", "exec/netns/default"} { // the second is there when it has had networks
			err := unix.Unmount(filepath.Join(dir, left), unix.MNT_DETACH)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: it is none
				t.Errorf("unmount what dockerd has left: %v", err)
			}
		}
	})
	Eventually(t, 60*time.Second, "dockerd answers", func() bool {
		select {
		case <-ended:
			t.Skipf("dockerd ended at its start: %s", log.String())
		default:
		}
		return exec.CommandContext(t.Context(), d.Program, "--host", d.Host, "version").Run() == nil
	})
	return d
}

// Try runs docker.
func (d *Dockerd) Try(args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), d.Program, append([]string{"--host", d.Host}, args...)...).CombinedOutput()
	return string(out), err
}

// Docker runs docker and returns what it printed; the test fails unless it exits with 0.
func (d *Dockerd) Docker(args ...string) string {
	d.t.Helper()
	out, err := d.Try(args...)
	if err != nil {
		d.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
