package supervisor

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestZombieStatus: the exit of a process that nobody has reaped yet is known.
func TestZombieStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 7": 7, "kill -9 $$": 137} {
		cmd := exec.Command("sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		before, err := readStat(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		status, err := zombieStatus(pid, before.startTime, errNotReaped)
		if err != nil || exitOf(status).Code != want {
			t.Errorf("%s: %+v, %v, want code %d", script, exitOf(status), err, want)
		}
		if _, err := zombieStatus(pid, before.startTime+1, errNotReaped); err != errNotReaped {
			t.Errorf("%s: another process's status is taken: %v", script, err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: it succeeded", script)
		}
		if _, err := zombieStatus(pid, before.startTime, errNotReaped); err != errNotReaped {
			t.Errorf("%s: a process that is gone has a status: %v", script, err)
		}
	}
}
