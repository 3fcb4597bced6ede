package tuning

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
)

const cgroupRoot = "/sys/fs/cgroup"

// hostChanges are those that a wish makes to the host.
func (t *Tuner) hostChanges(w Wish) ([]change, error) {
	cpus, err := spec.ParseList(w.CPUs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	var changes []change
	for _, n := range cpus {
		dir := filepath.Join(t.Root, "sys/devices/system/cpu", fmt.Sprintf("cpu%d", n))
		if w.CStates != "" {
			value, err := latency(w.CStates)
			if err != nil {
				return nil, err
			}
			changes = append(changes, change{path: filepath.Join(dir, "power/pm_qos_resume_latency_us"), kind: set, want: value})
		}
		if w.Governor != "" {
			if err := checkGovernor(dir, w.Governor); err != nil {
				return nil, err
			}
			changes = append(changes, change{path: filepath.Join(dir, "cpufreq/scaling_governor"), kind: set, want: w.Governor})
		}
	}
	if w.Interrupts == "" {
		return changes, nil
	}
	quiet := cpus
	if w.Interrupts == "housekeeping" {
		keep := Housekeeping(t.Root, cpus)
		quiet = slices.DeleteFunc(slices.Clone(cpus), func(n int) bool { return slices.Contains(keep, n) })
	}
	want := spec.FormatList(quiet)
	if want == "" {
		return changes, nil
	}
	changes = append(changes, change{path: filepath.Join(t.Root, "proc/irq/default_smp_affinity"), kind: without, want: want})
	if t.IRQBalance != "" {
		path := filepath.Join(t.Root, t.IRQBalance)
		if _, err := os.Stat(path); err == nil {
			changes = append(changes, change{path: path, kind: banned, want: want})
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return changes, nil
}

func checkGovernor(dir, governor string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cpufreq/scaling_available_governors"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("frequency governor %s: the frequency of %s cannot be changed here: leave the annotation out: %w", governor, filepath.Base(dir), errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return err
	}
	if have := strings.Fields(string(data)); !slices.Contains(have, governor) {
		return fmt.Errorf("frequency governor %s: %s has %s: %w", governor, filepath.Base(dir), strings.Join(have, ", "), errdefs.ErrInvalidArgument)
	}
	return nil
}

// Housekeeping are those of a container's processors that keep the interrupts when the others have none: the first one, and
// the others of its core.
func Housekeeping(root string, cpus []int) []int {
	if len(cpus) == 0 {
		return nil
	}
	first := cpus[0]
	data, err := os.ReadFile(filepath.Join(root, "sys/devices/system/cpu", fmt.Sprintf("cpu%d/topology/thread_siblings_list", first)))
	siblings, bad := spec.ParseList(strings.TrimSpace(string(data)))
	if err != nil || bad != nil {
		siblings = []int{first}
	}
	return slices.DeleteFunc(slices.Clone(cpus), func(n int) bool { return !slices.Contains(siblings, n) })
}

// groupChanges are those that a wish makes to cgroups.
func (t *Tuner) groupChanges(w Wish, groups map[string]string) ([]change, error) {
	var changes []change
	unified, cpu, cpuset := groups[""], groups["cpu"], groups["cpuset"]
	if w.NoQuota {
		switch {
		case cpu != "":
			changes = append(changes, change{path: filepath.Join(filepath.Dir(cpu), "cpu.cfs_quota_us"), kind: set, want: "-1", once: true})
		case unified != "":
			changes = append(changes, change{path: filepath.Join(filepath.Dir(unified), "cpu.max"), kind: set, want: "max", once: true})
		}
	}
	if !w.NoLoadBalancing {
		return changes, nil
	}
	switch {
	case cpuset != "":
		return append(changes, change{path: filepath.Join(cpuset, "cpuset.sched_load_balance"), kind: set, want: "0", once: true}), nil
	case unified == "":
		return nil, fmt.Errorf("load balancing: the container has no cpuset group: mount that controller, or leave the annotation out: %w", errdefs.ErrFailedPrecondition)
	}
	return append(changes, isolated(unified, w.CPUs)...), nil
}

// isolated makes a group of cgroup v2 a partition of its own. Its processors must be marked as exclusive in every group on
// the way down (Documentation/admin-guide/cgroup-v2.rst, "cpuset.cpus.exclusive", Linux 6.7); those above it are others' too.
func isolated(group, cpus string) []change {
	var changes []change
	for dir := filepath.Dir(group); strings.HasPrefix(dir, cgroupRoot+"/"); dir = filepath.Dir(dir) {
		changes = append([]change{{path: filepath.Join(dir, "cpuset.cpus.exclusive"), kind: with, want: cpus}}, changes...)
	}
	return append(changes,
		change{path: filepath.Join(group, "cpuset.cpus.exclusive"), kind: set, want: cpus, once: true},
		change{path: filepath.Join(group, "cpuset.cpus.partition"), kind: set, want: "isolated", once: true})
}
