package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Paths returns the directories of a process's groups by controller, as libcontainer names them: "memory", "cpu", … for
// v1, "name=systemd" for a named hierarchy, and "" for the unified one. Errors: ErrNotFound when the process is gone.
func Paths(pid int) (map[string]string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoProcess) {
		return nil, fmt.Errorf("cgroups of process %d: it doesn't exist: %w", pid, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("cgroups of process %d: %w", pid, err)
	}
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return mounts.resolve(parseProcCgroup(data)), nil
}

// parseProcCgroup reads /proc/PID/cgroup (cgroups(7)): "id:controller,controller:/path" a line. The result maps each
// controller to its path in the hierarchy.
func parseProcCgroup(data []byte) map[string]string {
	groups := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		// The path may have colons itself: only the first two divide.
		id, rest, ok1 := strings.Cut(strings.TrimRight(line, "\n"), ":")
		names, group, ok2 := strings.Cut(rest, ":")
		if !ok1 || !ok2 || !strings.HasPrefix(group, "/") {
			continue
		}
		if _, err := strconv.Atoi(id); err != nil {
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			groups[name] = strings.TrimSuffix(group, " (deleted)")
		}
	}
	return groups
}

// hierarchyMount is one mounted hierarchy: root is the group that shows at dir.
type hierarchyMount struct{ root, dir string }

// mountTable is where the hierarchies are, by controller; unified is the v2 one.
type mountTable struct {
	controllers map[string]hierarchyMount
	unified     []hierarchyMount
}

// readMounts finds the hierarchies in a mountinfo file.
func readMounts(file string) (mountTable, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return mountTable{}, fmt.Errorf("cgroup mounts: %w", err)
	}
	return parseMountInfo(data), nil
}

// parseMountInfo reads proc_pid_mountinfo(5): "id parent dev root mountpoint options optional… - type source super".
func parseMountInfo(data []byte) mountTable {
	t := mountTable{controllers: make(map[string]hierarchyMount)}
	for line := range bytes.Lines(data) {
		if !bytes.Contains(line, []byte(" - cgroup")) {
			continue
		}
		left, right, _ := strings.Cut(string(line), " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if len(f) < 6 || len(g) < 3 {
			continue
		}
		m := hierarchyMount{root: unescape(f[3]), dir: unescape(f[4])}
		switch g[0] {
		case "cgroup2":
			t.unified = append(t.unified, m)
		case "cgroup":
			for option := range strings.SplitSeq(g[2], ",") {
				if _, have := t.controllers[option]; !have { // the first mount is the host's; later ones are containers'
					t.controllers[option] = m
				}
			}
		}
	}
	return t
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// resolve turns paths in hierarchies into directories. A group outside of what is mounted (another cgroup namespace)
// has none.
func (t mountTable) resolve(groups map[string]string) map[string]string {
	dirs := make(map[string]string, len(groups))
	for name, group := range groups {
		m, ok := t.controllers[name]
		if name == "" {
			if ok = len(t.unified) > 0; ok {
				m = t.unified[0]
			}
		}
		if !ok {
			continue
		}
		if rest, inside := below(m.root, group); inside {
			dirs[name] = path.Join(m.dir, rest)
		}
	}
	return dirs
}

// below cuts root off group.
func below(root, group string) (string, bool) {
	if root == "/" || group == root {
		return strings.TrimPrefix(group, strings.TrimSuffix(root, "/")), !escapes(group)
	}
	rest, ok := strings.CutPrefix(group, root+"/")
	return rest, ok && !escapes(rest)
}

// v1Controllers is every controller that a v1 hierarchy can have; other words in the options of a mount are flags.
func v1Controllers() []string {
	return []string{"cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "perf_event", "net_prio", "hugetlb", "pids", "rdma", "misc"}
}

// names lists the v1 controllers that are mounted.
func (t mountTable) names() []string {
	names := make([]string, 0, len(t.controllers))
	for _, c := range v1Controllers() {
		if _, ok := t.controllers[c]; ok {
			names = append(names, c)
		}
	}
	return names
}
