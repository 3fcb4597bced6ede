package stats

import "bytes"

// cpuV2: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files, in microseconds.
func (r *reader) cpuV2(c *CPU, dir string) {
	for line := range lines(r.read(dir, "cpu.stat")) {
		switch key, value := word(line); string(key) {
		case "usage_usec":
			c.Usage = number(value) * 1000
		case "user_usec":
			c.User = number(value) * 1000
		case "system_usec":
			c.System = number(value) * 1000
		case "nr_periods":
			c.Periods = number(value)
		case "nr_throttled":
			c.ThrottledPeriods = number(value)
		case "throttled_usec":
			c.ThrottledTime = number(value) * 1000
		}
	}
}

func (r *reader) memoryV2(m *Memory, dir string) {
	var inactive uint64
	for line := range lines(r.read(dir, "memory.stat")) {
		switch key, value := word(line); string(key) {
		case "anon":
			m.RSS = number(value)
		case "file":
			m.Cache = number(value)
		case "kernel":
			m.Kernel = number(value)
		case "file_mapped":
			m.MappedFile = number(value)
		case "inactive_file":
			inactive = number(value)
		case "pgfault":
			m.PageFaults = number(value)
		case "pgmajfault":
			m.MajorPageFaults = number(value)
		}
	}
	m.Usage = number(r.read(dir, "memory.current"))
	m.WorkingSet = m.Usage - min(inactive, m.Usage)
	m.Limit = limit(r.read(dir, "memory.max"))
	m.SwapUsage = number(r.read(dir, "memory.swap.current"))
	if swap := r.read(dir, "memory.swap.max"); len(swap) > 0 && swap[0] != 'm' {
		n := number(swap)
		m.SwapLimit = &n
	}
	if !r.wants(Events) {
		return
	}
	m.MaxUsage = number(r.read(dir, "memory.peak"))
	for line := range lines(r.read(dir, "memory.events")) {
		switch key, value := word(line); string(key) {
		case "max":
			m.FailCount = number(value)
		case "oom_kill":
			m.OOMKills = number(value)
		}
	}
}

// blockIOV2 reads io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func (r *reader) blockIOV2(dir string) []Device {
	var devices []Device
	for line := range lines(r.read(dir, "io.stat")) {
		id, rest := word(line)
		if len(rest) == 0 {
			continue // a device without traffic
		}
		d := device(&devices, id)
		for d != nil && len(rest) > 0 {
			var field []byte
			field, rest = word(rest)
			key, value, _ := bytes.Cut(field, []byte("="))
			switch string(key) {
			case "rbytes":
				d.ReadBytes = number(value)
			case "wbytes":
				d.WriteBytes = number(value)
			case "rios":
				d.ReadOps = number(value)
			case "wios":
				d.WriteOps = number(value)
			}
		}
	}
	return devices
}

func (r *reader) hugetlbV2(dir string) []Hugetlb {
	var list []Hugetlb
	for _, size := range pageSizes() {
		data := r.read(dir, "hugetlb."+size+".current")
		if data == nil {
			return list // the controller is not enabled here, or there would be all sizes
		}
		h := Hugetlb{PageSize: size, Usage: number(data)}
		for line := range lines(r.read(dir, "hugetlb."+size+".events")) {
			if key, value := word(line); string(key) == "max" {
				h.FailCount = number(value)
			}
		}
		list = append(list, h)
	}
	return list
}

// pressure reads the three pressure files; nil where the kernel does not keep them.
func (r *reader) pressure(dir string) *Pressure {
	data := r.read(dir, "cpu.pressure")
	if len(data) == 0 {
		return nil
	}
	p := &Pressure{CPU: parsePSI(data)}
	p.Memory = parsePSI(r.read(dir, "memory.pressure"))
	p.IO = parsePSI(r.read(dir, "io.pressure"))
	return p
}
