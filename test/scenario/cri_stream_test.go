package scenario_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// collect reads a stream of lists to its end. Each must have an item, and none may have one that came before.
func collect[R any, I any](t *testing.T, what string, stream grpc.ServerStreamingClient[R], items func(*R) []I, id func(I) string) (ids []string, messages int) {
	t.Helper()
	seen := map[string]bool{}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return slices.Sorted(maps.Keys(seen)), messages
		}
		if err != nil {
			t.Fatalf("%s, message %d: %v", what, messages, err)
		}
		messages++
		list := items(message)
		if len(list) == 0 {
			t.Errorf("%s: message %d is empty", what, messages)
		}
		for _, item := range list {
			if seen[id(item)] {
				t.Errorf("%s: %s came twice", what, id(item))
			}
			seen[id(item)] = true
		}
	}
}

func streamContainers(t *testing.T, c *testenv.CRI, filter *runtimeapi.ContainerFilter) (ids []string, messages int) {
	t.Helper()
	stream, err := c.Runtime.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	return collect(t, "StreamContainers", stream, (*runtimeapi.StreamContainersResponse).GetContainers, (*runtimeapi.Container).GetId)
}

func idsOf[I any](items []I, id func(I) string) []string {
	ids := make([]string, 0, len(items))
	for _, item := range items {
		ids = append(ids, id(item))
	}
	slices.Sort(ids)
	return ids
}

// TestCRIStreamsAreTheLists compares all seven streams with what the lists say.
func TestCRIStreamsAreTheLists(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	ctx := t.Context()
	for n := range 3 {
		pod := s.RunPod(fmt.Sprintf("streams-%d", n), func(c *runtimeapi.PodSandboxConfig) {
			c.Labels = map[string]string{"number": fmt.Sprint(n)}
		})
		for m := range 2 {
			pod.Run(fmt.Sprintf("main-%d", m), "sleep", "600")
		}
	}
	same := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("%s: got %d %v, want %v", what, len(got), got, want)
		}
	}
	number1 := &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"number": "1"}}
	for _, filter := range []*runtimeapi.PodSandboxFilter{nil, number1} {
		list, err := s.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: filter})
		check(t, err)
		stream, err := s.Runtime.StreamPodSandboxes(ctx, &runtimeapi.StreamPodSandboxesRequest{Filter: filter})
		check(t, err)
		got, _ := collect(t, "StreamPodSandboxes", stream, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes, (*runtimeapi.PodSandbox).GetId)
		same("pods", got, idsOf(list.Items, (*runtimeapi.PodSandbox).GetId))
	}
	containers, err := s.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	check(t, err)
	got, _ := streamContainers(t, s.CRI, nil)
	same("containers", got, idsOf(containers.Containers, (*runtimeapi.Container).GetId))
	one, _ := streamContainers(t, s.CRI, &runtimeapi.ContainerFilter{Id: got[0]})
	same("one container", one, got[:1])

	images, err := s.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	check(t, err)
	imageStream, err := s.Images.StreamImages(ctx, &runtimeapi.StreamImagesRequest{})
	check(t, err)
	got, _ = collect(t, "StreamImages", imageStream, (*runtimeapi.StreamImagesResponse).GetImages, (*runtimeapi.Image).GetId)
	same("images", got, idsOf(images.Images, (*runtimeapi.Image).GetId))

	streamsOfStats(t, s, same)
}

func streamsOfStats(t *testing.T, s *testenv.CRIServer, same func(what string, got, want []string)) {
	ctx := t.Context()
	containerID := func(c *runtimeapi.ContainerStats) string { return c.GetAttributes().GetId() }
	podID := func(p *runtimeapi.PodSandboxStats) string { return p.GetAttributes().GetId() }
	list, err := s.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	check(t, err)
	stream, err := s.Runtime.StreamContainerStats(ctx, &runtimeapi.StreamContainerStatsRequest{})
	check(t, err)
	got, _ := collect(t, "StreamContainerStats", stream, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats, containerID)
	same("container stats", got, idsOf(list.Stats, containerID))

	pods, err := s.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	check(t, err)
	podStream, err := s.Runtime.StreamPodSandboxStats(ctx, &runtimeapi.StreamPodSandboxStatsRequest{})
	check(t, err)
	got, _ = collect(t, "StreamPodSandboxStats", podStream, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats, podID)
	same("pod stats", got, idsOf(pods.Stats, podID))

	metrics, err := s.Runtime.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	check(t, err)
	metricStream, err := s.Runtime.StreamPodSandboxMetrics(ctx, &runtimeapi.StreamPodSandboxMetricsRequest{})
	check(t, err)
	got, _ = collect(t, "StreamPodSandboxMetrics", metricStream, (*runtimeapi.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics, (*runtimeapi.PodSandboxMetrics).GetPodSandboxId)
	same("pod metrics", got, idsOf(metrics.PodMetrics, (*runtimeapi.PodSandboxMetrics).GetPodSandboxId))
}

// check ends the test at an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCRIManyContainersStream has more containers than fit into the largest message that the kubelet takes.
func TestCRIManyContainersStream(t *testing.T) {
	const count = 2000
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("many")
	want := createMany(t, pod, count)

	_, err := s.Runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if rpc.Code(err) != codes.ResourceExhausted {
		t.Errorf("ListContainers of more than a message can have: error %v, want ResourceExhausted", err)
	}
	got, messages := streamContainers(t, s.CRI, nil)
	if !slices.Equal(got, want) {
		t.Errorf("StreamContainers gave %d of %d containers", len(got), len(want))
	}
	small := testenv.DialCRI(t, s.Socket, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4<<20)))
	if got, _ := streamContainers(t, small, nil); len(got) != count {
		t.Errorf("to a client with gRPC's own limit StreamContainers gave %d of %d containers", len(got), count)
	}
	testenv.Measured(t, "%s streams %d containers in %d messages", s.Name(), count, messages)
}

// createMany creates containers of 9 KiB of annotations each, eight at a time.
func createMany(t *testing.T, pod *testenv.CRIPod, count int) []string {
	t.Helper()
	large := map[string]string{"large": strings.Repeat("a", 9<<10)}
	numbers := make(chan int)
	var (
		mu    sync.Mutex
		ids   []string
		group sync.WaitGroup
	)
	for range 8 {
		group.Go(func() {
			for n := range numbers {
				config := testenv.ContainerConfig(fmt.Sprintf("one-of-many-%d", n), testenv.SuiteBusybox, "true")
				config.Annotations = large
				answer, err := pod.CRI.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
					PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config,
				})
				if err != nil {
					t.Errorf("container %d: %v", n, err)
					continue
				}
				mu.Lock()
				ids = append(ids, answer.ContainerId)
				mu.Unlock()
			}
		})
	}
	for n := range count {
		numbers <- n
	}
	close(numbers)
	group.Wait()
	slices.Sort(ids)
	return ids
}
