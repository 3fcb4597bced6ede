package scenario_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// each calls f for the numbers 0 to count-1, so many at once.
func each(count, atOnce int, f func(n int)) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for n := range numbers {
				f(n)
			}
		})
	}
	for n := range count {
		numbers <- n
	}
	close(numbers)
	group.Wait()
}

// onlyMinid skips a test that kills the runtime, which is for minid to survive.
func onlyMinid(t *testing.T) {
	t.Helper()
	if name := testenv.CRIRuntime(t); name != "minid" {
		t.Skipf("it restarts the runtime, and %s is not ours to restart", name)
	}
}

// tryPod runs a pod with one container, or says what failed.
func tryPod(ctx context.Context, c *testenv.CRI, config *runtimeapi.PodSandboxConfig) (pod, container string, err error) {
	p, err := c.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", "", fmt.Errorf("run pod: %w", err)
	}
	answer, err := c.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.PodSandboxId, Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "3600"), SandboxConfig: config,
	})
	if err != nil {
		return p.PodSandboxId, "", fmt.Errorf("create container: %w", err)
	}
	if _, err = c.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: answer.ContainerId}); err != nil {
		return p.PodSandboxId, answer.ContainerId, fmt.Errorf("start container: %w", err)
	}
	return p.PodSandboxId, answer.ContainerId, nil
}

// ready waits until the runtime says that it and its network are ready.
func ready(t *testing.T, c *testenv.CRI) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, "the runtime is ready", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer, err := c.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
		if err != nil {
			return false
		}
		for _, condition := range answer.Status.Conditions {
			if !condition.Status {
				return false
			}
		}
		return true
	})
}

// TestCRIRestartWithPods kills minid under 110 pods, as many as a kubelet has by default, and starts it: it is ready
// within two seconds, and every pod is as it was.
func TestCRIRestartWithPods(t *testing.T) {
	onlyMinid(t)
	const count, limit = 110, 2 * time.Second
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	before := map[string]string{} // addresses by pod
	var mu sync.Mutex
	each(count, 8, func(n int) {
		pod, _, err := tryPod(t.Context(), s.CRI, s.PodConfig(fmt.Sprintf("restart-%d", n)))
		if err != nil {
			t.Errorf("pod %d: %v", n, err)
			return
		}
		answer, err := s.Runtime.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
		if err != nil {
			t.Errorf("pod %d: %v", n, err)
			return
		}
		mu.Lock()
		before[pod] = answer.Status.GetNetwork().GetIp()
		mu.Unlock()
	})
	s.Daemon.Kill9()
	began := time.Now()
	s.Daemon.Launch()
	c := testenv.DialCRI(t, s.Socket) // the old connection waits before it tries again
	ready(t, c)
	list, err := c.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	took := time.Since(began)
	testenv.Measured(t, "minid killed under %d pods is ready and has listed them after %d ms", count, took.Milliseconds())
	if took > limit {
		t.Errorf("ready after %s, want %s at most", took, limit)
	}
	for _, pod := range list.Items {
		if pod.State != runtimeapi.PodSandboxState_SANDBOX_READY || before[pod.Id] == "" {
			t.Errorf("pod %s is %s, its address was %q", pod.Metadata.Name, pod.State, before[pod.Id])
		}
		if ip := c.PodStatus(pod.Id).GetNetwork().GetIp(); ip != before[pod.Id] {
			t.Errorf("pod %s had the address %s and has %s", pod.Metadata.Name, before[pod.Id], ip)
		}
	}
	containers, err := c.Runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	check(t, err)
	if len(list.Items) != count || len(containers.Containers) != count {
		t.Errorf("%d pods and %d containers, want %d of each", len(list.Items), len(containers.Containers), count)
	}
	for _, container := range containers.Containers {
		if container.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Errorf("container of pod %s is %s", container.PodSandboxId, container.State)
		}
	}
	c.Exec(containers.Containers[0].Id, "true")
	each(len(list.Items), 8, func(n int) {
		if err := c.RemovePod(t.Context(), list.Items[n].Id); err != nil {
			t.Error(err)
		}
	})
}

// TestCRIRestartUnderLoad kills minid again and again while pods come and go. A call is answered, or the connection
// breaks; asked again it works; and in the end nothing is left.
func TestCRIRestartUnderLoad(t *testing.T) {
	onlyMinid(t)
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var made, again atomic.Int64
	var group sync.WaitGroup
	for worker := range 6 {
		c := testenv.DialCRI(t, s.Socket)
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				config := s.PodConfig(fmt.Sprintf("load-%d-%d", worker, n))
				if err := stubborn(t, &again, func() error { _, _, err := tryPod(t.Context(), c, config); return err }); err != nil {
					t.Errorf("pod %s: %v", config.Metadata.Name, err)
					return
				}
				made.Add(1)
				answer, err := c.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
				for rpc.Code(err) == codes.Unavailable {
					time.Sleep(20 * time.Millisecond)
					answer, err = c.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
				}
				if err == nil {
					err = stubborn(t, &again, func() error { return c.RemovePod(t.Context(), answer.PodSandboxId) })
				}
				if err != nil {
					t.Errorf("pod %s: %v", config.Metadata.Name, err)
					return
				}
			}
		})
	}
	for range 5 {
		time.Sleep(700 * time.Millisecond)
		s.Daemon.Restart()
	}
	time.Sleep(500 * time.Millisecond)
	cancel()
	group.Wait()
	testenv.Measured(t, "5 restarts of minid under load: %d pods came and went, %d calls had to be made again", made.Load(), again.Load())
	nothingLeft(t, &testenv.CRIServer{CRI: testenv.DialCRI(t, s.Socket)})
}

// stubborn calls again while the daemon is away, for as long as a kubelet would at least.
func stubborn(t *testing.T, again *atomic.Int64, call func() error) error {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := call()
		if code := rpc.Code(err); code != codes.Unavailable && code != codes.Canceled || time.Now().After(deadline) {
			return err
		}
		again.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}
