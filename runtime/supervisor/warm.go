package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// warmer keeps the first write to a cgroup.procs file from waiting.
//
// On cgroup v1 (and on v2 without CLONE_INTO_CGROUP) a process is put into its cgroup by a write to cgroup.procs. The
// kernel takes cgroup_threadgroup_rwsem for writing, and the first writer waits for an RCU grace period, 8 to 12 ms
// at HZ=250; those who come within a grace period of the last one do not (kernel/rcu/sync.c, "GP_EXIT"). So when a
// start or an exec is announced, a thread moves itself to where it is already, which costs the same wait but beside
// the other preparations, and repeats that while starts go on and shortly after. The mount option favordynmods
// (Linux 6.0) does the same for good, at a price for every fork on the machine, and is left to the administrator.
type warmer struct {
	path  string // of a cgroup.procs file that this process is in; empty: nothing to do
	until atomic.Int64
	busy  atomic.Bool
}

const (
	warmPeriod = 4 * time.Millisecond // below the shortest grace period seen
	warmTail   = time.Second          // how long after the last start the next one is still quick
)

func newWarmer() *warmer { return &warmer{path: ownProcs()} }

// ownProcs finds a cgroup v1 directory that this process is in; hierarchies share the one lock, so any will do.
func ownProcs() string {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil || st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "" // v2: a process is cloned into its cgroup
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] == "" {
			continue
		}
		dir := filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(parts[1], "name="), parts[2])
		if path := filepath.Join(dir, "cgroup.procs"); unix.Access(path, unix.W_OK) == nil {
			return path
		}
	}
	return ""
}

// touch announces a start; it returns at once.
func (w *warmer) touch() {
	if w.path == "" {
		return
	}
	w.until.Store(time.Now().Add(warmTail).UnixNano())
	if !w.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer w.busy.Store(false)
		f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
		if err != nil {
			return
		}
		defer f.Close()
		tick := time.NewTicker(warmPeriod)
		defer tick.Stop()
		for time.Now().UnixNano() < w.until.Load() {
			if _, err := f.WriteString("0"); err != nil { // 0 is the writer itself
				return
			}
			<-tick.C
		}
	}()
}
