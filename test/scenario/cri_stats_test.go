package scenario_test

import (
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// busy uses some CPU time, memory and processes, writes into its root filesystem, and stays.
func busy() []string {
	return []string{"sh", "-c", "head -c 8000000 /dev/zero >/file; n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done; sleep 600 & sleep 600"}
}

// TestCRIContainerStats reads what the kubelet's stats provider does, for one container and for all.
func TestCRIContainerStats(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("stats", func(c *runtimeapi.PodSandboxConfig) { c.Labels = map[string]string{"of": "the test"} })
	id := pod.Run("main", busy()...)
	var stats *runtimeapi.ContainerStats
	testenv.Eventually(t, 20*time.Second, "the container has written and computed", func() bool {
		answer, err := s.Runtime.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
		check(t, err)
		stats = answer.Stats
		return stats.GetWritableLayer().GetUsedBytes().GetValue() >= 8_000_000 && stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() > 50_000_000
	})
	if a := stats.Attributes; a.GetId() != id || a.GetMetadata().GetName() != "main" {
		t.Errorf("attributes %v", a)
	}
	if m := stats.Memory; m.GetWorkingSetBytes().GetValue() == 0 || m.GetTimestamp() == 0 || m.GetUsageBytes().GetValue() < m.GetWorkingSetBytes().GetValue() {
		t.Errorf("memory %v", m)
	}
	if w := stats.WritableLayer; w.GetFsId().GetMountpoint() == "" || w.GetInodesUsed().GetValue() == 0 || w.GetTimestamp() == 0 {
		t.Errorf("writable layer %v", w)
	}
	answer, err := s.Runtime.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{
		Filter: &runtimeapi.ContainerStatsFilter{PodSandboxId: pod.ID},
	})
	check(t, err)
	if len(answer.Stats) != 1 || answer.Stats[0].Attributes.Id != id {
		t.Errorf("ListContainerStats gave %v", answer.Stats)
	}
}

// TestCRIPodStats reads the stats of a pod: its own, its network's, its processes' and its containers'.
func TestCRIPodStats(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("stats")
	id := pod.Run("main", busy()...)
	other := s.RunPod("host", testenv.HostNetwork)
	other.Run("main", "sleep", "600")
	var stats *runtimeapi.PodSandboxStats
	testenv.Eventually(t, 20*time.Second, "the pod has at least two processes", func() bool {
		stats = podStats(t, s, pod.ID)
		return stats.GetLinux().GetProcess().GetProcessCount().GetValue() >= 2
	})
	l := stats.Linux
	if a := stats.Attributes; a.GetId() != pod.ID || a.GetMetadata().GetName() != "stats" {
		t.Errorf("attributes %v", a)
	}
	if l.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || l.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
		t.Errorf("cpu %v, memory %v", l.GetCpu(), l.GetMemory())
	}
	if n := l.GetNetwork().GetDefaultInterface(); n.GetName() != "eth0" || n.GetRxBytes() == nil || n.GetTxBytes() == nil {
		t.Errorf("network %v", n)
	}
	if len(l.GetContainers()) != 1 || l.GetContainers()[0].Attributes.Id != id {
		t.Errorf("containers %v", l.GetContainers())
	}
	list, err := s.Runtime.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{})
	check(t, err)
	if len(list.Stats) != 2 {
		t.Errorf("ListPodSandboxStats gave %d pods, want 2", len(list.Stats))
	}
	list, err = s.Runtime.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: &runtimeapi.PodSandboxStatsFilter{Id: pod.ID}})
	check(t, err)
	if len(list.Stats) != 1 || list.Stats[0].Attributes.Id != pod.ID {
		t.Errorf("filtered by id: %v", list.Stats)
	}
}

func podStats(t *testing.T, s *testenv.CRIServer, id string) *runtimeapi.PodSandboxStats {
	t.Helper()
	answer, err := s.Runtime.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: id})
	check(t, err)
	return answer.Stats
}

// TestCRIMetrics compares what ListPodSandboxMetrics gives with what ListMetricDescriptors promises.
func TestCRIMetrics(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("metrics")
	id := pod.Run("main", busy()...)
	descriptors, err := s.Runtime.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	check(t, err)
	promised := map[string]int{}
	for _, d := range descriptors.Descriptors {
		promised[d.Name] = len(d.LabelKeys)
		if d.Help == "" {
			t.Errorf("%s has no help", d.Name)
		}
	}
	for _, name := range []string{ // what cAdvisor's dashboards and the kubelet's own tests read
		"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_usage_bytes",
		"container_network_receive_bytes_total", "container_network_transmit_bytes_total", "container_processes",
		"container_fs_usage_bytes", "container_start_time_seconds", "container_spec_memory_limit_bytes",
	} {
		if _, ok := promised[name]; !ok {
			t.Errorf("%s is not described", name)
		}
	}
	answer, err := s.Runtime.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	check(t, err)
	if len(answer.PodMetrics) != 1 || answer.PodMetrics[0].PodSandboxId != pod.ID {
		t.Fatalf("metrics of %d pods", len(answer.PodMetrics))
	}
	of := answer.PodMetrics[0]
	if len(of.ContainerMetrics) != 1 || of.ContainerMetrics[0].ContainerId != id {
		t.Fatalf("container metrics %v", of.ContainerMetrics)
	}
	seen := map[string]bool{}
	for _, m := range append(of.Metrics, of.ContainerMetrics[0].Metrics...) {
		labels, ok := promised[m.Name]
		if !ok || labels != len(m.LabelValues) {
			t.Errorf("%s has %d label values; it is described: %v, with %d labels", m.Name, len(m.LabelValues), ok, labels)
		}
		seen[m.Name] = true
	}
	for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_network_receive_bytes_total"} {
		if !seen[name] {
			t.Errorf("%s has no value", name)
		}
	}
}
