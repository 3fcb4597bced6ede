package spec

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/cgroup"
)

// minMemory is the least memory limit in bytes: below it the runtime's own init dies before the container starts.
const minMemory = 6 << 20

// resourcesRule sets the limits of the container's cgroup, after checking each against the host: the kernel's answer
// would be a bare EINVAL or ENOENT, long after the request was accepted.
func resourcesRule(b *builder) error {
	if b.req.Resources == nil {
		return nil
	}
	r, warnings, err := CheckResources(b.req.Resources, b.host)
	if err != nil {
		return err
	}
	b.warnings = append(b.warnings, warnings...)
	b.spec.Linux.Resources = r
	return nil
}

// CheckResources checks limits against the host, for a container to be made or one to be updated. It returns a copy,
// without what this host cannot do and can be left out, and a warning for each such thing. Errors are of class
// ErrInvalidArgument or ErrFailedPrecondition and name the field, the value and the remedy.
func CheckResources(asked *specs.LinuxResources, h *Host) (*specs.LinuxResources, []string, error) {
	data, err := json.Marshal(asked)
	if err != nil {
		return nil, nil, err
	}
	r := &specs.LinuxResources{}
	if h.CgroupDriver == string(cgroup.None) {
		if string(data) == "{}" {
			return r, nil, nil
		}
		return r, []string{"limits have no effect: the daemon may not make control groups here"}, nil
	}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, nil, err
	}
	b := &builder{host: h}
	for _, check := range []func(*specs.LinuxResources) error{
		b.checkControllers, b.checkCPU, b.checkMemory, b.checkPids, b.checkBlockIO, b.checkHugepages, b.checkUnified,
	} {
		if err := check(r); err != nil {
			return nil, nil, err
		}
	}
	return r, b.warnings, nil
}

// checkControllers refuses a limit whose controller is absent: a limit that is silently not kept is worse than none.
func (b *builder) checkControllers(r *specs.LinuxResources) error {
	if b.host.Controllers == nil {
		return nil
	}
	cpu, cpuset := false, false
	if c := r.CPU; c != nil {
		cpu = c.Shares != nil || c.Quota != nil || c.Period != nil || c.Burst != nil || c.Idle != nil || c.RealtimeRuntime != nil || c.RealtimePeriod != nil
		cpuset = c.Cpus != "" || c.Mems != ""
	}
	io := "blkio"
	if b.host.CgroupMode == cgroupV2 {
		io = "io"
	}
	for _, need := range []struct {
		asked      bool
		controller string
	}{
		{cpu, "cpu"},
		{cpuset, "cpuset"},
		{r.Memory != nil && *r.Memory != specs.LinuxMemory{}, "memory"},
		{r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0, "pids"},
		{r.BlockIO != nil, io},
		{len(r.HugepageLimits) > 0, "hugetlb"},
		{len(r.Rdma) > 0, "rdma"},
		{r.Network != nil && r.Network.ClassID != nil, "net_cls"},
		{r.Network != nil && len(r.Network.Priorities) > 0, "net_prio"},
	} {
		if need.asked && !slices.Contains(b.host.Controllers, need.controller) {
			return unable("the %s controller isn't mounted on this host: leave its limits out, or mount it", need.controller)
		}
	}
	return nil
}

// checkCPU: https://docs.kernel.org/scheduler/sched-bwc.html for quota and period, in microseconds.
func (b *builder) checkCPU(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if s := c.Shares; s != nil && *s != 0 && (*s < 2 || *s > 262144) {
		return invalid("cpu shares %d: they go from 2 to 262144, and 1024 is the default", *s)
	}
	if p := c.Period; p != nil && *p != 0 && (*p < 1000 || *p > 1_000_000) {
		return invalid("cpu period %d: it goes from 1000 to 1000000 microseconds", *p)
	}
	if q := c.Quota; q != nil && *q > 0 && *q < 1000 {
		return invalid("cpu quota %d: the least is 1000 microseconds in a period, 0.01 of a cpu", *q)
	}
	if c.Burst != nil && (c.Quota == nil || *c.Quota <= 0 || *c.Burst > uint64(*c.Quota)) {
		return invalid("cpu burst %d: it needs a quota that is at least as large", *c.Burst)
	}
	if i := c.Idle; i != nil && *i != 0 && *i != 1 {
		return invalid("cpu idle %d: it is 0 or 1", *i)
	}
	if err := b.checkCPUs("cpuset", c.Cpus); err != nil {
		return err
	}
	return checkSubset("cpuset memory nodes", c.Mems, b.host.MemoryNodes, "memory nodes")
}

// checkCPUs refuses a list that names CPUs the machine does not have.
func (b *builder) checkCPUs(field, list string) error {
	return checkSubset(field, list, b.host.CPUs, "cpus")
}

func checkSubset(field, list, have, what string) error {
	if list == "" {
		return nil
	}
	wanted, err := ParseList(list)
	if err != nil {
		return invalid("%s %q: %v; write it like 0-3,5", field, list, err)
	}
	present, err := ParseList(have)
	if err != nil || have == "" {
		return nil // the host's own list is not known
	}
	for _, n := range wanted {
		if !slices.Contains(present, n) {
			return invalid("%s %s: this machine has %s %s", field, list, what, have)
		}
	}
	return nil
}

// checkMemory: limits in bytes; -1 is no limit.
func (b *builder) checkMemory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	limit := int64(0)
	if m.Limit != nil {
		limit = *m.Limit
	}
	if limit > 0 && limit < minMemory {
		return invalid("memory %d bytes: the least is 6 MiB (%d), what a container needs to start", limit, minMemory)
	}
	if m.Reservation != nil && *m.Reservation > 0 && limit > 0 && *m.Reservation > limit {
		return invalid("memory reservation %d: it is above the limit %d", *m.Reservation, limit)
	}
	if s := m.Swappiness; s != nil {
		if *s > 100 {
			return invalid("memory swappiness %d: it goes from 0 to 100", *s)
		}
		if b.host.CgroupMode == cgroupV2 {
			b.warn("memory swappiness: cgroup v2 has none for a group, so it is left out")
			m.Swappiness = nil
		}
	}
	//lint:ignore SA1019 read to be dropped
	if m.Kernel != nil || m.KernelTCP != nil {
		b.warn("kernel memory limits: Linux 5.16 and later have none, so they are left out")
		//lint:ignore SA1019 as above
		m.Kernel, m.KernelTCP = nil, nil
	}
	return b.checkSwap(m, limit)
}

// checkSwap: memory.swap of the runtime spec is memory and swap together.
func (b *builder) checkSwap(m *specs.LinuxMemory, limit int64) error {
	s := m.Swap
	if s == nil || *s == 0 {
		return nil
	}
	switch {
	case *s > 0 && limit <= 0:
		return invalid("memory swap %d: it is the sum of memory and swap, so it needs a memory limit", *s)
	case *s > 0 && *s < limit:
		return invalid("memory swap %d: it is the sum of memory and swap, and below the memory limit %d", *s, limit)
	case *s < -1:
		return invalid("memory swap %d: use -1 for no limit", *s)
	}
	if b.host.NoSwapLimit {
		b.warn("memory swap %d: this kernel doesn't account swap to cgroups, so only the memory is limited", *s)
		m.Swap = nil
	}
	return nil
}

// checkPids drops what means "no limit" to Docker; the runtime spec says -1.
func (b *builder) checkPids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	if n := *r.Pids.Limit; n <= 0 {
		none := int64(-1)
		r.Pids.Limit = &none
		if b.host.Controllers != nil && !slices.Contains(b.host.Controllers, "pids") {
			r.Pids = nil
		}
	}
	return nil
}

// checkBlockIO: weights go from 10 to 1000, and the kernel before 5.0 had them with the CFQ scheduler only.
func (b *builder) checkBlockIO(r *specs.LinuxResources) error {
	io := r.BlockIO
	if io == nil {
		return nil
	}
	for field, w := range map[string]*uint16{"blkio weight": io.Weight, "blkio leaf weight": io.LeafWeight} {
		if w != nil && *w != 0 && (*w < 10 || *w > 1000) {
			return invalid("%s %d: it goes from 10 to 1000", field, *w)
		}
	}
	for _, d := range io.WeightDevice {
		if d.Weight != nil && *d.Weight != 0 && (*d.Weight < 10 || *d.Weight > 1000) {
			return invalid("blkio weight %d of device %d:%d: it goes from 10 to 1000", *d.Weight, d.Major, d.Minor)
		}
	}
	return nil
}

// checkHugepages refuses sizes that the host has not; "2MB" is the cgroup's spelling, "2Mi" and "2M" are understood.
func (b *builder) checkHugepages(r *specs.LinuxResources) error {
	seen := make(map[string]bool)
	for i := range r.HugepageLimits {
		h := &r.HugepageLimits[i]
		size := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(h.Pagesize), "B"), "I") + "B"
		if len(b.host.PageSizes) > 0 && !slices.Contains(b.host.PageSizes, size) {
			return invalid("hugepage size %s: this machine has %s", h.Pagesize, strings.Join(b.host.PageSizes, ", "))
		}
		if seen[size] {
			return invalid("hugepage size %s is limited twice", size)
		}
		seen[size], h.Pagesize = true, size
	}
	return nil
}

// checkUnified: files of cgroup v2 by name, written as they are.
func (b *builder) checkUnified(r *specs.LinuxResources) error {
	if len(r.Unified) == 0 {
		return nil
	}
	if m := b.host.CgroupMode; m != "" && m != cgroupV2 {
		return unable("unified limits are files of cgroup v2, and this host's layout is %s: use the named limits", m)
	}
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		controller, knob, ok := strings.Cut(file, ".")
		if !ok || controller == "" || knob == "" || strings.ContainsAny(file, "/\x00") {
			return invalid("unified %q: it must be a file of cgroup v2, like memory.high", file)
		}
		if controller != "cgroup" && b.host.Controllers != nil && !slices.Contains(b.host.Controllers, controller) {
			return unable("unified %s: the %s controller isn't enabled on this host", file, controller)
		}
	}
	return nil
}
