package testenv

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StargzSnapshotter is upstream's snapshotter for lazy pulling, as a process of its own.
type StargzSnapshotter struct {
	Socket, Root string

	t       testing.TB
	process *os.Process
	done    chan struct{}
}

// stargzProgram is what "make stargz" builds.
func stargzProgram(t testing.TB) string {
	t.Helper()
	path := filepath.Join(Repository(t), ".cache/stargz/stargz")
	if !executable(path) {
		t.Skip("needs upstream's stargz snapshotter, which is not built (make stargz)")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs FUSE: " + err.Error())
	}
	return path
}

// Stargz starts the snapshotter. It ends with the test, and must then have no mounts.
func Stargz(t testing.TB) *StargzSnapshotter {
	t.Helper()
	Root(t)
	stargzProgram(t)
	dir := Dir(t)
	s := &StargzSnapshotter{Socket: filepath.Join(dir, "stargz.sock"), Root: filepath.Join(dir, "stargz"), t: t}
	t.Cleanup(s.unmount)
	Leftovers(t, s.Root)
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts it, also after a Kill.
func (s *StargzSnapshotter) Start() {
	s.t.Helper()
	log, err := os.OpenFile(s.Root+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(stargzProgram(s.t), "serve", s.Root, s.Socket)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its end is what is waited for, not how
		close(done)
	}()
	s.process, s.done = cmd.Process, done
	if !poll(20*time.Second, func() bool {
		conn, err := net.Dial("unix", s.Socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		s.t.Fatalf("stargz does not listen:\n%s", s.Log())
	}
}

// Kill ends it without a warning.
func (s *StargzSnapshotter) Kill() {
	_ = s.process.Kill() // it may have ended
	<-s.done
}

// unmount takes away the mounts that a failed test has left, which nobody serves any more.
func (s *StargzSnapshotter) unmount() {
	for item := range look() {
		if at, ok := strings.CutPrefix(item, "mount "); ok && strings.HasPrefix(at, s.Root) {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				s.t.Errorf("unmount %s: %v", at, err)
			}
		}
	}
}

// Log is what it has written so far.
func (s *StargzSnapshotter) Log() string {
	data, err := os.ReadFile(s.Root + ".log")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// StargzLayer makes an eStargz layer of a tar file.
func StargzLayer(t testing.TB, tar, blob string) (diffID, tocDigest string) {
	t.Helper()
	out := strings.Fields(Run(t, stargzProgram(t), "build", tar, blob))
	if len(out) != 2 {
		t.Fatalf("stargz build printed %q", out)
	}
	return out[0], out[1]
}
