package store

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHolder names the process that holds the flock(2) lock on path, from /proc/locks (proc(5)), whose lines are
// "1: FLOCK  ADVISORY  WRITE 708 fe:00:13568 0 EOF" with the PID and the file's device and inode.
func lockHolder(path string) string {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return unknown
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return unknown
	}
	defer f.Close()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) < 6 || w[1] != "FLOCK" || w[5] != file {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		if err != nil || pid <= 0 { // of another PID namespace
			return unknown
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
	}
	return unknown
}
