package scenario_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// together makes the same call ten times at once and returns the different answers.
func together(call func() (string, error)) (answers map[string]int, errs []error) {
	var (
		mu    sync.Mutex
		group sync.WaitGroup
	)
	answers = map[string]int{}
	for range 10 {
		group.Go(func() {
			answer, err := call()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			answers[answer]++
		})
	}
	group.Wait()
	return answers, errs
}

// TestCRISameCallsJoin makes pods and containers of the same metadata at once and again: each is one, and every call is
// told its id. The kubelet asks again when its own deadline has passed, and must not be told that the name is taken.
func TestCRISameCallsJoin(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := &testenv.CRIPod{Config: s.PodConfig("join"), CRI: s.CRI}
	runPod := func() (string, error) {
		answer, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod.Config})
		return answer.GetPodSandboxId(), err
	}
	create := func() (string, error) {
		answer, err := s.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
			PodSandboxId: pod.ID, Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600"), SandboxConfig: pod.Config,
		})
		return answer.GetContainerId(), err
	}
	one := func(what string, call func() (string, error)) string {
		t.Helper()
		answers, errs := together(call)
		again, err := call()
		if len(answers) != 1 || len(errs) > 0 || err != nil || answers[again] == 0 {
			t.Fatalf("%s: ids %v, errors %v; again %s, error %v", what, answers, errs, again, err)
		}
		return again
	}
	pod.ID = one("RunPodSandbox", runPod)
	id := one("CreateContainer", create)
	if _, errs := together(func() (string, error) {
		_, err := s.Runtime.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.ID})
		return "", err
	}); len(errs) > 0 {
		t.Errorf("StopPodSandbox at once: %v", errs)
	}
	if _, errs := together(func() (string, error) {
		_, err := s.Runtime.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
		return "", err
	}); len(errs) > 0 {
		t.Errorf("RemoveContainer at once: %v", errs)
	}
	if _, errs := together(func() (string, error) { return "", s.RemovePod(t.Context(), pod.ID) }); len(errs) > 0 {
		t.Errorf("RemovePodSandbox at once: %v", errs)
	}
	// The name is free again.
	if next, err := runPod(); err != nil || next == pod.ID {
		t.Errorf("the same pod after its removal: %s, error %v", next, err)
	}
}

// TestCRICancelledCalls gives up calls at any moment. What such a call has made is there under its metadata and can be
// removed, or is gone; nothing is left without a record.
func TestCRICancelledCalls(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	random := rand.New(rand.NewPCG(1, 2)) // the same moments in each run
	for n := range 40 {
		config := s.PodConfig(fmt.Sprintf("cancelled-%d", n))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(60_000))*time.Microsecond)
		pod, err := s.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
		if err == nil {
			_, _ = s.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{ // it may be too late for it
				PodSandboxId: pod.PodSandboxId, SandboxConfig: config,
				Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600"),
			})
		}
		cancel()
		// Asked again, it is made, or found made.
		again, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
		if err != nil {
			t.Fatalf("pod %d, asked for again after a cancelled call: %v", n, err)
		}
		check(t, s.RemovePod(t.Context(), again.PodSandboxId))
	}
	// A cancelled call may still be at its undoing.
	testenv.Eventually(t, 10*time.Second, "no pod and no container is left", func() bool {
		pods, err := s.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
		check(t, err)
		containers, err := s.Runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
		check(t, err)
		return len(pods.Items)+len(containers.Containers) == 0
	})
}
