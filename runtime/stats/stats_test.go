package stats

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
)

func v1Paths() map[string]string {
	paths := map[string]string{}
	for _, c := range []string{"cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb"} {
		paths[c] = filepath.Join("testdata/v1", c)
	}
	return paths
}

var (
	wantMemory = Memory{
		Usage: 6291456, WorkingSet: 3145728, RSS: 2097152, Cache: 4194304, MappedFile: 1048576, MaxUsage: 7340032,
		Limit: 67108864, SwapUsage: 8192, FailCount: 5, OOMKills: 2, PageFaults: 1200, MajorPageFaults: 7,
	}
	wantIO = []Device{
		{Major: 8, ReadBytes: 4096, WriteBytes: 8192, ReadOps: 1, WriteOps: 2},
		{Major: 253, Minor: 16, ReadBytes: 512, ReadOps: 1},
	}
	wantPSI = PSI{Some: PSILine{Avg10: 1.5, Avg60: 0.75, Avg300: 12.05, Total: 123456}, Full: PSILine{Avg300: 0.01, Total: 99}}
)

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
}

func show(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestReadV1(t *testing.T) {
	s, err := Read(v1Paths(), 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "cpu", s.CPU, CPU{Usage: 4750000, User: 4000000, System: 750000, PerCPU: []uint64{1500000, 3250000}, Periods: 10, ThrottledPeriods: 3, ThrottledTime: 123456})
	want := wantMemory
	want.UnderOOM, want.SwapLimit = true, new(uint64(67108864))
	check(t, "memory", s.Memory, want)
	check(t, "io", s.BlockIO, wantIO)
	check(t, "pids", s.Pids, Pids{Current: 3})
	if slices.Contains(pageSizes(), "2MB") {
		check(t, "hugetlb", s.Hugetlb, []Hugetlb{{PageSize: "2MB", Usage: 2097152, MaxUsage: 4194304, FailCount: 1}})
	}
	if s.Pressure != nil {
		t.Error("v1 has no pressure")
	}
}

func TestReadV2(t *testing.T) {
	s, err := Read(map[string]string{"": "testdata/v2"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "cpu", s.CPU, CPU{Usage: 5000000, User: 3000000, System: 2000000, Periods: 10, ThrottledPeriods: 3, ThrottledTime: 44000})
	want := wantMemory
	want.Kernel, want.SwapLimit = 65536, new(uint64)
	check(t, "memory", s.Memory, want)
	check(t, "io", s.BlockIO, wantIO)
	check(t, "pids", s.Pids, Pids{Current: 3, Limit: 100})
	check(t, "pressure", s.Pressure, &Pressure{CPU: wantPSI, Memory: wantPSI, IO: wantPSI})
}

func TestReadHybrid(t *testing.T) {
	paths := v1Paths()
	paths[""] = "testdata/hybrid/unified"
	s, err := Read(paths, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "pressure", s.Pressure, &Pressure{CPU: wantPSI, Memory: wantPSI, IO: wantPSI})
	check(t, "usage", s.Memory.Usage, uint64(6291456))
}

func TestReadParts(t *testing.T) {
	for name, paths := range map[string]map[string]string{"v1": v1Paths(), "v2": {"": "testdata/v2"}} {
		r := newReader()
		defer r.close()
		whole, err := r.container(Source{CgroupPaths: paths, Parts: All})
		if err != nil {
			t.Fatal(err)
		}
		all := r.found
		s, err := r.container(Source{CgroupPaths: paths})
		if err != nil {
			t.Fatal(err)
		}
		if s.CPU.Usage != whole.CPU.Usage || s.Memory.WorkingSet != whole.Memory.WorkingSet || s.Memory.Limit != whole.Memory.Limit {
			t.Errorf("%s: without parts: %s, want the usage of %s", name, show(s), show(whole))
		}
		if s.Pids.Current != 0 || s.Memory.OOMKills != 0 || s.CPU.Periods != 0 && name == "v1" || s.BlockIO != nil || r.found >= all {
			t.Errorf("%s: without parts: %d files of %d: %s", name, r.found, all, show(s))
		}
	}
}

func TestReadOfNothing(t *testing.T) {
	if _, err := Read(map[string]string{"memory": filepath.Join(t.TempDir(), "gone")}, 0); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// TestReadLive reads this process's own groups, and the traffic of one with a network namespace of its own.
func TestReadLive(t *testing.T) {
	paths, err := cgroup.Paths(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	s, err := Read(paths, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.CPU.Usage == 0 || (paths["memory"] != "" && s.Memory.Usage == 0) {
		t.Errorf("nothing used: %s", show(s))
	}
	if s.Networks != nil {
		t.Error("the host's network isn't a container's")
	}
	if os.Getuid() != 0 {
		return
	}
	cmd := exec.Command("unshare", "--net", "sh", "-c", "echo ready; read x")
	stdin, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Skip(err)
	}
	if s, err = Read(paths, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Networks {
		if n.Name == "eth0" {
			t.Errorf("the other namespace has this one's interface: %s", show(s.Networks))
		}
	}
}

func TestParseNetDev(t *testing.T) {
	data := []byte(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0:314537083   20609    1    2    0     0          0         0  1989287   16670    3    4    0     0       0          0
`)
	check(t, "net", parseNetDev(data), []Interface{{Name: "eth0", RxBytes: 314537083, RxPackets: 20609, RxErrors: 1, RxDropped: 2, TxBytes: 1989287, TxPackets: 16670, TxErrors: 3, TxDropped: 4}})
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]uint64{"": 0, "x": 0, "12\n": 12, "18446744073709551615": math.MaxUint64, "99999999999999999999999": math.MaxUint64} {
		check(t, in, number([]byte(in)), want)
	}
	for in, want := range map[string]uint64{"max\n": 0, "9223372036854771712": 0, "9223372036854710272": 0, "100": 100} {
		check(t, in, limit([]byte(in)), want)
	}
	for in, want := range map[string]float64{"0.00": 0, "1.5": 1.5, "12.05": 12.05, "100": 100, "": 0} {
		check(t, in, hundredths([]byte(in)), want)
	}
}

func TestReadAllKeepsTheOrder(t *testing.T) {
	gone := Source{CgroupPaths: map[string]string{"": filepath.Join(t.TempDir(), "gone")}}
	sources := []Source{{CgroupPaths: v1Paths()}, gone, {CgroupPaths: map[string]string{"": "testdata/v2"}}, gone}
	got := ReadAll(sources)
	if got[0].Stats.CPU.PerCPU == nil || got[2].Stats.Pressure == nil || got[0].Err != nil || got[2].Err != nil {
		t.Errorf("results are mixed up: %+v", got)
	}
	if !errors.Is(got[1].Err, errdefs.ErrNotFound) || !errors.Is(got[3].Err, errdefs.ErrNotFound) {
		t.Errorf("got %v and %v, want not found", got[1].Err, got[3].Err)
	}
}

// TestReadLongFile reads a file longer than the buffer and than a page.
func TestReadLongFile(t *testing.T) {
	dir := t.TempDir()
	want := make([]byte, 100_000)
	for i := range want {
		want[i] = 'x'
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &reader{buf: make([]byte, 64)}
	if got := r.read(dir, "f"); string(got) != string(want) {
		t.Errorf("got %d bytes", len(got))
	}
}

func FuzzCgroupFiles(f *testing.F) {
	for _, pattern := range []string{"testdata/v1/*/*", "testdata/v2/*"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			if data, err := os.ReadFile(name); err == nil {
				f.Add(filepath.Base(name), data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		dir := t.TempDir()
		if name != filepath.Base(name) || os.WriteFile(filepath.Join(dir, name), data, 0o600) != nil {
			return
		}
		for _, paths := range []map[string]string{{"": dir}, {"cpu": dir, "cpuacct": dir, "memory": dir, "blkio": dir, "pids": dir, "hugetlb": dir}} {
			s, err := Read(paths, 0)
			if err != nil {
				continue
			}
			if s.Memory.WorkingSet > s.Memory.Usage {
				t.Errorf("working set above usage: %s", show(s))
			}
			if _, err := json.Marshal(s); err != nil {
				t.Error(err)
			}
		}
		parseNetDev(data)
	})
}

// BenchmarkRead30 is the goal's shape: thirty containers, 6 ms.
func BenchmarkRead30(b *testing.B) {
	paths, err := cgroup.Paths(os.Getpid())
	if err != nil {
		b.Skip(err)
	}
	sources := make([]Source, 30)
	for i := range sources {
		sources[i] = Source{CgroupPaths: paths, PID: 1}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range ReadAll(sources) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
}
