package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// cpuTree is a host's /proc and /sys as far as processors are tuned by them, with two processors of one core each.
func cpuTree(t *testing.T) (root string, read func(string) string) {
	t.Helper()
	root = testenv.Dir(t)
	for i := range 2 {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", i)
		write(t, root, dir+"power/pm_qos_resume_latency_us", "0\n")
		write(t, root, dir+"cpufreq/scaling_governor", "powersave\n")
		write(t, root, dir+"cpufreq/scaling_available_governors", "performance powersave\n")
		write(t, root, dir+"topology/thread_siblings_list", fmt.Sprintln(i))
	}
	write(t, root, "proc/irq/default_smp_affinity", "3\n")
	write(t, root, "etc/irqbalance", "IRQBALANCE_BANNED_CPUS=\"\"\n")
	return root, func(path string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(root, path))
		check(t, err)
		return strings.TrimSpace(string(data))
	}
}

// pidOf is the first process of a container.
func pidOf(t *testing.T, c *testenv.CRI, id string) int {
	t.Helper()
	answer, err := c.Runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	check(t, err)
	var info struct{ PID int }
	check(t, json.Unmarshal([]byte(answer.Info["info"]), &info))
	if info.PID == 0 {
		t.Fatalf("container %s has no process: %v", id, answer.Info)
	}
	return info.PID
}

// TestCRIRowsTuning: a container with a processor of its own has the host changed for it by annotations; what was changed is
// given back when it ends, when the daemon is killed meanwhile, and when it is killed in the middle of the change.
func TestCRIRowsTuning(t *testing.T) {
	root, read := cpuTree(t)
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[cri]
tuning_root = %q
irqbalance_config_file = "/etc/irqbalance"
shared_cpuset = "0"
[runtimes.fast]
inherit_default_runtime = true
exec_cpu_affinity = "first"
allowed_annotations = ["cpu-c-states.crio.io", "cpu-freq-governor.crio.io", "irq-load-balancing.crio.io", "cpu-quota.crio.io", "cpu-load-balancing.crio.io", "cpu-shared.crio.io"]
`, root)})
	c := s.CRI.In(t)
	host := func() string {
		return strings.Join([]string{
			read("sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us"), read("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us"),
			read("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"), read("proc/irq/default_smp_affinity"), read("etc/irqbalance"),
		}, " ")
	}
	const untouched, tuned = `0 0 powersave 3 IRQBALANCE_BANNED_CPUS=""`, `0 n/a performance 1 IRQBALANCE_BANNED_CPUS="2"`
	givenBack := func(when string) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, "the host is as before "+when, func() bool { return host() == untouched })
	}
	annotations := map[string]string{
		"cpu-c-states.crio.io": "disable", "cpu-freq-governor.crio.io": "performance", "irq-load-balancing.crio.io": "disable",
		"cpu-quota.crio.io/main": "disable", "cpu-load-balancing.crio.io": "disable", "cpu-shared.crio.io/shares": "enable",
	}
	pinned := func(name string) *runtimeapi.ContainerConfig {
		return sleeper(func(c *runtimeapi.ContainerConfig) {
			c.Metadata.Name = name
			c.Linux.Resources.CpusetCpus, c.Linux.Resources.CpuPeriod, c.Linux.Resources.CpuQuota = "1", 100000, 50000
		})
	}
	pod := mustHandled(t, s, "fast", annotations)
	id := started(pod, pinned("main"))
	if got := host(); got != tuned {
		t.Errorf("the host: %s", got)
	}
	script := "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us; cat /sys/fs/cgroup/cpuset/cpuset.sched_load_balance; grep Cpus_allowed_list /proc/self/status"
	if _, err := os.Stat("/sys/fs/cgroup/cpuset"); err == nil {
		if got := strings.Join(strings.Fields(c.Exec(id, "sh", "-c", script)), " "); got != "-1 0 Cpus_allowed_list: 1" {
			t.Errorf("in the container: %s", got)
		}
	}
	_, err := s.Runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id})
	check(t, err)
	givenBack("when the container has ended")

	id = started(pod, pinned("shares"))
	got := c.Exec(id, "sh", "-c", "grep Cpus_allowed_list /proc/1/status; echo $OPENSHIFT_ISOLATED_CPUS $OPENSHIFT_SHARED_CPUS")
	if strings.Join(strings.Fields(got), " ") != "Cpus_allowed_list: 0-1 1 0" {
		t.Errorf("shared processors: %s", got)
	}
	s.Daemon.Kill9()
	if got := host(); got != tuned {
		t.Errorf("the host, without a daemon: %s", got)
	}
	s.Daemon.Start()
	if got := host(); got != tuned {
		t.Errorf("the host, while the container runs on: %s", got)
	}
	pid := pidOf(t, c, id)
	s.Daemon.Kill9()
	check(t, syscall.Kill(pid, syscall.SIGKILL))
	s.Daemon.Start()
	givenBack("when the container has ended without a daemon")

	none := sleeper(func(c *runtimeapi.ContainerConfig) { c.Metadata.Name = "unpinned" })
	declined(t, "no processors of its own", refusedContainer(t, pod, none), codes.InvalidArgument, "cpuset")

	id = pod.Create(pinned("crash"))
	s.Daemon.Stop()
	env := s.Daemon.Env
	s.Daemon.Env = append(env, "MINI_FAILPOINT=tuning-recorded=kill")
	s.Daemon.Start()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = s.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
	if err == nil || !s.Daemon.WaitEnd(20*time.Second) {
		t.Fatalf("the daemon does not die at the failure point: %v", err)
	}
	s.Daemon.Env = env
	s.Daemon.Start()
	givenBack("after a crash in the middle")
	check(t, s.RemovePod(t.Context(), pod.ID))
	if left, err := os.ReadFile(filepath.Join(s.Daemon.State, "tuning.json")); err == nil {
		t.Errorf("left: %s", left)
	}
}
