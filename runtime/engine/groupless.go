package engine

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
)

// grouped refuses what only control groups can do, where this daemon may not make any.
func (e *Engine) grouped(verb, id string) error {
	if e.Config.CgroupDriver != string(cgroup.None) {
		return nil
	}
	return fmt.Errorf("%s container %s: the daemon may not make control groups here (cgroup driver none): %w", verb, id, errdefs.ErrFailedPrecondition)
}

// processesOf are the processes of a container: those of its groups, or its first one and those that were executed in it
// with all that they have begotten.
func (e *Engine) processesOf(l *live) ([]int, error) {
	if e.Config.CgroupDriver != string(cgroup.None) {
		return cgroup.Procs(l.record().CgroupPaths)
	}
	var first []int
	l.mu.Lock()
	for _, p := range l.procs {
		first = append(first, p.info(false).PID)
	}
	l.mu.Unlock()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat"); err == nil { // else it has ended
			parents[pid] = parentOf(string(stat))
		}
	}
	return family(parents, first...), nil
}

// parentOf reads a process's parent of /proc/PID/stat, field 4 (proc(5)); the name before it may have blanks and brackets.
func parentOf(stat string) int {
	_, rest, _ := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// family are the processes that live of the first ones, with all that descend from them, in the order of their numbers.
func family(parents map[int]int, first ...int) []int {
	children := map[int][]int{}
	for pid, parent := range parents {
		children[parent] = append(children[parent], pid)
	}
	all := slices.DeleteFunc(first, func(pid int) bool { _, lives := parents[pid]; return !lives })
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
