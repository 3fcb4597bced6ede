package scenario_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// criuWorks says whether criu says that it can work here.
func criuWorks() bool { return exec.Command("criu", "check").Run() == nil }

// TestCRICheckpoint asks for checkpoints of a container and of a pod. Where criu can work they are archives; where it
// cannot, the error names what is missing, the container runs on, and nothing is left.
func TestCRICheckpoint(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("checkpoint")
	id := pod.Create(checkpointed())
	s.Start(id)
	dir := testenv.Dir(t)
	works := criuWorks()

	location := filepath.Join(dir, "container.tar")
	_, err := s.Runtime.CheckpointContainer(t.Context(), &runtimeapi.CheckpointContainerRequest{ContainerId: id, Location: location, Timeout: 20})
	archived(t, "CheckpointContainer", err, location, works)

	location = filepath.Join(dir, "pod")
	check(t, os.Mkdir(location, 0o700)) // the caller makes it, and it has to be empty
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = s.Runtime.CheckpointPod(ctx, &runtimeapi.CheckpointPodRequest{PodSandboxId: pod.ID, OutputPath: location, ContainerIds: []string{id}})
	if works {
		check(t, err)
		restorePod(t, s, pod, location)
	} else {
		declined(t, "CheckpointPod", err, codes.FailedPrecondition, "criu")
		if left, err := os.ReadDir(location); err != nil || len(left) > 0 {
			t.Errorf("CheckpointPod was refused, and left %v (%v)", left, err)
		}
	}
	_, err = s.Runtime.RestorePod(t.Context(), &runtimeapi.RestorePodRequest{CheckpointPath: filepath.Join(dir, "nothing"), Config: s.PodConfig("restored")})
	declinedAny(t, "RestorePod of nothing", err, codes.NotFound, codes.InvalidArgument, codes.FailedPrecondition)

	before := pod.Log("main")
	testenv.Eventually(t, 5*time.Second, "the container goes on", func() bool { return len(pod.Log("main")) > len(before) })
	_, err = s.Runtime.CheckpointContainer(t.Context(), &runtimeapi.CheckpointContainerRequest{ContainerId: "no-such-container", Location: location})
	declinedAny(t, "an unknown container", err, codes.NotFound)
	list, err := s.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	if !works && len(list.Items) != 1 {
		t.Errorf("there are %d pods, want the one", len(list.Items))
	}
}

// checkpointed is a container that counts.
func checkpointed() *runtimeapi.ContainerConfig {
	return testenv.ContainerConfig("main", testenv.SuiteBusybox, "sh", "-c", "n=0; while true; do echo $n; n=$((n+1)); sleep 0.1; done")
}

func archived(t *testing.T, what string, err error, location string, works bool) {
	t.Helper()
	_, statErr := os.Stat(location)
	if works {
		check(t, err)
		check(t, statErr)
		return
	}
	declined(t, what, err, codes.FailedPrecondition, "criu")
	if statErr == nil {
		t.Errorf("%s was refused, and left %s", what, location)
	}
}

func restorePod(t *testing.T, s *testenv.CRIServer, pod *testenv.CRIPod, location string) {
	t.Helper()
	pod.Remove()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := s.Runtime.RestorePod(ctx, &runtimeapi.RestorePodRequest{
		CheckpointPath: location, Config: pod.Config, ContainerConfigs: []*runtimeapi.ContainerConfig{checkpointed()},
	})
	check(t, err)
	if len(answer.RestoredContainers) != 1 {
		t.Fatalf("restored containers: %v", answer.RestoredContainers)
	}
	for _, c := range answer.RestoredContainers {
		if state := s.Status(c.ContainerId).State; state != runtimeapi.ContainerState_CONTAINER_CREATED {
			t.Errorf("a restored container is %s before it is started", state)
		}
		s.Start(c.ContainerId)
	}
}
