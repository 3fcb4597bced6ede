package cri

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/stats"
)

// metric is a measurement by the name that cAdvisor has given it, which dashboards know:
// https://github.com/google/cadvisor/blob/v0.53.0/docs/storage/prometheus.md
type metric struct {
	name, help string
	kind       v1.MetricType
	labels     []string // besides those that all have
	read       func(reading) []point
}

// point is one value of a metric. Values are whole numbers in the CRI, seconds too.
type point struct {
	labels []string
	value  uint64
}

// reading is what metrics are read from.
type reading struct {
	stats.Stats
	container *kept // nil for a pod
	written   uint64
	inodes    uint64
}

// commonLabels begin the labels of every metric, as cAdvisor and the kubelet have them.
func commonLabels() []string { return []string{"container", "id", "image", "name", "namespace", "pod"} }

const (
	counter = v1.MetricType_COUNTER
	gauge   = v1.MetricType_GAUGE
)

// ListMetricDescriptors tells which metrics there are.
func (s *runtimeServer) ListMetricDescriptors(context.Context, *v1.ListMetricDescriptorsRequest) (*v1.ListMetricDescriptorsResponse, error) {
	out := &v1.ListMetricDescriptorsResponse{}
	for _, m := range included(slices.Concat(containerMetrics(), podMetrics()), s.Policy().PodMetrics) {
		out.Descriptors = append(out.Descriptors, &v1.MetricDescriptor{
			Name: m.name, Help: m.help, LabelKeys: append(commonLabels(), m.labels...),
		})
	}
	return out, nil
}

// ListPodSandboxMetrics measures the pods that are ready and their running containers.
func (s *runtimeServer) ListPodSandboxMetrics(ctx context.Context, _ *v1.ListPodSandboxMetricsRequest) (*v1.ListPodSandboxMetricsResponse, error) {
	list, err := s.listMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return &v1.ListPodSandboxMetricsResponse{PodMetrics: list}, nil
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in pieces.
func (s *runtimeServer) StreamPodSandboxMetrics(_ *v1.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxMetricsResponse]) error {
	list, err := s.listMetrics(stream.Context())
	if err != nil {
		return err
	}
	return inPieces(list, func(some []*v1.PodSandboxMetrics) error {
		return stream.Send(&v1.StreamPodSandboxMetricsResponse{PodSandboxMetrics: some})
	})
}

func (s *runtimeServer) listMetrics(ctx context.Context) ([]*v1.PodSandboxMetrics, error) {
	all, containers, err := s.readPods(ctx, stats.All)
	if err != nil {
		return nil, err
	}
	groups := s.Policy().PodMetrics
	ofPod, ofContainer := included(podMetrics(), groups), included(containerMetrics(), groups)
	var out []*v1.PodSandboxMetrics
	for _, p := range all {
		one := &v1.PodSandboxMetrics{
			PodSandboxId: p.Pod.ID,
			Metrics:      measure(ofPod, podLabels(p.Pod), reading{Stats: p.Stats}),
		}
		for _, k := range containers[p.Pod.ID] {
			r, ok := p.Containers[k.ID]
			if !ok {
				continue
			}
			of := reading{Stats: r, container: &k}
			if usage, _, ok := s.layers.usage(k.Container); ok {
				of.written, of.inodes = uint64(usage.Size), uint64(usage.Inodes)
			}
			one.ContainerMetrics = append(one.ContainerMetrics, &v1.ContainerMetrics{
				ContainerId: k.ID, Metrics: measure(ofContainer, containerLabels(p.Pod, k), of),
			})
		}
		out = append(out, one)
	}
	return out, nil
}

// included are the metrics of some groups, as CRI-O names them; no groups, or all: every one. What says when a container was
// started and measured is in none, and always there.
func included(metrics []metric, groups []string) []metric {
	if len(groups) == 0 || slices.Contains(groups, "all") {
		return metrics
	}
	return slices.DeleteFunc(metrics, func(m metric) bool {
		group := groupOf(m.name)
		return group != "" && !slices.Contains(groups, group)
	})
}

// MetricGroups are the groups of metrics that can be chosen.
func MetricGroups() []string {
	return []string{"cpu", "memory", "hugetlb", "oom", "disk", "diskIO", "process", "pressure", "spec", "network"}
}

func groupOf(name string) string {
	for _, g := range [][2]string{
		{"cpu_", "cpu"}, {"memory_", "memory"}, {"hugetlb_", "hugetlb"}, {"oom_", "oom"}, {"fs_usage", "disk"}, {"fs_inodes", "disk"},
		{"fs_", "diskIO"}, {"blkio_", "diskIO"}, {"processes", "process"}, {"threads", "process"}, {"pressure_", "pressure"},
		{"spec_", "spec"}, {"network_", "network"},
	} {
		if strings.HasPrefix(name, "container_"+g[0]) {
			return g[1]
		}
	}
	return ""
}

func podLabels(p engine.Pod) []string {
	return []string{"", p.ID, "", p.Name, p.PodNamespace, p.Name}
}

func containerLabels(p engine.Pod, k kept) []string {
	return []string{k.metadata().GetName(), k.ID, k.Image, k.metadata().GetName(), p.PodNamespace, p.Name}
}

func measure(metrics []metric, common []string, r reading) []*v1.Metric {
	if r.Time.IsZero() {
		return nil
	}
	var out []*v1.Metric
	for _, m := range metrics {
		for _, p := range m.read(r) {
			out = append(out, &v1.Metric{
				Name: m.name, Timestamp: r.Time.UnixNano(), MetricType: m.kind, LabelValues: slices.Concat(common, p.labels), Value: number(p.value),
			})
		}
	}
	return out
}
