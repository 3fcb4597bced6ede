// Package stats reads what a container uses: processor, memory, processes, block devices, huge pages, pressure and
// network, from its cgroups (v1, hybrid and v2) and its first process's network namespace. It keeps nothing between two
// readings; rates are the caller's business.
package stats

import (
	"cmp"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
)

// Stats is one reading. Counters go up from the cgroup's making. What the host does not tell is zero or absent.
type Stats struct {
	Time     time.Time   `json:"time"`
	CPU      CPU         `json:"cpu"`
	Memory   Memory      `json:"memory"`
	Pids     Pids        `json:"pids"`
	BlockIO  []Device    `json:"blockIO,omitempty"`
	Hugetlb  []Hugetlb   `json:"hugetlb,omitempty"`
	Pressure *Pressure   `json:"pressure,omitempty"` // Linux 4.20 with a v2 hierarchy
	Networks []Interface `json:"networks,omitempty"`
}

// CPU is processor time in nanoseconds.
type CPU struct {
	Usage  uint64   `json:"usage"`
	User   uint64   `json:"user"`
	System uint64   `json:"system"`
	PerCPU []uint64 `json:"perCPU,omitempty"` // v1 only
	// Periods are enforcement intervals of the quota so far, ThrottledPeriods those in which it ran out.
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// Memory is in bytes but for the counts. A Limit of 0 is none.
type Memory struct {
	Usage      uint64  `json:"usage"`
	WorkingSet uint64  `json:"workingSet"` // usage without the inactive file cache, which the kernel drops first
	RSS        uint64  `json:"rss"`        // anonymous memory
	Cache      uint64  `json:"cache"`
	MappedFile uint64  `json:"mappedFile"`
	Kernel     uint64  `json:"kernel,omitempty"`   // v2 only
	MaxUsage   uint64  `json:"maxUsage,omitempty"` // v2: Linux 5.19
	Limit      uint64  `json:"limit,omitempty"`
	SwapUsage  uint64  `json:"swapUsage,omitempty"`
	SwapLimit  *uint64 `json:"swapLimit,omitempty"` // of swap alone; nil: none, 0: no swap may be used
	// FailCount is how often the limit was hit; OOMKills how many processes died of it.
	FailCount       uint64 `json:"failCount,omitempty"`
	OOMKills        uint64 `json:"oomKills,omitempty"`
	UnderOOM        bool   `json:"underOOM,omitempty"` // v1 only
	PageFaults      uint64 `json:"pageFaults"`
	MajorPageFaults uint64 `json:"majorPageFaults"`
}

// Pids counts tasks. A limit of 0 is none.
type Pids struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit,omitempty"`
}

// Device is what went through one block device.
type Device struct {
	Major      uint32 `json:"major"`
	Minor      uint32 `json:"minor"`
	ReadBytes  uint64 `json:"readBytes"`
	WriteBytes uint64 `json:"writeBytes"`
	ReadOps    uint64 `json:"readOps"`
	WriteOps   uint64 `json:"writeOps"`
}

// Hugetlb is the use of huge pages of one size, in bytes.
type Hugetlb struct {
	PageSize  string `json:"pageSize"`
	Usage     uint64 `json:"usage"`
	MaxUsage  uint64 `json:"maxUsage,omitempty"`
	FailCount uint64 `json:"failCount,omitempty"`
}

// Pressure is the time processes waited for a resource: https://docs.kernel.org/accounting/psi.html
type Pressure struct {
	CPU    PSI `json:"cpu"`
	Memory PSI `json:"memory"`
	IO     PSI `json:"io"`
}

// PSI is the pressure on one resource: some tasks waited, or all.
type PSI struct {
	Some PSILine `json:"some"`
	Full PSILine `json:"full"`
}

// PSILine has shares of the last 10, 60 and 300 seconds in percent, and the total in microseconds.
type PSILine struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Interface is the traffic of one network interface.
type Interface struct {
	Name      string `json:"name"`
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	RxErrors  uint64 `json:"rxErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxErrors  uint64 `json:"txErrors"`
	TxDropped uint64 `json:"txDropped"`
}

// Read reads a container's use. cgroupPaths are its groups' directories by controller as libcontainer reports them
// ("memory", "cpu", …; "" for the unified hierarchy); when there are none, those of pid are taken. pid is its first
// process, for the network; 0 leaves the network out, and so does a network namespace that is the host's (its traffic
// isn't the container's). About 0.1 ms. Errors: ErrNotFound when neither the groups nor the process exist.
func Read(cgroupPaths map[string]string, pid int) (Stats, error) {
	r := newReader()
	defer r.close()
	return r.container(Source{CgroupPaths: cgroupPaths, PID: pid, Parts: All})
}

// Parts are what is read beside the use of processors and memory and the pressure. Each of them is some files more, and
// the opening of files is most of what a reading costs.
type Parts uint

const (
	Tasks   Parts = 1 << iota // Pids
	Events                    // how often a limit was hit, and the most memory that was in use
	Devices                   // BlockIO and Hugetlb
	All     = Tasks | Events | Devices
)

// Source is a container to read, as the parameters of Read, and what of it.
type Source struct {
	CgroupPaths map[string]string
	PID         int
	Parts       Parts
}

// Result is one container's reading or the error of it.
type Result struct {
	Stats Stats
	Err   error
}

// ReadAll reads several containers, on every processor at once: nearly all of the time is the kernel's. The results are
// in the order of the sources; errors are Read's.
func ReadAll(sources []Source) []Result {
	results := make([]Result, len(sources))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(sources)) {
		workers.Go(func() {
			r := newReader()
			defer r.close()
			for i := next.Add(1) - 1; i < int64(len(sources)); i = next.Add(1) - 1 {
				results[i].Stats, results[i].Err = r.container(sources[i])
			}
		})
	}
	workers.Wait()
	return results
}

// container reads one container.
func (r *reader) container(of Source) (Stats, error) {
	if len(of.CgroupPaths) == 0 && of.PID > 0 {
		paths, err := cgroup.Paths(of.PID)
		if err != nil {
			return Stats{}, err
		}
		of.CgroupPaths = paths
	}
	r.found, r.parts = 0, of.Parts
	s := Stats{Time: time.Now()}
	r.groups(&s, of.CgroupPaths)
	if r.found == 0 {
		return Stats{}, fmt.Errorf("statistics: the container's cgroups are gone: %w", errdefs.ErrNotFound)
	}
	if of.PID > 0 && !sharesHostNetwork(of.PID) {
		s.Networks = parseNetDev(r.read("/proc/"+strconv.Itoa(of.PID)+"/net", "dev"))
	}
	return s, nil
}

// groups reads from v1 what v1 controllers are there for, and the rest from the unified hierarchy.
func (r *reader) groups(s *Stats, paths map[string]string) {
	unified := paths[""]
	if dir := paths["cpuacct"]; dir != "" {
		r.cpuV1(&s.CPU, dir, paths["cpu"])
	} else if unified != "" {
		r.cpuV2(&s.CPU, unified)
	}
	if dir := paths["memory"]; dir != "" {
		r.memoryV1(&s.Memory, dir)
	} else if unified != "" {
		r.memoryV2(&s.Memory, unified)
	}
	if r.wants(Devices) {
		r.devices(s, paths)
	}
	if pids := cmp.Or(paths["pids"], unified); pids != "" && r.wants(Tasks) {
		s.Pids.Current = number(r.read(pids, "pids.current"))
		s.Pids.Limit = limit(r.read(pids, "pids.max"))
	}
	if unified != "" {
		s.Pressure = r.pressure(unified)
	}
}

func (r *reader) devices(s *Stats, paths map[string]string) {
	unified := paths[""]
	if dir := paths["blkio"]; dir != "" {
		s.BlockIO = r.blockIOV1(dir)
	} else if unified != "" {
		s.BlockIO = r.blockIOV2(unified)
	}
	if dir := paths["hugetlb"]; dir != "" {
		s.Hugetlb = r.hugetlbV1(dir)
	} else if unified != "" && paths["memory"] == "" {
		s.Hugetlb = r.hugetlbV2(unified)
	}
}
