package guest

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// swapFile has the machine swap to a file for the time of a test.
func swapFile(t *testing.T, size int) {
	t.Helper()
	const path = "/var/lib/swap"
	data := make([]byte, size) // without holes, which a swap file must not have
	page := os.Getpagesize()
	// The head of a swap area (include/linux/swap.h): version, last page, bad pages; the magic ends the first page.
	binary.LittleEndian.PutUint32(data[1024:], 1)
	binary.LittleEndian.PutUint32(data[1028:], uint32(size/page-1))
	copy(data[page-10:], "SWAPSPACE2")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	swap := func(call uintptr) {
		t.Helper()
		if _, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
			t.Fatalf("swap %d: %v", call, errno)
		}
	}
	swap(unix.SYS_SWAPON)
	t.Cleanup(func() {
		swap(unix.SYS_SWAPOFF)
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

// TestSwapAndPressure has a container in a pod take more memory than it may: the rest is swapped, as the statistics of the
// CRI say, and so is how long its processes waited.
func TestSwapAndPressure(t *testing.T) {
	swapFile(t, 128<<20)
	d := start(t)
	c := testenv.DialCRI(t, d.Address)
	c.Parent = "/swaps"
	t.Cleanup(c.RemoveAll)
	pod := c.RunPod("swaps", testenv.HostNetwork)
	config := testenv.ContainerConfig("main", toolbox, "/act", "keep", "48")
	config.Mounts = []*runtimeapi.Mount{{HostPath: "/sbin/init", ContainerPath: "/act", Readonly: true}}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 24 << 20, MemorySwapLimitInBytes: 88 << 20}
	id := pod.Create(config)
	c.Start(id)
	holds(t, groupNamed(t, id), map[string]string{"memory.max": "25165824", "memory.swap.max": "67108864"})
	var s *runtimeapi.ContainerStats
	testenv.Eventually(t, 30*time.Second, "it has swapped", func() bool {
		answer, err := c.Runtime.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		s = answer.Stats
		return s.GetSwap().GetSwapUsageBytes().GetValue() > 16<<20 && strings.Contains(pod.Log("main"), "eaten")
	})
	if used, free := s.Swap.SwapUsageBytes.Value, s.Swap.GetSwapAvailableBytes().GetValue(); used+free != 64<<20 {
		t.Errorf("of 64 MiB of swap %d bytes are used and %d available", used, free)
	}
	if w := s.GetMemory().GetWorkingSetBytes().GetValue(); w == 0 || w > 24<<20 {
		t.Errorf("a working set of %d bytes", w)
	}
	if p := s.GetMemory().GetPsi(); p.GetSome().GetTotal() == 0 || p.GetFull().GetTotal() == 0 {
		t.Errorf("nothing has waited for memory: %v", p)
	}
	if s.GetIo().GetPsi().GetSome().GetTotal() == 0 || s.GetCpu().GetPsi() == nil {
		t.Errorf("pressure of disks %v, of processors %v", s.GetIo(), s.GetCpu().GetPsi())
	}
	answer, err := c.Runtime.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod.ID})
	if err != nil {
		t.Fatal(err)
	}
	if l := answer.Stats.GetLinux(); l.GetMemory().GetPsi().GetSome().GetTotal() == 0 || l.GetIo().GetPsi().GetSome().GetTotal() == 0 || l.GetCpu().GetPsi() == nil {
		t.Errorf("pressure of the pod: memory %v, disks %v, processors %v", l.GetMemory().GetPsi(), l.GetIo(), l.GetCpu().GetPsi())
	}
	_, err = c.Runtime.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 64 << 20},
	})
	if err != nil {
		t.Error(err)
	}
	holds(t, groupNamed(t, id), map[string]string{"memory.max": "67108864", "memory.swap.max": "0"})
	pod.Remove()
	if err := os.Remove("/sys/fs/cgroup/swaps"); err != nil && !os.IsNotExist(err) { // it is its client's
		t.Error(err)
	}
}
