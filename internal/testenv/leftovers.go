package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// strictEnv makes leftovers of any name a failure: for a machine on which nothing else runs.
const strictEnv = "MINI_STRICT_LEFTOVERS"

// snapshot is what of the host a test could leave something in: each thing by a line that names it.
type snapshot map[string]bool

// Leftovers looks at the host now, and again when the test has ended: what has any of the marks in its name and was not
// there before is left over. Mounts (pinned namespaces are such), cgroups, links, tables of nftables, and the processes in such
// cgroups are looked at; links and tables are those of the calling goroutine's network namespace. Daemon does this by itself.
func Leftovers(t testing.TB, marks ...string) {
	t.Helper()
	before := look()
	t.Cleanup(func() { before.compare(t, marks...) })
}

// linkMarks are in the names of a daemon's links, which have no room for its own (runtime/network/bridge/names.go).
func linkMarks(daemon string) []string {
	sum := sha256.Sum256([]byte(daemon))
	mark := hex.EncodeToString(sum[:2])
	return []string{"link mv" + mark, "link mi" + mark, "-" + mark}
}

func look() snapshot {
	s := snapshot{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 4 {
				s["mount "+fields[4]] = true
			}
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			s["cgroup "+name] = true
		}
		return nil // a group that goes meanwhile is no error
	})
	links, err := net.Interfaces()
	if err == nil {
		for _, l := range links {
			s["link "+l.Name] = true
		}
	}
	if tables, err := exec.Command("nft", "list", "tables").Output(); err == nil { // without nft there is no rule of ours either
		for line := range strings.Lines(string(tables)) {
			s[strings.TrimSpace(line)] = true
		}
	}
	for _, p := range readProcesses() {
		s[fmt.Sprintf("process %d %s cgroup %s", p.pid, strings.Join(p.args, " "), p.cgroup)] = true
	}
	return s
}

// compare fails the test for what is new and has a mark in its name; it waits a little for what is just going.
func (s snapshot) compare(t testing.TB, marks ...string) {
	t.Helper()
	var left []string
	if poll(5*time.Second, func() bool {
		left = s.added(look(), marks)
		return len(left) == 0
	}) {
		return
	}
	t.Errorf("left over:\n  %s", strings.Join(left, "\n  "))
	sweep(left)
}

// sweep takes away what it can of the leftovers it has reported, so that one test's are not the next one's.
func sweep(left []string) {
	for _, item := range slices.Backward(left) { // what is below comes first
		if dir, ok := strings.CutPrefix(item, "cgroup "); ok {
			_ = os.Remove(dir) // refused while there are processes in it
		}
	}
}

func (s snapshot) added(now snapshot, marks []string) []string {
	strict := os.Getenv(strictEnv) != ""
	var left []string
	for _, item := range slices.Sorted(maps.Keys(now)) {
		if s[item] {
			continue
		}
		ours := slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(item, mark) })
		if ours || strict && !strings.HasPrefix(item, "process ") {
			left = append(left, item)
		}
	}
	return left
}

// process is what /proc tells of one.
type process struct {
	pid    int
	exe    string
	args   []string
	cgroup string
}

// readProcesses lists the processes that have a program; the kernel's own have none.
func readProcesses() []process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var all []process
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return "" // it ended meanwhile
			}
			return string(data)
		}
		all = append(all, process{
			pid: pid, exe: strings.TrimSuffix(exe, " (deleted)"), args: strings.Split(read("cmdline"), "\x00"),
			cgroup: strings.ReplaceAll(strings.TrimSpace(read("cgroup")), "\n", " "),
		})
	}
	return all
}

// ProcessesIn counts the processes in cgroups that have the mark in their path.
func ProcessesIn(mark string) int {
	return len(processes(func(p process) bool { return strings.Contains(p.cgroup, mark) }))
}

func processes(match func(process) bool) []int {
	var pids []int
	for _, p := range readProcesses() {
		if match(p) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}
