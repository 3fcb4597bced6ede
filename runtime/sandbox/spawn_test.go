package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlowSupervisor: one that has the lock and does not serve yet is waited for; no other can take its place.
func TestSlowSupervisor(t *testing.T) {
	w := newWorld(t, ScopeNode)
	dir := filepath.Join(w.dir, "supervisor", nodeGroup)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	slow := exec.Command(common.binary, "serve", "--dir", dir)
	begun := time.AfterFunc(time.Second, func() { // the second half of a slow start
		lock.Close()
		if err := slow.Start(); err != nil {
			t.Error(err)
		}
	})
	defer begun.Stop()
	c, err := w.boxes.groupNamed(nodeGroup).connected(t.Context())
	if err != nil {
		t.Fatalf("it is not waited for: %v", err)
	}
	if pid := w.boxes.groupNamed(nodeGroup).hello().PID; slow.Process == nil || pid != slow.Process.Pid {
		t.Errorf("connected to %d", pid)
	}
	c.Close()
	if err := slow.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = slow.Wait() // killed
}
