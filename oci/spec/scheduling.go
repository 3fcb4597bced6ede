package spec

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// schedulingRule sets the CPU scheduler (sched_setattr(2)), the I/O priority (ioprio_set(2)) and the CPU affinity of
// executed processes.
func schedulingRule(b *builder) error {
	if s := b.req.Scheduler; s != nil {
		if err := checkScheduler(s); err != nil {
			return err
		}
		c := *s
		c.Flags = slices.Clone(s.Flags)
		b.spec.Process.Scheduler = &c
	}
	if p := b.req.IOPriority; p != nil {
		switch p.Class {
		case specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE:
		default:
			return invalid("i/o priority class %q: use IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE", p.Class)
		}
		if p.Priority < 0 || p.Priority > 7 {
			return invalid("i/o priority %d: it goes from 0 (first) to 7", p.Priority)
		}
		c := *p
		b.spec.Process.IOPriority = &c
	}
	if a := b.req.CPUAffinity; a != nil {
		for field, list := range map[string]string{"initial": a.Initial, "final": a.Final} {
			if err := b.checkCPUs("cpu affinity "+field, list); err != nil {
				return err
			}
		}
		c := *a
		b.spec.Process.ExecCPUAffinity = &c
	}
	return nil
}

func checkScheduler(s *specs.Scheduler) error {
	switch s.Policy {
	case specs.SchedOther, specs.SchedBatch, specs.SchedIdle, specs.SchedISO:
		if s.Priority != 0 {
			return invalid("scheduler %s: a priority (%d) is for SCHED_FIFO and SCHED_RR; use nice", s.Policy, s.Priority)
		}
	case specs.SchedFIFO, specs.SchedRR:
		if s.Priority < 1 || s.Priority > 99 {
			return invalid("scheduler %s: priority %d: it goes from 1 to 99", s.Policy, s.Priority)
		}
	case specs.SchedDeadline:
		if s.Runtime == 0 || s.Runtime > s.Deadline || (s.Period != 0 && s.Deadline > s.Period) {
			return invalid("scheduler SCHED_DEADLINE: it needs runtime ≤ deadline ≤ period, and has %d, %d, %d ns", s.Runtime, s.Deadline, s.Period)
		}
	default:
		return invalid("scheduler policy %q: use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR or SCHED_DEADLINE", s.Policy)
	}
	if s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		return invalid("scheduler %s: runtime, deadline and period are for SCHED_DEADLINE", s.Policy)
	}
	if s.Nice < -20 || s.Nice > 19 {
		return invalid("scheduler nice %d: it goes from -20 (first) to 19", s.Nice)
	}
	return nil
}

// memoryPolicyRule sets on which NUMA nodes the process's memory is (set_mempolicy(2)).
func memoryPolicyRule(b *builder) error {
	p := b.req.MemoryPolicy
	if p == nil {
		return nil
	}
	switch p.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if p.Nodes != "" {
			return invalid("%s takes no nodes, and %s are given", p.Mode, p.Nodes)
		}
	case specs.MpolBind, specs.MpolInterleave, specs.MpolWeightedInterleave, specs.MpolPreferredMany:
		if p.Nodes == "" {
			return invalid("%s needs nodes; this machine has %s", p.Mode, b.host.MemoryNodes)
		}
	case specs.MpolPreferred: // without nodes it is MPOL_LOCAL
	default:
		return invalid("mode %q: for example MPOL_BIND or MPOL_PREFERRED", p.Mode)
	}
	if err := checkSubset("nodes", p.Nodes, b.host.MemoryNodes, "memory nodes"); err != nil {
		return err
	}
	for _, f := range p.Flags {
		if f != specs.MpolFNumaBalancing && f != specs.MpolFRelativeNodes && f != specs.MpolFStaticNodes {
			return invalid("flag %q: use MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES or MPOL_F_STATIC_NODES", f)
		}
	}
	c := *p
	c.Flags = slices.Clone(p.Flags)
	b.spec.Linux.MemoryPolicy = &c
	return nil
}

// personalityRule sets the execution domain (personality(2)).
func personalityRule(b *builder) error {
	switch d := specs.LinuxPersonalityDomain(b.req.Personality); d {
	case "":
	case specs.PerLinux, specs.PerLinux32:
		b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: d}
	default:
		return invalid("%q: use LINUX or LINUX32", b.req.Personality)
	}
	return nil
}

// rdtRule sets Intel's cache and memory-bandwidth allocation, by a class or in detail.
func rdtRule(b *builder) error {
	if b.req.IntelRdt == nil && b.req.RDTClass == "" {
		return nil
	}
	if !b.host.IntelRdt {
		return unable("this host has no resctrl filesystem: mount it at /sys/fs/resctrl if the CPU has RDT, or leave the class out")
	}
	rdt := &specs.LinuxIntelRdt{}
	if b.req.IntelRdt != nil {
		*rdt = *b.req.IntelRdt
	}
	if c := b.req.RDTClass; c != "" {
		if rdt.ClosID != "" && rdt.ClosID != c {
			return invalid("classes %q and %q are both asked for", c, rdt.ClosID)
		}
		rdt.ClosID = c
	}
	b.spec.Linux.IntelRdt = rdt
	return nil
}
