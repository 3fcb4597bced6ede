package stats

import "bytes"

// cpuV1 reads cpuacct.usage_all (nanoseconds of user and system time for each CPU, Linux 4.8; their sum is what
// cpuacct.usage says) and, for events, cpu.stat. Each file costs about 8 µs, so none is read for what another has.
func (r *reader) cpuV1(c *CPU, acct, cpu string) {
	for line := range lines(r.read(acct, "cpuacct.usage_all")) {
		_, rest := word(line) // the CPU's number; the first line is a heading
		user, rest := word(rest)
		system, _ := word(rest)
		if len(user) == 0 || user[0] < '0' || user[0] > '9' {
			continue
		}
		u, s := number(user), number(system)
		c.User, c.System = c.User+u, c.System+s
		c.PerCPU = append(c.PerCPU, u+s)
	}
	c.Usage = c.User + c.System
	if !r.wants(Events) {
		return
	}
	for line := range lines(r.read(cpu, "cpu.stat")) {
		switch key, value := word(line); string(key) {
		case "nr_periods":
			c.Periods = number(value)
		case "nr_throttled":
			c.ThrottledPeriods = number(value)
		case "throttled_time":
			c.ThrottledTime = number(value)
		}
	}
}

// memoryV1: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html. Values named total_ include groups below; the
// limits in memory.stat are the effective ones, ancestors counted.
func (r *reader) memoryV1(m *Memory, dir string) {
	var inactive, both uint64
	for line := range lines(r.read(dir, "memory.stat")) {
		switch key, value := word(line); string(key) {
		case "total_rss":
			m.RSS = number(value)
		case "total_cache":
			m.Cache = number(value)
		case "total_mapped_file":
			m.MappedFile = number(value)
		case "total_inactive_file":
			inactive = number(value)
		case "total_swap":
			m.SwapUsage = number(value)
		case "total_pgfault":
			m.PageFaults = number(value)
		case "total_pgmajfault":
			m.MajorPageFaults = number(value)
		case "hierarchical_memory_limit":
			m.Limit = limit(value)
		case "hierarchical_memsw_limit":
			both = limit(value)
		}
	}
	if both > 0 && m.Limit > 0 { // v1 has memory and swap together; here it is swap alone, as in v2
		swap := both - min(m.Limit, both)
		m.SwapLimit = &swap
	}
	m.Usage = number(r.read(dir, "memory.usage_in_bytes"))
	m.WorkingSet = m.Usage - min(inactive, m.Usage)
	if !r.wants(Events) {
		return
	}
	m.MaxUsage = number(r.read(dir, "memory.max_usage_in_bytes"))
	m.FailCount = number(r.read(dir, "memory.failcnt"))
	for line := range lines(r.read(dir, "memory.oom_control")) {
		switch key, value := word(line); string(key) {
		case "under_oom":
			m.UnderOOM = number(value) > 0
		case "oom_kill":
			m.OOMKills = number(value)
		}
	}
}

// blockIOV1 reads the throttling layer's counters, which see every device whatever its scheduler.
func (r *reader) blockIOV1(dir string) []Device {
	var devices []Device
	add := func(data []byte, read, write func(*Device) *uint64) {
		for line := range lines(data) { // "8:0 Read 4096"; the last is "Total 4096"
			id, rest := word(line)
			op, value := word(rest)
			d := device(&devices, id)
			if d == nil {
				continue
			}
			switch string(op) {
			case "Read":
				*read(d) = number(value)
			case "Write":
				*write(d) = number(value)
			}
		}
	}
	add(r.first(dir, "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"),
		func(d *Device) *uint64 { return &d.ReadBytes }, func(d *Device) *uint64 { return &d.WriteBytes })
	add(r.first(dir, "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"),
		func(d *Device) *uint64 { return &d.ReadOps }, func(d *Device) *uint64 { return &d.WriteOps })
	return devices
}

func (r *reader) hugetlbV1(dir string) []Hugetlb {
	var list []Hugetlb
	for _, size := range pageSizes() {
		prefix := "hugetlb." + size
		data := r.read(dir, prefix+".usage_in_bytes")
		if data == nil {
			continue
		}
		h := Hugetlb{PageSize: size, Usage: number(data)}
		h.MaxUsage = number(r.read(dir, prefix+".max_usage_in_bytes"))
		h.FailCount = number(r.read(dir, prefix+".failcnt"))
		list = append(list, h)
	}
	return list
}

// device finds or adds the device that "8:0" names; nil when it isn't such a name. The list is short: no map.
func device(list *[]Device, id []byte) *Device {
	colon := bytes.IndexByte(id, ':')
	if colon <= 0 {
		return nil
	}
	major, minor := uint32(number(id[:colon])), uint32(number(id[colon+1:]))
	for i := range *list {
		if d := &(*list)[i]; d.Major == major && d.Minor == minor {
			return d
		}
	}
	*list = append(*list, Device{Major: major, Minor: minor})
	return &(*list)[len(*list)-1]
}
