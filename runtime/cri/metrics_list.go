package cri

import (
	"slices"
	"strconv"

	"github.com/minirt/mini/runtime/stats"
)

// one makes a metric's values of a single number.
func one(read func(reading) uint64) func(reading) []point {
	return func(r reading) []point { return []point{{value: read(r)}} }
}

// wholeSeconds of nanoseconds.
func wholeSeconds(ns uint64) uint64 { return ns / 1e9 }

// containerMetrics are measured for each running container.
func containerMetrics() []metric {
	return slices.Concat(cpuMetrics(), memoryMetrics(), diskMetrics(), processMetrics(), pressureMetrics(), limitMetrics())
}

func cpuMetrics() []metric {
	return []metric{
		{"container_cpu_usage_seconds_total", "Processor time used, in seconds.", counter, nil, one(func(r reading) uint64 { return wholeSeconds(r.CPU.Usage) })},
		{"container_cpu_user_seconds_total", "Processor time used outside the kernel, in seconds.", counter, nil, one(func(r reading) uint64 { return wholeSeconds(r.CPU.User) })},
		{"container_cpu_system_seconds_total", "Processor time used in the kernel, in seconds.", counter, nil, one(func(r reading) uint64 { return wholeSeconds(r.CPU.System) })},
		{"container_cpu_cfs_periods_total", "Elapsed enforcement periods of the quota.", counter, nil, one(func(r reading) uint64 { return r.CPU.Periods })},
		{"container_cpu_cfs_throttled_periods_total", "Periods in which the quota ran out.", counter, nil, one(func(r reading) uint64 { return r.CPU.ThrottledPeriods })},
		{"container_cpu_cfs_throttled_seconds_total", "Time without processor because the quota had run out, in seconds.", counter, nil, one(func(r reading) uint64 { return wholeSeconds(r.CPU.ThrottledTime) })},
	}
}

func memoryMetrics() []metric {
	return []metric{
		{"container_memory_usage_bytes", "Memory in use, the file cache included.", gauge, nil, one(func(r reading) uint64 { return r.Memory.Usage })},
		{"container_memory_working_set_bytes", "Memory in use without the inactive file cache.", gauge, nil, one(func(r reading) uint64 { return r.Memory.WorkingSet })},
		{"container_memory_rss", "Anonymous memory, in bytes.", gauge, nil, one(func(r reading) uint64 { return r.Memory.RSS })},
		{"container_memory_cache", "File cache, in bytes.", gauge, nil, one(func(r reading) uint64 { return r.Memory.Cache })},
		{"container_memory_mapped_file", "Files mapped into memory, in bytes.", gauge, nil, one(func(r reading) uint64 { return r.Memory.MappedFile })},
		{"container_memory_kernel_usage", "Memory of the kernel's objects, in bytes.", gauge, nil, one(func(r reading) uint64 { return r.Memory.Kernel })},
		{"container_memory_swap", "Swap in use, in bytes.", gauge, nil, one(func(r reading) uint64 { return r.Memory.SwapUsage })},
		{"container_memory_max_usage_bytes", "Most memory that was ever in use.", gauge, nil, one(func(r reading) uint64 { return r.Memory.MaxUsage })},
		{"container_memory_failcnt", "How often the memory limit was hit.", counter, nil, one(func(r reading) uint64 { return r.Memory.FailCount })},
		{"container_memory_failures_total", "Page faults.", counter, []string{"failure_type", "scope"}, func(r reading) []point {
			return []point{
				{[]string{"pgfault", "container"}, r.Memory.PageFaults},
				{[]string{"pgmajfault", "container"}, r.Memory.MajorPageFaults},
			}
		}},
		{"container_oom_events_total", "Processes that the kernel killed for want of memory.", counter, nil, one(func(r reading) uint64 { return r.Memory.OOMKills })},
		{"container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", gauge, []string{"pagesize"}, func(r reading) []point {
			return hugetlb(r, func(h stats.Hugetlb) uint64 { return h.Usage })
		}},
		{"container_hugetlb_max_usage_bytes", "Most huge pages that were ever in use, in bytes.", gauge, []string{"pagesize"}, func(r reading) []point {
			return hugetlb(r, func(h stats.Hugetlb) uint64 { return h.MaxUsage })
		}},
	}
}

func hugetlb(r reading, read func(stats.Hugetlb) uint64) []point {
	var out []point
	for _, h := range r.Hugetlb {
		out = append(out, point{[]string{h.PageSize}, read(h)})
	}
	return out
}

func diskMetrics() []metric {
	return []metric{
		{"container_fs_reads_bytes_total", "Bytes read from a block device.", counter, []string{"device"}, devices(func(d stats.Device) uint64 { return d.ReadBytes })},
		{"container_fs_writes_bytes_total", "Bytes written to a block device.", counter, []string{"device"}, devices(func(d stats.Device) uint64 { return d.WriteBytes })},
		{"container_fs_reads_total", "Reads from a block device.", counter, []string{"device"}, devices(func(d stats.Device) uint64 { return d.ReadOps })},
		{"container_fs_writes_total", "Writes to a block device.", counter, []string{"device"}, devices(func(d stats.Device) uint64 { return d.WriteOps })},
		{"container_fs_usage_bytes", "What the container has written to its root filesystem.", gauge, nil, one(func(r reading) uint64 { return r.written })},
		{"container_fs_inodes_used", "Files that the container has made in its root filesystem.", gauge, nil, one(func(r reading) uint64 { return r.inodes })},
		{"container_blkio_device_usage_total", "Bytes that went through a block device.", counter, []string{"device", "operation"}, func(r reading) []point {
			var out []point
			for _, d := range r.BlockIO {
				out = append(out, point{[]string{device(d), "Read"}, d.ReadBytes}, point{[]string{device(d), "Write"}, d.WriteBytes})
			}
			return out
		}},
	}
}

func devices(read func(stats.Device) uint64) func(reading) []point {
	return func(r reading) []point {
		var out []point
		for _, d := range r.BlockIO {
			out = append(out, point{[]string{device(d)}, read(d)})
		}
		return out
	}
}

func device(d stats.Device) string {
	return strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
}

func processMetrics() []metric {
	return []metric{
		// The pids controller counts tasks, which are threads; there is no cheaper count of processes.
		{"container_processes", "Tasks in the container.", gauge, nil, one(func(r reading) uint64 { return r.Pids.Current })},
		{"container_threads", "Tasks in the container.", gauge, nil, one(func(r reading) uint64 { return r.Pids.Current })},
		{"container_threads_max", "Most tasks that the container may have; 0 is no limit.", gauge, nil, one(func(r reading) uint64 { return r.Pids.Limit })},
		{"container_last_seen", "When this was read, in seconds of Unix time.", gauge, nil, one(func(r reading) uint64 { return uint64(r.Time.Unix()) })},
		{"container_start_time_seconds", "When the container was started, in seconds of Unix time.", gauge, nil, func(r reading) []point {
			if r.container == nil || r.container.StartedAt.IsZero() {
				return nil
			}
			return []point{{value: uint64(r.container.StartedAt.Unix())}}
		}},
	}
}

// pressureMetrics are there where the kernel tells of pressure (PSI).
func pressureMetrics() []metric {
	var out []metric
	for _, of := range []struct {
		resource string
		read     func(*stats.Pressure) stats.PSI
	}{
		{"cpu", func(p *stats.Pressure) stats.PSI { return p.CPU }},
		{"memory", func(p *stats.Pressure) stats.PSI { return p.Memory }},
		{"io", func(p *stats.Pressure) stats.PSI { return p.IO }},
	} {
		pressure := func(line func(stats.PSI) stats.PSILine) func(reading) []point {
			return func(r reading) []point {
				if r.Pressure == nil {
					return nil
				}
				return []point{{value: line(of.read(r.Pressure)).Total / 1e6}} // microseconds
			}
		}
		out = append(out,
			metric{"container_pressure_" + of.resource + "_waiting_seconds_total", "Time in which some task waited for the resource, in seconds.", counter, nil,
				pressure(func(p stats.PSI) stats.PSILine { return p.Some })},
			metric{"container_pressure_" + of.resource + "_stalled_seconds_total", "Time in which no task could go on for want of the resource, in seconds.", counter, nil,
				pressure(func(p stats.PSI) stats.PSILine { return p.Full })})
	}
	return out
}

// limitMetrics tell what the container was given.
func limitMetrics() []metric {
	limit := func(read func(k *kept) (uint64, bool)) func(reading) []point {
		return func(r reading) []point {
			if r.container == nil || r.container.Request == nil || r.container.Request.Resources == nil {
				return nil
			}
			if n, ok := read(r.container); ok {
				return []point{{value: n}}
			}
			return nil
		}
	}
	return []metric{
		{"container_spec_cpu_period", "Period of the processor quota, in microseconds.", gauge, nil, limit(func(k *kept) (uint64, bool) {
			c := k.Request.Resources.CPU
			return value(value(c).Period), value(c).Period != nil
		})},
		{"container_spec_cpu_quota", "Processor quota in a period, in microseconds.", gauge, nil, limit(func(k *kept) (uint64, bool) {
			q := value(value(k.Request.Resources.CPU).Quota)
			return uint64(max(q, 0)), q > 0
		})},
		{"container_spec_cpu_shares", "Share of the processor among others.", gauge, nil, limit(func(k *kept) (uint64, bool) {
			c := k.Request.Resources.CPU
			return value(value(c).Shares), value(c).Shares != nil
		})},
		{"container_spec_memory_limit_bytes", "Memory limit; 0 is none.", gauge, nil, one(func(r reading) uint64 { return r.Memory.Limit })},
		{"container_spec_memory_swap_limit_bytes", "Limit of swap.", gauge, nil, func(r reading) []point {
			if r.Memory.SwapLimit == nil {
				return nil
			}
			return []point{{value: *r.Memory.SwapLimit}}
		}},
	}
}

// podMetrics are measured for each pod: its network belongs to no single container.
func podMetrics() []metric {
	var out []metric
	for _, m := range []struct {
		name, help string
		read       func(stats.Interface) uint64
	}{
		{"container_network_receive_bytes_total", "Bytes received.", func(i stats.Interface) uint64 { return i.RxBytes }},
		{"container_network_receive_packets_total", "Packets received.", func(i stats.Interface) uint64 { return i.RxPackets }},
		{"container_network_receive_packets_dropped_total", "Packets dropped when they came in.", func(i stats.Interface) uint64 { return i.RxDropped }},
		{"container_network_receive_errors_total", "Errors of receiving.", func(i stats.Interface) uint64 { return i.RxErrors }},
		{"container_network_transmit_bytes_total", "Bytes sent.", func(i stats.Interface) uint64 { return i.TxBytes }},
		{"container_network_transmit_packets_total", "Packets sent.", func(i stats.Interface) uint64 { return i.TxPackets }},
		{"container_network_transmit_packets_dropped_total", "Packets dropped when they were to go out.", func(i stats.Interface) uint64 { return i.TxDropped }},
		{"container_network_transmit_errors_total", "Errors of sending.", func(i stats.Interface) uint64 { return i.TxErrors }},
	} {
		out = append(out, metric{m.name, m.help, counter, []string{"interface"}, func(r reading) []point {
			var points []point
			for _, i := range r.Networks {
				if i.Name != "lo" {
					points = append(points, point{[]string{i.Name}, m.read(i)})
				}
			}
			return points
		}})
	}
	return out
}
