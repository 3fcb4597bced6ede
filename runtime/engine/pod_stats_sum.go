package engine

import (
	"slices"

	"github.com/minirt/mini/runtime/stats"
)

// sumStats is the use of several containers together. A limit is the sum of theirs, and none where one of them has none.
// What does not add up is left out: the largest use, which they had at different times, and pressure.
func sumStats(all []stats.Stats) stats.Stats {
	var sum stats.Stats
	for i, s := range all {
		if s.Time.After(sum.Time) {
			sum.Time = s.Time
		}
		addCPU(&sum.CPU, s.CPU)
		addMemory(&sum.Memory, s.Memory, i == 0)
		sum.Pids.Current += s.Pids.Current
		sum.Pids.Limit = addLimit(sum.Pids.Limit, s.Pids.Limit, i == 0)
		sum.BlockIO = addDevices(sum.BlockIO, s.BlockIO)
		sum.Hugetlb = addHugetlb(sum.Hugetlb, s.Hugetlb)
	}
	return sum
}

func addCPU(sum *stats.CPU, c stats.CPU) {
	sum.Usage += c.Usage
	sum.User += c.User
	sum.System += c.System
	sum.Periods += c.Periods
	sum.ThrottledPeriods += c.ThrottledPeriods
	sum.ThrottledTime += c.ThrottledTime
	for i, n := range c.PerCPU {
		if i == len(sum.PerCPU) {
			sum.PerCPU = append(sum.PerCPU, 0)
		}
		sum.PerCPU[i] += n
	}
}

func addMemory(sum *stats.Memory, m stats.Memory, first bool) {
	sum.Usage += m.Usage
	sum.WorkingSet += m.WorkingSet
	sum.RSS += m.RSS
	sum.Cache += m.Cache
	sum.MappedFile += m.MappedFile
	sum.Kernel += m.Kernel
	sum.SwapUsage += m.SwapUsage
	sum.FailCount += m.FailCount
	sum.OOMKills += m.OOMKills
	sum.PageFaults += m.PageFaults
	sum.MajorPageFaults += m.MajorPageFaults
	sum.UnderOOM = sum.UnderOOM || m.UnderOOM
	sum.Limit = addLimit(sum.Limit, m.Limit, first)
	switch {
	case m.SwapLimit == nil:
		sum.SwapLimit = nil
	case first || sum.SwapLimit != nil:
		limit := *m.SwapLimit
		if !first {
			limit += *sum.SwapLimit
		}
		sum.SwapLimit = &limit
	}
}

// addLimit adds limits of which 0 is none.
func addLimit(sum, limit uint64, first bool) uint64 {
	if limit == 0 || sum == 0 && !first {
		return 0
	}
	return sum + limit
}

func addDevices(sum, list []stats.Device) []stats.Device {
	for _, d := range list {
		i := slices.IndexFunc(sum, func(s stats.Device) bool { return s.Major == d.Major && s.Minor == d.Minor })
		if i < 0 {
			sum = append(sum, d)
			continue
		}
		s := &sum[i]
		s.ReadBytes += d.ReadBytes
		s.WriteBytes += d.WriteBytes
		s.ReadOps += d.ReadOps
		s.WriteOps += d.WriteOps
	}
	return sum
}

func addHugetlb(sum, list []stats.Hugetlb) []stats.Hugetlb {
	for _, h := range list {
		i := slices.IndexFunc(sum, func(s stats.Hugetlb) bool { return s.PageSize == h.PageSize })
		if i < 0 {
			i, sum = len(sum), append(sum, stats.Hugetlb{PageSize: h.PageSize})
		}
		sum[i].Usage += h.Usage
		sum[i].FailCount += h.FailCount
	}
	return sum
}
