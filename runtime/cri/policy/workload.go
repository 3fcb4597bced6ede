package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/minirt/mini/oci/spec"
)

// Workload is a kind of pods that is recognised by an annotation, and whose containers' processors the owner of the node
// decides, not the kubelet.
type Workload struct {
	Activation         string // the annotation
	Prefix             string // PREFIX/CONTAINER is an annotation with a WorkloadResources as JSON, over the default ones
	AllowedAnnotations []string
	Resources          WorkloadResources
}

// WorkloadResources are limits of processors; what is zero is not changed.
type WorkloadResources struct {
	CPUShares uint64 `json:"cpushares,omitempty" toml:"cpushares" comment:"Of the processor among others, 2 to 262144."`
	CPUQuota  int64  `json:"cpuquota,omitempty" toml:"cpuquota" comment:"Microseconds in a period; -1: no limit."`
	CPUPeriod uint64 `json:"cpuperiod,omitempty" toml:"cpuperiod" comment:"Microseconds, 1000 to 1000000."`
	CPUSet    string `json:"cpuset,omitempty" toml:"cpuset" comment:"A list of processors."`
	CPULimit  int64  `json:"cpulimit,omitempty" toml:"cpulimit" comment:"Thousandths of a processor; sets the quota."`
}

// Check refuses limits that cannot be meant.
func (r WorkloadResources) Check() error {
	if _, err := spec.ParseList(r.CPUSet); err != nil {
		return invalid("cpuset %.64q: %s", r.CPUSet, err)
	}
	switch {
	case r.CPUShares != 0 && (r.CPUShares < 2 || r.CPUShares > 262144):
		return invalid("cpushares %d: they go from 2 to 262144", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return invalid("cpuperiod %d: it goes from 1000 to 1000000 microseconds", r.CPUPeriod)
	case r.CPUQuota < -1 || r.CPUQuota > 0 && r.CPUQuota < 1000:
		return invalid("cpuquota %d: the least is 1000 microseconds; -1 is no limit", r.CPUQuota)
	case r.CPULimit < 0:
		return invalid("cpulimit %d: it can't be negative", r.CPULimit)
	}
	return nil
}

// workload is the one that a pod chooses; of several the first by name.
func (s *Settings) workload(pod map[string]string) (Workload, bool) {
	for _, name := range slices.Sorted(maps.Keys(s.Workloads)) {
		w := s.Workloads[name]
		if _, ok := pod[w.Activation]; ok {
			return w, true
		}
	}
	return Workload{}, false
}

// workload gives a container the processors of its pod's workload.
func (c *making) workload() error {
	w, ok := c.s.workload(c.sandbox.GetAnnotations())
	if !ok {
		return nil
	}
	r := w.Resources
	if text, ok := c.sandbox.GetAnnotations()[w.Prefix+"/"+c.name]; ok && w.Prefix != "" {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil { // over the default ones
			return invalid("annotation %s/%s: %v: give JSON with cpushares, cpuquota, cpuperiod, cpuset and cpulimit", w.Prefix, c.name, err)
		}
	}
	if err := r.Check(); err != nil {
		return err
	}
	if r.CPULimit > 0 {
		period := r.CPUPeriod
		if period == 0 {
			period = 100_000
		}
		r.CPUQuota = max(r.CPULimit*int64(period)/1000, 1000)
	}
	if r == (WorkloadResources{}) {
		return nil
	}
	cpu := c.cpu()
	if r.CPUShares > 0 {
		cpu.Shares = &r.CPUShares
	}
	if r.CPUQuota != 0 {
		cpu.Quota = &r.CPUQuota
	}
	if r.CPUPeriod > 0 {
		cpu.Period = &r.CPUPeriod
	}
	if r.CPUSet != "" {
		cpu.Cpus = r.CPUSet
	}
	return nil
}
