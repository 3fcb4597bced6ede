package scenario_test

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// limitOf reads the memory limit that a container's processes see in their cgroup.
func limitOf(t *testing.T, c *testenv.CRI, id string) int64 {
	t.Helper()
	text := strings.TrimSpace(c.Exec(id, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"))
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("the memory limit is %q", text)
	}
	return limit
}

// TestCRIUpdateContainerResources changes limits of a running container and of one that is not started yet.
func TestCRIUpdateContainerResources(t *testing.T) {
	const mib = 1 << 20
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("resources")
	config := testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 * mib, CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000}
	id := pod.Create(config)
	update := func(r *runtimeapi.LinuxContainerResources) error {
		_, err := s.Runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
		return err
	}
	check(t, update(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 * mib}))
	s.Start(id)
	if got := limitOf(t, s.CRI, id); got != 96*mib {
		t.Errorf("updated before the start, the limit is %d MiB", got/mib)
	}
	check(t, update(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 * mib, CpuQuota: 20000, CpuPeriod: 100000}))
	if got := limitOf(t, s.CRI, id); got != 128*mib {
		t.Errorf("updated while it runs, the limit is %d MiB", got/mib)
	}
	r := s.Status(id).GetResources().GetLinux()
	if r.GetMemoryLimitInBytes() != 128*mib || r.GetCpuQuota() != 20000 || r.GetCpuShares() != 512 {
		t.Errorf("the status says %v", r)
	}
	// All or nothing: the quota is refused by the kernel, and so the memory stays as it was.
	if err := update(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 160 * mib, CpuQuota: 1, CpuPeriod: 100000}); err == nil {
		t.Error("a quota of one microsecond was taken")
	}
	if got := limitOf(t, s.CRI, id); got != 128*mib {
		t.Errorf("after a refused update the limit is %d MiB", got/mib)
	}
	_, err := s.Runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: "no-such-container", Linux: &runtimeapi.LinuxContainerResources{},
	})
	declined(t, "an unknown container", err, codes.NotFound, "no-such-container")
}

// TestCRIUpdatePodSandboxResources tells the runtime what the kubelet has changed, and reads it back.
func TestCRIUpdatePodSandboxResources(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("resources")
	_, err := s.Runtime.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: pod.ID,
		Overhead:     &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 8 << 20},
		Resources:    &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 256 << 20, CpuShares: 1024},
	})
	check(t, err)
	answer, err := s.Runtime.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.ID, Verbose: true})
	check(t, err)
	found := false
	for _, text := range answer.Info {
		found = found || strings.Contains(text, strconv.Itoa(256<<20))
	}
	if !found {
		t.Errorf("the pod's details do not have the new limit: %v", answer.Info)
	}
	_, err = s.Runtime.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: "no-such-pod"})
	declined(t, "an unknown pod", err, codes.NotFound, "no-such-pod")
}
