package cri

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/stats"
)

func fullReading() stats.Stats {
	limit := uint64(50)
	return stats.Stats{
		CPU:    stats.CPU{Usage: 5e9, User: 3e9, System: 2e9},
		Memory: stats.Memory{Usage: 100, WorkingSet: 80, RSS: 60, Limit: 1000, SwapUsage: 20, SwapLimit: &limit, PageFaults: 7, MajorPageFaults: 3, OOMKills: 1},
		Pids:   stats.Pids{Current: 4, Limit: 10}, BlockIO: []stats.Device{{Major: 8, Minor: 1, ReadBytes: 5, WriteBytes: 6}},
		Hugetlb:  []stats.Hugetlb{{PageSize: "2MB", Usage: 9}},
		Pressure: &stats.Pressure{CPU: stats.PSI{Some: stats.PSILine{Avg10: 1.5, Total: 2}}},
		Networks: []stats.Interface{{Name: "lo", RxBytes: 9}, {Name: "net1", RxBytes: 8}, {Name: "eth0", RxBytes: 7, TxBytes: 6}},
	}
}

func TestContainerStats(t *testing.T) {
	w := newWorld(t)
	w.engine.reading = fullReading()
	pod := w.pod(t, "web")
	id, idle := w.container(t, pod, "c", true), w.container(t, pod, "idle", false)
	var s *v1.ContainerStats
	for range 100 { // until what it has written is counted
		r, err := w.ContainerStats(t.Context(), &v1.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		if s = r.Stats; s.WritableLayer != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s.Attributes.Metadata.Name != "c" || s.Cpu.Timestamp == 0 || s.Cpu.UsageCoreNanoSeconds.Value != 5e9 || s.Cpu.UsageNanoCores == nil ||
		s.Cpu.Psi.Some.Total != 2000 || s.Cpu.Psi.Some.Avg10 != 1.5 || s.Memory.AvailableBytes.Value != 920 || s.Memory.WorkingSetBytes.Value != 80 ||
		s.Swap.SwapUsageBytes.Value != 20 || s.Swap.SwapAvailableBytes.Value != 30 || s.Io.Psi == nil || s.WritableLayer.GetUsedBytes().GetValue() != 77 {
		t.Errorf("statistics are %v", s)
	}
	if r, err := w.ContainerStats(t.Context(), &v1.ContainerStatsRequest{ContainerId: idle}); err != nil || r.Stats.Cpu != nil || r.Stats.Attributes.Id != idle {
		t.Errorf("of one that does not run: %v, %v", r, err)
	}
	list, err := w.ListContainerStats(t.Context(), &v1.ListContainerStatsRequest{Filter: &v1.ContainerStatsFilter{PodSandboxId: pod}})
	if err != nil || len(list.Stats) != 1 || list.Stats[0].Attributes.Id != id {
		t.Errorf("listed: %v, %v", list, err)
	}
	p, err := w.PodSandboxStats(t.Context(), &v1.PodSandboxStatsRequest{PodSandboxId: pod})
	if err != nil {
		t.Fatal(err)
	}
	l := p.Stats.Linux
	if l.Network.DefaultInterface.Name != "eth0" || len(l.Network.Interfaces) != 1 || l.Network.Interfaces[0].Name != "net1" ||
		l.Process.ProcessCount.Value != 4 || len(l.Containers) != 1 || l.Cpu.UsageCoreNanoSeconds.Value != 5e9 {
		t.Errorf("of the pod: %v", l)
	}
	pods, err := w.ListPodSandboxStats(t.Context(), &v1.ListPodSandboxStatsRequest{Filter: &v1.PodSandboxStatsFilter{LabelSelector: map[string]string{"app": "no"}}})
	if err != nil || len(pods.Stats) != 0 {
		t.Errorf("filtered: %v, %v", pods, err)
	}
}

func TestRates(t *testing.T) {
	r := newRates()
	start := time.Unix(1000, 0)
	for i, step := range []struct {
		after time.Duration
		usage uint64
		want  uint64
	}{
		{10 * time.Second, 5e9, 5e8},         // since the start: half a cpu
		{10500 * time.Millisecond, 9e9, 5e8}, // too soon to tell
		{12 * time.Second, 9e9, 2e9},         // two cpus
		{14 * time.Second, 9e9, 0},
		{15 * time.Second, 1e9, 66666666}, // it was started again
	} {
		if got := r.nanoCores("c", start.Add(step.after), step.usage, start); got != step.want {
			t.Errorf("step %d: %d, want %d", i, got, step.want)
		}
	}
	r.nanoCores("d", start, 1, start)
	r.keep(func(id string) bool { return id == "d" })
	if len(r.last) != 1 {
		t.Errorf("%d are remembered", len(r.last))
	}
}

// TestLayersDoNotBlock: who asks never waits for a count, and one container is not counted twice at once.
func TestLayersDoNotBlock(t *testing.T) {
	begun, proceed := make(chan string, 10), make(chan struct{})
	l := newLayers(t.Context(), func(_ context.Context, c engine.Container) (snapshot.Usage, error) {
		begun <- c.ID
		<-proceed
		return snapshot.Usage{Size: 5}, nil
	}, slog.New(slog.DiscardHandler))
	for range 3 {
		if _, _, ok := l.usage(engine.Container{ID: "a"}); ok {
			t.Error("counted before it was")
		}
	}
	<-begun
	close(proceed)
	for {
		if u, at, ok := l.usage(engine.Container{ID: "a"}); ok {
			if u.Size != 5 || at.IsZero() {
				t.Errorf("%v at %v", u, at)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if len(begun) != 0 {
		t.Errorf("counted %d times more", len(begun))
	}
	l.keep(func(string) bool { return false })
	if len(l.known) != 0 {
		t.Error("nothing is forgotten")
	}
}

func TestPieces(t *testing.T) {
	big := &v1.PodSandbox{Id: string(make([]byte, pieceBytes/3))}
	small := &v1.PodSandbox{Id: "x"}
	for name, tc := range map[string]struct {
		items []*v1.PodSandbox
		want  []int
	}{
		"none":     {nil, nil},
		"one":      {[]*v1.PodSandbox{small}, []int{1}},
		"by size":  {[]*v1.PodSandbox{big, big, big, big, small}, []int{2, 2 + 1}},
		"too big":  {[]*v1.PodSandbox{{Id: string(make([]byte, 2*pieceBytes))}, small}, []int{1, 1}},
		"by count": {repeat(small, 2*pieceItems+1), []int{pieceItems, pieceItems, 1}},
	} {
		var got []int
		err := inPieces(tc.items, func(some []*v1.PodSandbox) error {
			got = append(got, len(some))
			if n := proto.Size(&v1.ListPodSandboxResponse{Items: some}); len(some) > 1 && n > pieceBytes {
				t.Errorf("%s: a piece of %d bytes", name, n)
			}
			return nil
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tc.want)
		}
	}
}

func repeat[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// drain reads a stream of lists to its end.
func drain[R any](t *testing.T, open func() (grpc.ServerStreamingClient[R], error), count func(*R) int) int {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for {
		m, err := s.Recv()
		if err != nil {
			if err.Error() != "EOF" {
				t.Fatal(err)
			}
			return total
		}
		total += count(m)
	}
}

func TestStreams(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.container(t, w.pod(t, name), name, true)
	}
	ctx := t.Context()
	for name, got := range map[string]int{
		"pods": drain(t, func() (grpc.ServerStreamingClient[v1.StreamPodSandboxesResponse], error) {
			return w.StreamPodSandboxes(ctx, &v1.StreamPodSandboxesRequest{})
		}, func(r *v1.StreamPodSandboxesResponse) int { return len(r.PodSandboxes) }),
		"containers": drain(t, func() (grpc.ServerStreamingClient[v1.StreamContainersResponse], error) {
			return w.StreamContainers(ctx, &v1.StreamContainersRequest{})
		}, func(r *v1.StreamContainersResponse) int { return len(r.Containers) }),
		"container statistics": drain(t, func() (grpc.ServerStreamingClient[v1.StreamContainerStatsResponse], error) {
			return w.StreamContainerStats(ctx, &v1.StreamContainerStatsRequest{})
		}, func(r *v1.StreamContainerStatsResponse) int { return len(r.ContainerStats) }),
		"pod statistics": drain(t, func() (grpc.ServerStreamingClient[v1.StreamPodSandboxStatsResponse], error) {
			return w.StreamPodSandboxStats(ctx, &v1.StreamPodSandboxStatsRequest{})
		}, func(r *v1.StreamPodSandboxStatsResponse) int { return len(r.PodSandboxStats) }),
		"metrics": drain(t, func() (grpc.ServerStreamingClient[v1.StreamPodSandboxMetricsResponse], error) {
			return w.StreamPodSandboxMetrics(ctx, &v1.StreamPodSandboxMetricsRequest{})
		}, func(r *v1.StreamPodSandboxMetricsResponse) int { return len(r.PodSandboxMetrics) }),
	} {
		if got != 3 {
			t.Errorf("%s: %d, want 3", name, got)
		}
	}
	if n := drain(t, func() (grpc.ServerStreamingClient[v1.StreamImagesResponse], error) {
		return w.images.StreamImages(ctx, &v1.StreamImagesRequest{})
	}, func(r *v1.StreamImagesResponse) int { return len(r.Images) }); n != 1 {
		t.Errorf("images: %d", n)
	}
}

// TestMetrics: every metric is described, and has as many values as its description has keys.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.engine.reading = fullReading()
	w.container(t, w.pod(t, "web"), "c", true)
	d, err := w.ListMetricDescriptors(t.Context(), &v1.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, m := range d.Descriptors {
		if keys[m.Name] != nil || m.Help == "" {
			t.Errorf("%s is described twice, or not", m.Name)
		}
		keys[m.Name] = m.LabelKeys
	}
	r, err := w.ListPodSandboxMetrics(t.Context(), &v1.ListPodSandboxMetricsRequest{})
	if err != nil || len(r.PodMetrics) != 1 || len(r.PodMetrics[0].ContainerMetrics) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	of := r.PodMetrics[0].ContainerMetrics[0].Metrics
	values := map[string]uint64{}
	for _, m := range append(of, r.PodMetrics[0].Metrics...) {
		if len(keys[m.Name]) != len(m.LabelValues) || m.Timestamp == 0 {
			t.Errorf("%s has the values %v for the keys %v", m.Name, m.LabelValues, keys[m.Name])
			continue
		}
		name := m.Name
		for _, l := range m.LabelValues[len(commonLabels()):] {
			name += " " + l
		}
		values[name] = m.Value.Value
	}
	for name, want := range map[string]uint64{
		"container_cpu_usage_seconds_total": 5, "container_memory_working_set_bytes": 80, "container_oom_events_total": 1,
		"container_fs_reads_bytes_total 8:1": 5, "container_network_receive_bytes_total eth0": 7, "container_hugetlb_usage_bytes 2MB": 9,
		"container_memory_failures_total pgmajfault container": 3, "container_threads_max": 10, "container_memory_swap": 20,
	} {
		if values[name] != want {
			t.Errorf("%s is %d, want %d", name, values[name], want)
		}
	}
	if _, lo := values["container_network_receive_bytes_total lo"]; lo {
		t.Error("the loopback interface is measured")
	}
}
