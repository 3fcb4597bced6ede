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

// PodSandboxStats reads one pod and its running containers.
func (s *runtimeServer) PodSandboxStats(ctx context.Context, r *v1.PodSandboxStatsRequest) (*v1.PodSandboxStatsResponse, error) {
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	all, err := s.Engine.PodStats(ctx, Namespace, []string{p.ID}, stats.Tasks)
	if err != nil {
		return nil, err
	}
	containers, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	one := engine.PodStats{Pod: p} // what a stopped pod has
	if len(all) > 0 {
		one = all[0]
	}
	return &v1.PodSandboxStatsResponse{Stats: s.podStats(one, byPod(containers)[p.ID])}, nil
}

// ListPodSandboxStats reads the pods that are ready.
func (s *runtimeServer) ListPodSandboxStats(ctx context.Context, r *v1.ListPodSandboxStatsRequest) (*v1.ListPodSandboxStatsResponse, error) {
	list, err := s.listPodStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListPodSandboxStatsResponse{Stats: list}, nil
}

// StreamPodSandboxStats is ListPodSandboxStats in pieces.
func (s *runtimeServer) StreamPodSandboxStats(r *v1.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[v1.StreamPodSandboxStatsResponse]) error {
	list, err := s.listPodStats(stream.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inPieces(list, func(some []*v1.PodSandboxStats) error {
		return stream.Send(&v1.StreamPodSandboxStatsResponse{PodSandboxStats: some})
	})
}

func (s *runtimeServer) listPodStats(ctx context.Context, f *v1.PodSandboxStatsFilter) ([]*v1.PodSandboxStats, error) {
	all, containers, err := s.readPods(ctx, stats.Tasks)
	if err != nil {
		return nil, err
	}
	var out []*v1.PodSandboxStats
	for _, p := range all {
		if strings.HasPrefix(p.Pod.ID, f.GetId()) && labelsMatch(p.Pod.Labels, f.GetLabelSelector()) {
			out = append(out, s.podStats(p, containers[p.Pod.ID]))
		}
	}
	return out, nil
}

// readPods reads every pod that is ready, and gives the containers by pod.
func (s *runtimeServer) readPods(ctx context.Context, parts stats.Parts) ([]engine.PodStats, map[string][]kept, error) {
	all, err := s.Engine.PodStats(ctx, Namespace, nil, parts)
	if err != nil {
		return nil, nil, err
	}
	all = slices.DeleteFunc(all, func(p engine.PodStats) bool { return p.Pod.State != engine.PodReady })
	containers, err := s.containers(ctx)
	if err != nil {
		return nil, nil, err
	}
	pods := make([]engine.Pod, len(all))
	for i, p := range all {
		pods[i] = p.Pod
	}
	s.forget(containers, pods)
	return all, byPod(containers), nil
}

func byPod(containers []engine.Container) map[string][]kept {
	out := map[string][]kept{}
	for _, c := range containers {
		out[c.Pod] = append(out[c.Pod], unpack(c))
	}
	return out
}

func (s *runtimeServer) podStats(p engine.PodStats, containers []kept) *v1.PodSandboxStats {
	out := &v1.PodSandboxStats{
		Attributes: &v1.PodSandboxAttributes{
			Id: p.Pod.ID, Metadata: podMetadata(p.Pod), Labels: p.Pod.Labels, Annotations: p.Pod.Annotations,
		},
		Linux: &v1.LinuxPodSandboxStats{},
	}
	for _, k := range containers {
		if reading, ok := p.Containers[k.ID]; ok {
			out.Linux.Containers = append(out.Linux.Containers, s.containerStats(k, &reading))
		}
	}
	r := p.Stats
	if r.Time.IsZero() {
		return out
	}
	out.Linux.Cpu = cpuUsage(r, s.rates.nanoCores(podRate+p.Pod.ID, r.Time, r.CPU.Usage, p.Pod.CreatedAt))
	out.Linux.Memory = memoryUsage(r)
	out.Linux.Io = ioUsage(r)
	out.Linux.Network = networkUsage(r)
	out.Linux.Process = &v1.ProcessUsage{Timestamp: r.Time.UnixNano(), ProcessCount: number(r.Pids.Current)}
	return out
}

// networkUsage gives eth0, else the first interface that leads out, as the default one, and the others beside it.
func networkUsage(r stats.Stats) *v1.NetworkUsage {
	out := &v1.NetworkUsage{Timestamp: r.Time.UnixNano()}
	main := slices.IndexFunc(r.Networks, func(i stats.Interface) bool { return i.Name == "eth0" })
	if main < 0 {
		main = slices.IndexFunc(r.Networks, func(i stats.Interface) bool { return i.Name != "lo" })
	}
	for i, n := range r.Networks {
		usage := &v1.NetworkInterfaceUsage{
			Name: n.Name, RxBytes: number(n.RxBytes), RxErrors: number(n.RxErrors), TxBytes: number(n.TxBytes), TxErrors: number(n.TxErrors),
		}
		switch {
		case i == main:
			out.DefaultInterface = usage
		case n.Name != "lo":
			out.Interfaces = append(out.Interfaces, usage)
		}
	}
	if out.DefaultInterface == nil {
		return nil
	}
	return out
}
