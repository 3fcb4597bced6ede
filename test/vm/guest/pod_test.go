package guest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestPods runs a pod over the CRI, in a group of its own below the one that the client names.
func TestPods(t *testing.T) {
	if dir := lifeOfAPod(t, "/pods/pod1"); !strings.HasPrefix(dir, "/sys/fs/cgroup/pods/pod1/") {
		t.Errorf("the container was in %s", dir)
	}
	for _, dir := range []string{"/sys/fs/cgroup/pods/pod1", "/sys/fs/cgroup/pods"} {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) { // those that a client names stay its own
			t.Error(err)
		}
	}
}

// TestSystemdPods does so where systemd has the groups, as a kubelet with that driver names them.
func TestSystemdPods(t *testing.T) {
	dir := lifeOfAPod(t, "pods-pod1.slice")
	if !strings.HasPrefix(dir, "/sys/fs/cgroup/pods.slice/pods-pod1.slice/") || !strings.HasSuffix(dir, ".scope") {
		t.Errorf("the container was in %s", dir)
	}
}

// groupNamed is the cgroup that has the container's id in its name.
func groupNamed(t *testing.T, id string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir("/sys/fs/cgroup", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(filepath.Base(name), id) {
			found = name
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("container %s has no group, error %v", id, err)
	}
	return found
}

// lifeOfAPod makes a pod with a container, runs more processes in it, and removes it; it returns the container's group.
func lifeOfAPod(t *testing.T, parent string) string {
	t.Helper()
	d := start(t)
	c := testenv.DialCRI(t, d.Address)
	c.Parent = parent
	t.Cleanup(c.RemoveAll)
	// The kernel here has none of what pods' own networks are made of.
	pod := c.RunPod("pod", testenv.HostNetwork)
	config := testenv.ContainerConfig("main", toolbox, "sh", "-c", "echo begun; sleep 600")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000, Unified: map[string]string{"pids.max": "50"}}
	id := pod.Create(config)
	c.Start(id)
	answer, err := c.Runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil || answer.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("status %v, error %v", answer, err)
	}
	dir := groupNamed(t, id)
	holds(t, dir, map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "50"})
	for n := range 10 {
		if out := c.Exec(id, "sh", "-c", fmt.Sprintf("cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; echo %d", n)); out != fmt.Sprintf("0::/\n67108864\n%d\n", n) {
			t.Errorf("an executed process says %q", out)
		}
	}
	exit, err := c.Runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "exit 9"}, Timeout: 30})
	if err != nil || exit.ExitCode != 9 {
		t.Errorf("exit code %d, error %v", exit.GetExitCode(), err)
	}
	stats, err := c.Runtime.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil || stats.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 || stats.Stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 {
		t.Errorf("statistics %v, error %v", stats, err)
	}
	_, err = c.Runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 << 20},
	})
	if err != nil {
		t.Error(err)
	}
	holds(t, dir, map[string]string{"memory.max": "100663296", "cpu.max": "50000 100000"})
	d.Restart()
	if out := c.Exec(id, "cat", "/sys/fs/cgroup/memory.max"); out != "100663296\n" {
		t.Errorf("after a restart: %q", out)
	}
	if log := pod.Log("main"); !strings.HasSuffix(log, " stdout F begun\n") {
		t.Errorf("the log is %q", log)
	}
	pod.Remove()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("the group %s is still there", dir)
	}
	return dir
}
