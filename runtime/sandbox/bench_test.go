package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// usual is what engines usually ask for: masked and read-only paths, every namespace.
func usual(s *specs.Spec) {
	s.Linux.MaskedPaths = []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware"}
	s.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	)
}

func median(d []time.Duration) time.Duration {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)/2]
}

// pause lets the kernel forget the last start, when SANDBOX_COLD is set.
func pause() {
	if os.Getenv("SANDBOX_COLD") != "" {
		time.Sleep(1200 * time.Millisecond)
	}
}

// TestSpeed prints how long a start to delete takes, beside runc with the same configuration. Set SANDBOX_SPEED to run it.
func TestSpeed(t *testing.T) {
	if os.Getenv("SANDBOX_SPEED") == "" {
		t.Skip("set SANDBOX_SPEED to measure")
	}
	w := newWorld(t, ScopeNode)
	const rounds = 30
	var ours, starts, deletes, theirs, execs, shares []time.Duration
	// In turns, because the machine is not the same from second to second.
	for i := range rounds {
		id := fmt.Sprint("b", i)
		s := w.bundle(container{id: id, args: []string{"true"}, change: usual})
		pause()
		began := time.Now()
		if _, err := w.boxes.Start(context.Background(), id, s, nil); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, time.Since(began))
		w.awaitExit(key(id))
		before := time.Now()
		w.delete(id)
		deletes = append(deletes, time.Since(before))
		ours = append(ours, time.Since(began))
		id = fmt.Sprintf("r%d-%s", i, filepath.Base(w.dir))
		s = w.bundle(container{id: id, args: []string{"true"}, change: usual})
		pause()
		began = time.Now()
		if out, err := exec.Command("runc", "--root", filepath.Join(w.dir, "runc"), "run", "--bundle", s.Dir, id).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		theirs = append(theirs, time.Since(began))
	}
	w.start(container{id: "x", args: []string{"sleep", "1000"}, change: usual})
	for i := range rounds {
		id := fmt.Sprint("e", i)
		pause()
		began := time.Now()
		result, err := w.exec("x", id, wire.Stdio{}, nil, "true")
		if err != nil {
			t.Fatal(err)
		}
		w.awaitExit(execKey("x", id))
		execs = append(execs, time.Since(began))
		shares = append(shares, result.Created)
	}
	fmt.Printf("start→exit→delete %s (start %s, delete %s), runc run %s, ratio %.2f; exec→exit %s (supervisor's start %s)\n",
		median(ours), median(starts), median(deletes), median(theirs), float64(median(ours))/float64(median(theirs)), median(execs), median(shares))
}

// TestMemory prints what 200 containers cost. Set SANDBOX_SPEED to run it.
func TestMemory(t *testing.T) {
	if os.Getenv("SANDBOX_SPEED") == "" {
		t.Skip("set SANDBOX_SPEED to measure")
	}
	w := newWorld(t, ScopeNode)
	w.start(container{id: "first", args: []string{"sleep", "1000"}, change: usual, stdio: wire.Stdio{Log: w.log("first")}})
	before := pss(t, w.supervisorPID())
	mine := pss(t, os.Getpid())
	const n = 200
	for i := range n {
		id := fmt.Sprint("m", i)
		w.start(container{id: id, args: []string{"sleep", "1000"}, change: usual, stdio: wire.Stdio{Log: w.log(id)}})
	}
	after := pss(t, w.supervisorPID())
	fmt.Printf("supervisor: %d KiB with one, %d KiB with %d: %.1f KiB each (%s); this side %.1f KiB each\n",
		before, after, n, float64(after-before)/n, status(t, w.supervisorPID()), float64(pss(t, os.Getpid())-mine)/n)
}

func pss(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

func status(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "Threads") || strings.HasPrefix(line, "FDSize") || strings.HasPrefix(line, "RssAnon") {
			want = append(want, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(want, ", ")
}

// BenchmarkExec executes "true" in a running container.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b, ScopeNode)
	w.start(container{id: "x", args: []string{"sleep", "1000"}, change: usual})
	var shares []time.Duration
	for b.Loop() {
		id := fmt.Sprint("e", len(shares))
		result, err := w.exec("x", id, wire.Stdio{}, nil, "true")
		if err != nil {
			b.Fatal(err)
		}
		w.awaitExit(execKey("x", id))
		shares = append(shares, result.Created)
	}
	b.ReportMetric(float64(median(shares).Microseconds()), "start-µs")
	b.ReportMetric(float64(cpuOf(b, w.supervisorPID()).Microseconds())/float64(len(shares)), "cpu-µs/op")
}

// cpuOf is the processor time of a process and of the children it has waited for (proc_pid_stat(5)), with the start of
// its container in it.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int
	for _, f := range fields[11:15] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
