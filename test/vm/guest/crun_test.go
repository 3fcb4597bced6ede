package guest

import (
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestCrun has a pod's containers run by crun, which wants cgroups v2 by themselves.
func TestCrun(t *testing.T) {
	testenv.Need(t, "crun")
	d := testenv.Daemon(t, testenv.DaemonOptions{Root: "/var/lib/mini", Config: "[runtimes.crun]\npath = \"/usr/bin/crun\"\n"})
	c := testenv.DialCRI(t, d.Address)
	t.Cleanup(c.RemoveAll)
	status, err := c.Runtime.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, h := range status.RuntimeHandlers {
		told = told || h.Name == "crun" && h.Features != nil
	}
	if !told {
		t.Errorf("nothing is told of what crun can: %v", status.RuntimeHandlers)
	}
	sandbox := c.PodConfig("crun", testenv.HostNetwork)
	answer, err := c.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: sandbox, RuntimeHandler: "crun"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &testenv.CRIPod{ID: answer.PodSandboxId, Config: sandbox, CRI: c}
	config := testenv.ContainerConfig("main", toolbox, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
	config.LogPath = ""
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000}
	id := pod.Create(config)
	c.Start(id)
	dir := groupNamed(t, id)
	holds(t, dir, map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000"})
	if out := c.Exec(id, "sh", "-c", "cat /proc/self/cgroup; hostname"); !strings.HasPrefix(out, "0::/") {
		t.Errorf("an executed process: %q", out)
	}
	_, err = c.Runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 << 20},
	})
	if err != nil {
		t.Error(err)
	}
	holds(t, dir, map[string]string{"memory.max": "100663296"})
	d.Kill9()
	d.Start()
	if out := c.Exec(id, "echo", "still"); out != "still\n" {
		t.Errorf("after the daemon's death: %q", out)
	}
	if _, err := c.Runtime.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(id); s.ExitCode != 7 {
		t.Errorf("it ended with %d (%s), want 7", s.ExitCode, s.Reason)
	}
	pod.Remove()
}
