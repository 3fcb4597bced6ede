package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupsOf are the directories of a process's cgroups by controller ("" for cgroup v2), without those that it shares
// with this process: nothing is to be killed or removed there.
func cgroupsOf(pid int) map[string]string {
	theirs, own := parseCgroups(pid), parseCgroups(os.Getpid())
	dirs := map[string]string{}
	for controller, path := range theirs {
		mine := own[controller]
		if path == "/" || path == mine || strings.HasPrefix(mine, path+"/") {
			continue
		}
		root := filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(controller, "name="))
		if controller == "" {
			root = unifiedRoot()
		}
		if dir := filepath.Join(root, path); isDir(dir) {
			dirs[strings.TrimPrefix(controller, "name=")] = dir
		}
	}
	return dirs
}

// unifiedRoot is where cgroup v2 is mounted: alone, or beside v1 as systemd does.
func unifiedRoot() string {
	if isDir("/sys/fs/cgroup/unified") {
		return "/sys/fs/cgroup/unified"
	}
	return "/sys/fs/cgroup"
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func parseCgroups(pid int) map[string]string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 {
			for _, controller := range strings.Split(parts[1], ",") {
				paths[controller] = parts[2]
			}
		}
	}
	return paths
}

// processesBelow lists the processes of a cgroup and those below it.
func processesBelow(dir string) []int {
	var pids []int
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" {
			if data, err := os.ReadFile(p); err == nil {
				pids = append(pids, parsePIDs(string(data))...)
			}
		}
		return nil // groups vanish while we look
	})
	if err != nil {
		return nil
	}
	return pids
}

// parsePIDs reads a cgroup.procs file.
func parsePIDs(text string) []int {
	var pids []int
	for _, field := range strings.Fields(text) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeCgroup kills the processes of a cgroup and those below it and removes them all, the deepest first. A frozen one
// is thawed: its processes die only then (cgroup v1). A cgroup that holds this process is refused: it cannot be a
// container's.
func removeCgroup(path string) error {
	if !isDir(path) {
		return nil
	}
	for _, pid := range processesBelow(path) {
		if pid == os.Getpid() {
			return fmt.Errorf("cgroup %s holds this supervisor: it is not removed", path)
		}
	}
	var last error
	for deadline := time.Now().Add(killPatience); time.Now().Before(deadline); time.Sleep(killPause) {
		if last = tryRemoveCgroup(path); last == nil {
			return nil
		}
	}
	return fmt.Errorf("cgroup %s: %w", path, last)
}

func tryRemoveCgroup(path string) error {
	var dirs []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil // files and groups vanish while we look
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := unix.Rmdir(dirs[i]); err == nil || errors.Is(err, unix.ENOENT) {
			continue
		}
		killCgroup(dirs[i])
		if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func killCgroup(path string) {
	data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, pid := range parsePIDs(string(data)) {
		_ = unix.Kill(pid, unix.SIGKILL) // gone already, or tried again
	}
	for file, thawed := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		file = filepath.Join(path, file)
		if _, err := os.Stat(file); err == nil {
			_ = os.WriteFile(file, []byte(thawed), 0) // tried again
		}
	}
}
