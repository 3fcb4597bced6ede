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

// LazySnapshotter is one for lazy pulling, upstream's, as a process of its own.
type LazySnapshotter struct {
	Socket, Root string

	program string

	t       testing.TB
	process *os.Process
	done    chan struct{}
}

// lazyProgram is what "make stargz" or "make soci" builds.
func lazyProgram(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Repository(t), ".cache", name, name)
	if !executable(path) {
		t.Skipf("needs upstream's %s snapshotter, which is not built (make %s)", name, name)
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs FUSE: " + err.Error())
	}
	return path
}

// Lazy starts a snapshotter, stargz or soci. It ends with the test, and must then have no mounts.
func Lazy(t testing.TB, name string) *LazySnapshotter {
	t.Helper()
	Root(t)
	dir := Dir(t)
	s := &LazySnapshotter{Socket: filepath.Join(dir, name+".sock"), Root: filepath.Join(dir, name), program: lazyProgram(t, name), t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, s.Log())
		}
	})
	t.Cleanup(s.unmount)
	Leftovers(t, s.Root)
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts it, also after a Kill.
func (s *LazySnapshotter) Start() {
	s.t.Helper()
	log, err := os.OpenFile(s.Root+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.program, "serve", s.Root, s.Socket)
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
		s.t.Fatalf("%s does not listen:\n%s", s.program, s.Log())
	}
}

// Kill ends it without a warning.
func (s *LazySnapshotter) Kill() {
	_ = s.process.Kill() // it may have ended
	<-s.done
}

// unmount takes away the mounts that a failed test has left, which nobody serves any more.
func (s *LazySnapshotter) unmount() {
	for item := range look() {
		if at, ok := strings.CutPrefix(item, "mount "); ok && strings.HasPrefix(at, s.Root) {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				s.t.Errorf("unmount %s: %v", at, err)
			}
		}
	}
}

// Log is what it has written so far.
func (s *LazySnapshotter) Log() string {
	data, err := os.ReadFile(s.Root + ".log")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// StargzLayer makes an eStargz layer of a tar file.
func StargzLayer(t testing.TB, tar, blob string) (diffID, tocDigest string) {
	t.Helper()
	out := strings.Fields(Run(t, lazyProgram(t, "stargz"), "build", tar, blob))
	if len(out) != 2 {
		t.Fatalf("stargz build printed %q", out)
	}
	return out[0], out[1]
}

// SociIndex makes SOCI's index of an image in an OCI layout, and returns its digest and the directory of its blobs.
func SociIndex(t testing.TB, layout, manifest string) (index, blobs string) {
	t.Helper()
	dir := Dir(t)
	out := strings.Fields(Run(t, lazyProgram(t, "soci"), "index", layout, manifest, dir)) // the library tells of the layers before
	if len(out) == 0 {
		t.Fatal("soci index printed nothing")
	}
	return out[len(out)-1], filepath.Join(dir, "content/blobs/sha256")
}
