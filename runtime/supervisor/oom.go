package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomKills reads how many processes of a cgroup the kernel has killed for want of memory: oom_kill of
// memory.oom_control on cgroup v1 (Linux 4.13), of memory.events on v2. It is read when a process ends, instead of
// being watched, which would cost a descriptor and a goroutine for each container.
func oomKills(cgroups map[string]string) uint64 {
	path := ""
	if dir := cgroups["memory"]; dir != "" {
		path = filepath.Join(dir, "memory.oom_control")
	} else if dir := cgroups[""]; dir != "" {
		path = filepath.Join(dir, "memory.events")
	}
	if path == "" {
		return 0
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0 // the cgroup is gone, or has no memory controller
	}
	return parseOOMKills(string(data))
}

func parseOOMKills(text string) uint64 {
	for line := range strings.Lines(text) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, err := strconv.ParseUint(count, 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
