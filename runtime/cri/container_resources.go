package cri

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
)

// linuxResources translates limits. 0 and "" say nothing, both for a new container and for one that is updated; nil when
// nothing is said at all.
func linuxResources(r *v1.LinuxContainerResources, h *spec.Host) (*specs.LinuxResources, error) {
	if r == nil {
		return nil, nil
	}
	out := &specs.LinuxResources{}
	cpu := specs.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()}
	if r.GetCpuPeriod() < 0 || r.GetCpuShares() < 0 {
		return nil, invalid("cpu period %d, shares %d: they can't be negative", r.GetCpuPeriod(), r.GetCpuShares())
	}
	if v := uint64(r.GetCpuPeriod()); v != 0 {
		cpu.Period = &v
	}
	if v := r.GetCpuQuota(); v != 0 {
		cpu.Quota = &v
	}
	if v := uint64(r.GetCpuShares()); v != 0 {
		cpu.Shares = &v
	}
	if cpu != (specs.LinuxCPU{}) {
		out.CPU = &cpu
	}
	memory, err := memoryLimits(r, h)
	if err != nil {
		return nil, err
	}
	out.Memory = memory
	if err := checkCount("hugepage limits", len(r.GetHugepageLimits())); err != nil {
		return nil, err
	}
	for _, l := range r.GetHugepageLimits() {
		if l.GetLimit() == 0 && h.Controllers != nil && !slices.Contains(h.Controllers, "hugetlb") {
			continue // the kubelet forbids what it was not asked for, also where nobody could have any
		}
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: l.GetPageSize(), Limit: l.GetLimit()})
	}
	if err := checkCount("unified limits", len(r.GetUnified())); err != nil {
		return nil, err
	}
	if len(r.GetUnified()) > 0 {
		out.Unified = r.GetUnified()
	}
	if out.CPU == nil && out.Memory == nil && out.HugepageLimits == nil && out.Unified == nil {
		return nil, nil
	}
	return out, nil
}

// memoryLimits sets memory and swap. Swap is the sum of both in the runtime spec; where the client says nothing of it, the
// container has none, as Kubernetes wants it.
func memoryLimits(r *v1.LinuxContainerResources, h *spec.Host) (*specs.LinuxMemory, error) {
	limit, swap := r.GetMemoryLimitInBytes(), r.GetMemorySwapLimitInBytes()
	if limit < -1 || swap < -1 {
		return nil, invalid("memory limit %d, swap limit %d: use -1 for no limit", limit, swap)
	}
	if limit == 0 && swap == 0 {
		return nil, nil
	}
	m := &specs.LinuxMemory{}
	if limit != 0 {
		m.Limit = &limit
	}
	switch {
	case swap != 0:
		m.Swap = &swap
	case !h.NoSwapLimit:
		m.Swap = &limit
	}
	return m, nil
}

// criResources is linuxResources the other way: what a container has now.
func criResources(r *specs.LinuxResources, oomScoreAdj *int) *v1.LinuxContainerResources {
	out := &v1.LinuxContainerResources{}
	if oomScoreAdj != nil {
		out.OomScoreAdj = int64(*oomScoreAdj)
	}
	if r == nil {
		return out
	}
	if c := r.CPU; c != nil {
		out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
		out.CpuPeriod, out.CpuShares = int64(value(c.Period)), int64(value(c.Shares))
		out.CpuQuota = value(c.Quota)
	}
	if m := r.Memory; m != nil {
		out.MemoryLimitInBytes, out.MemorySwapLimitInBytes = value(m.Limit), value(m.Swap)
	}
	for _, h := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, &v1.HugepageLimit{PageSize: h.Pagesize, Limit: h.Limit})
	}
	out.Unified = r.Unified
	return out
}

// value is what a pointer points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
