package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// How long Kill and Remove go on, and the first and longest pause between two looks. The kernel has no event for
// "the last process left" that both v1 and v2 give.
const (
	patience   = 5 * time.Second
	firstPause = time.Millisecond
	longPause  = 50 * time.Millisecond
)

// errNoProcess is what reading a file of /proc/PID answers when the process ends meanwhile.
const errNoProcess = unix.ESRCH

// Procs lists the processes in groups and all groups below them, sorted, each once. Groups that are gone have none; one
// that cannot be read is an error.
func Procs(paths map[string]string) ([]int, error) {
	var pids []int
	var errs []error
	seen := make(map[string]bool, len(paths))
	for _, dir := range paths {
		if dir == "" || seen[dir] {
			continue
		}
		seen[dir] = true
		walk(dir, func(group string) {
			data, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if err != nil && !gone(err) {
				errs = append(errs, err)
			}
			pids = append(pids, parsePIDs(data)...)
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids), errors.Join(errs...)
}

// gone tells that a group was removed while it was read (ENODEV), that a v2 group is threaded and its processes are
// listed by the one above (EOPNOTSUPP), or that there never was one.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP)
}

// parsePIDs reads numbers one a line. 0, a process of another PID namespace, is left out.
func parsePIDs(data []byte) []int {
	var pids []int
	for line := range bytes.Lines(data) {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && n > 0 {
			pids = append(pids, n)
		}
	}
	return pids
}

// walk visits a group and those below it, children first.
func walk(dir string, visit func(string)) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			walk(filepath.Join(dir, e.Name()), visit)
		}
	}
	visit(dir)
}

// Kill kills every process in groups and waits until none is left, for at most 5 s. On v2 the kernel does it at once
// (cgroup.kill, Linux 5.14); on v1 the group is frozen first, so that a fork bomb cannot outrun the signals, and thawed
// so that they are delivered. Errors: ErrFailedPrecondition when this process is in one of them (a root group, most
// likely); ErrUnavailable when processes remain, for example in an uninterruptible wait.
func Kill(paths map[string]string) error {
	left, err := Procs(paths)
	if err != nil {
		return err
	}
	if slices.Contains(left, os.Getpid()) {
		return fmt.Errorf("cgroup %s: this process itself is in it: %w", anyOf(paths), errdefs.ErrFailedPrecondition)
	}
	if len(left) == 0 {
		return nil
	}
	done := until(func() bool {
		if !killAtOnce(paths) {
			killFrozen(paths)
		}
		left, err = Procs(paths)
		return err != nil || len(left) == 0
	})
	if err == nil && !done {
		err = fmt.Errorf("cgroup %s: processes %v don't die, probably waiting for a device or a network filesystem: %w", anyOf(paths), left, errdefs.ErrUnavailable)
	}
	return err
}

// killAtOnce uses cgroup.kill where the unified hierarchy is the only one: in a hybrid layout a process may be in a v1
// group and not in the v2 one.
func killAtOnce(paths map[string]string) bool {
	dir := paths[""]
	if dir == "" || len(paths) > 1 {
		return false
	}
	return put(dir, "cgroup.kill", "1") == nil
}

// killFrozen freezes, signals and thaws.
func killFrozen(paths map[string]string) {
	freeze(paths, true)
	pids, _ := Procs(paths) // the caller looks again and sees the error
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL) // gone already: that is what was wanted
	}
	freeze(paths, false)
}

// freeze stops or continues a group where it can be; a group without a freezer is killed in the open, by repetition.
func freeze(paths map[string]string, on bool) {
	if dir := paths["freezer"]; dir != "" {
		state := "THAWED"
		if on {
			state = "FROZEN"
		}
		_ = put(dir, "freezer.state", state)
		return
	}
	if dir := paths[""]; dir != "" {
		state := "0"
		if on {
			state = "1"
		}
		_ = put(dir, "cgroup.freeze", state)
	}
}

// put writes to a file of a group that is there already.
func put(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Remove removes a group and all below it. A group that isn't there is removed. It tries again for 5 s while the kernel
// answers EBUSY: the last process may have exited and not left yet. Errors: ErrFailedPrecondition while there are
// processes, and for a path that is not below a cgroup mount.
func Remove(path string) error {
	path = filepath.Clean(path)
	if !strings.HasPrefix(path, Root+"/") {
		return fmt.Errorf("cgroup %s isn't below %s: %w", path, Root, errdefs.ErrFailedPrecondition)
	}
	var err error
	until(func() bool {
		err = removeTree(path)
		return !errors.Is(err, unix.EBUSY)
	})
	if errors.Is(err, unix.EBUSY) {
		pids, _ := Procs(map[string]string{"": path}) // only to say more
		return fmt.Errorf("cgroup %s still has processes %v: kill them first: %w", path, pids, errdefs.ErrFailedPrecondition)
	}
	return err
}

// RemoveEmpty removes, in every hierarchy, the group of this path below the root and those below it, as far as there is
// no process in them. It is for the groups above those of containers, which the kernel does not remove with the last one.
func RemoveEmpty(path string) {
	if path = strings.Trim(filepath.Clean(path), "/"); path == "" || path == "." || escapes(path) {
		return
	}
	dirs, _ := filepath.Glob(filepath.Join(Root, "*")) // the pattern is well formed
	for _, root := range append(dirs, Root) {
		walk(filepath.Join(root, path), func(group string) { _ = rmdir(group) }) // it has processes
	}
}

// removeTree removes children first; the files in a group go with it.
func removeTree(dir string) error {
	err := rmdir(dir)
	if err == nil || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	var errs []error
	walk(dir, func(group string) {
		if e := rmdir(group); e != nil {
			errs = append(errs, e)
		}
	})
	return errors.Join(errs...)
}

func rmdir(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
}

// until repeats a step with growing pauses until it answers true or patience ends.
func until(step func() bool) bool {
	deadline := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		if step() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

func anyOf(paths map[string]string) string {
	longest := ""
	for _, p := range paths {
		if len(p) > len(longest) || (len(p) == len(longest) && p < longest) {
			longest = p
		}
	}
	return longest
}
