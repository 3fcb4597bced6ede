package supervisor

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func (s *Supervisor) update(u wire.Update) error {
	c, _, err := s.running(containerKey(u.Process))
	if err != nil {
		return err
	}
	var r specs.LinuxResources
	if err := json.Unmarshal(u.Resources, &r); err != nil {
		return fmt.Errorf("%s: new limits: %w: %w", name(u.Process), err, errdefs.ErrInvalidArgument)
	}
	return c.rt.update(&r)
}

// updated is the container's cgroup with the limits that r sets; the others stay as they are.
func updated(old *cgroups.Cgroup, r *specs.LinuxResources) (*cgroups.Cgroup, error) {
	group, resources := *old, cgroups.Resources{}
	if old.Resources != nil {
		resources = *old.Resources
	}
	updateMemory(&resources, r.Memory)
	updateCPU(&resources, r.CPU)
	updateBlockIO(&resources, r.BlockIO)
	if r.Pids != nil && r.Pids.Limit != nil {
		resources.PidsLimit = r.Pids.Limit
	}
	for _, l := range r.HugepageLimits {
		resources.HugetlbLimit = append(resources.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: l.Pagesize, Limit: l.Limit})
	}
	if len(r.Unified) > 0 {
		if !cgroups.IsCgroup2UnifiedMode() {
			return nil, fmt.Errorf("new limits: unified needs cgroup v2, and this host has v1: %w", errdefs.ErrInvalidArgument)
		}
		resources.Unified = r.Unified
	}
	// Devices cannot be updated; without this their rules would be written again.
	resources.SkipDevices = true
	group.Resources = &resources
	return &group, nil
}

func updateMemory(to *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	set(&to.Memory, m.Limit)
	set(&to.MemorySwap, m.Swap)
	if m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		to.MemorySwap = -1 // swap counts memory too, and cannot be below it
	}
	set(&to.MemoryReservation, m.Reservation)
	set(&to.MemoryCheckBeforeUpdate, m.CheckBeforeUpdate)
}

func updateCPU(to *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil {
		to.CpuShares = *c.Shares
		to.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	set(&to.CpuPeriod, c.Period)
	set(&to.CpuQuota, c.Quota)
	set(&to.CpuRtPeriod, c.RealtimePeriod)
	set(&to.CpuRtRuntime, c.RealtimeRuntime)
	if c.Burst != nil {
		to.CpuBurst = c.Burst
	}
	if c.Idle != nil {
		to.CPUIdle = c.Idle
	}
	if c.Cpus != "" {
		to.CpusetCpus = c.Cpus
	}
	if c.Mems != "" {
		to.CpusetMems = c.Mems
	}
}

func updateBlockIO(to *cgroups.Resources, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	set(&to.BlkioWeight, b.Weight)
	set(&to.BlkioLeafWeight, b.LeafWeight)
	for _, w := range b.WeightDevice {
		var weight, leaf uint16
		set(&weight, w.Weight)
		set(&leaf, w.LeafWeight)
		to.BlkioWeightDevice = append(to.BlkioWeightDevice, cgroups.NewWeightDevice(w.Major, w.Minor, weight, leaf))
	}
	throttle := func(to *[]*cgroups.ThrottleDevice, from []specs.LinuxThrottleDevice) {
		for _, t := range from {
			*to = append(*to, cgroups.NewThrottleDevice(t.Major, t.Minor, t.Rate))
		}
	}
	throttle(&to.BlkioThrottleReadBpsDevice, b.ThrottleReadBpsDevice)
	throttle(&to.BlkioThrottleWriteBpsDevice, b.ThrottleWriteBpsDevice)
	throttle(&to.BlkioThrottleReadIOPSDevice, b.ThrottleReadIOPSDevice)
	throttle(&to.BlkioThrottleWriteIOPSDevice, b.ThrottleWriteIOPSDevice)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
