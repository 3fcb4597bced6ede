package policy

import (
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/tuning"
)

// Variables that tell a container which processors are what; the names are those that programs know.
const (
	isolatedVariable     = "OPENSHIFT_ISOLATED_CPUS"
	sharedVariable       = "OPENSHIFT_SHARED_CPUS"
	housekeepingVariable = "OPENSHIFT_HOUSEKEEPING_CPUS"
)

// processors reads what a pod wants for processors that it has to itself, and where executed processes are to run.
func (c *making) processors() error {
	w := tuning.Wish{CPUs: c.cpus()}
	own, err := spec.ParseList(w.CPUs)
	if err != nil {
		return invalid("cpuset %.64q: %s", w.CPUs, err)
	}
	if w.NoLoadBalancing, err = c.disabled(cpuLoadBalancing); err != nil {
		return err
	}
	if w.NoQuota, err = c.disabled(cpuQuota); err != nil {
		return err
	}
	w.CStates, _ = c.annotation(cpuCStates)
	w.Governor, _ = c.annotation(cpuGovernor)
	if text, ok := c.annotation(irqBalancing); ok && text != "housekeeping" {
		off, err := c.disabled(irqBalancing)
		if err != nil {
			return err
		}
		if off {
			w.Interrupts = "disable"
		}
	} else if ok {
		w.Interrupts = text
		c.setenv(housekeepingVariable, spec.FormatList(c.housekeeping(own)))
	}
	if err := w.Check(); err != nil {
		return err
	}
	if w != (tuning.Wish{CPUs: w.CPUs}) {
		c.o.Tuning = &w
	}
	if w.NoQuota {
		none := int64(-1)
		c.cpu().Quota = &none
	}
	shared, err := c.shareProcessors(own)
	if err != nil {
		return err
	}
	if c.handler.ExecCPUAffinity == "first" {
		if first := slices.Concat(shared, own); len(first) > 0 {
			c.r.CPUAffinity = &specs.CPUAffinity{Initial: strconv.Itoa(first[0])}
		}
	}
	return nil
}

func (c *making) housekeeping(own []int) []int {
	if c.s.Housekeeping != nil {
		return c.s.Housekeeping(own)
	}
	return own[:min(1, len(own))]
}

// shareProcessors adds the shared processors to those that the container has to itself, when it asks for that.
func (c *making) shareProcessors(own []int) ([]int, error) {
	text, ok := c.annotation(cpuShared)
	if !ok || text != "enable" {
		return nil, nil
	}
	shared, err := spec.ParseList(c.s.SharedCPUs)
	if err != nil || len(shared) == 0 {
		return nil, unable("annotation %s: there are no shared processors: set cri.shared_cpuset", cpuShared.name)
	}
	if len(own) == 0 {
		return nil, invalid("annotation %s: the container has no processors of its own, which shared ones could be added to", cpuShared.name)
	}
	c.setenv(isolatedVariable, spec.FormatList(own))
	c.setenv(sharedVariable, spec.FormatList(shared))
	all := slices.Concat(own, shared)
	slices.Sort(all)
	c.cpu().Cpus = spec.FormatList(slices.Compact(all))
	return shared, nil
}

// setenv sets a variable that the client has not set.
func (c *making) setenv(key, v string) {
	if !slices.ContainsFunc(c.r.Env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") }) {
		c.r.Env = append(slices.Clone(c.r.Env), key+"="+v)
	}
}

// gomaxprocs tells Go programs how many processors a container without a quota may count on: twice its share, for what
// others leave idle, and no less than the configuration says. Pods of guaranteed quality have their own processors, and
// those of a workload what that says.
func (c *making) gomaxprocs() {
	_, partitioned := c.s.workload(c.sandbox.GetAnnotations())
	parent := path.Clean(c.pod.Cgroup)
	others := strings.Contains(parent, "burstable") || strings.Contains(parent, "besteffort")
	if c.s.MinGOMAXPROCS <= 0 || partitioned || !others || c.sandbox.GetAnnotations()[skipGOMAXPROCS] == "true" {
		return
	}
	var cpu specs.LinuxCPU
	if c.r.Resources != nil {
		cpu = value(c.r.Resources.CPU)
	}
	if value(cpu.Quota) > 0 {
		return
	}
	procs := max(int64(value(cpu.Shares)*2+1023)/1024, 1, c.s.MinGOMAXPROCS)
	if !slices.ContainsFunc(c.r.Defaults.Env, func(kv string) bool { return strings.HasPrefix(kv, "GOMAXPROCS=") }) {
		c.r.Defaults.Env = append(slices.Clone(c.r.Defaults.Env), "GOMAXPROCS="+strconv.FormatInt(procs, 10))
	}
}

// classes sets those of block I/O and of RDT.
func (c *making) classes() error {
	if c.s.Classes == nil {
		return nil
	}
	own, pods := c.config.GetAnnotations(), c.sandbox.GetAnnotations()
	limits, err := c.s.Classes.BlockIO(c.name, own, pods)
	if err != nil {
		return err
	}
	if limits != nil {
		c.r.Resources = orNew(c.r.Resources)
		c.r.Resources.BlockIO = limits
	}
	c.r.RDTClass, err = c.s.Classes.RDT(c.name, own, pods)
	return err
}
