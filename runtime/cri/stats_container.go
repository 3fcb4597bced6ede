package cri

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/stats"
)

// ContainerStats reads one container. One that does not run has only what it has written.
func (s *runtimeServer) ContainerStats(ctx context.Context, r *v1.ContainerStatsRequest) (*v1.ContainerStatsResponse, error) {
	c, err := s.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	var reading *stats.Stats
	if alive(c) {
		all, err := s.Engine.Stats(ctx, Namespace, []string{c.ID}, 0)
		if err != nil {
			return nil, err
		}
		if one, ok := all[c.ID]; ok {
			reading = &one
		}
	}
	return &v1.ContainerStatsResponse{Stats: s.containerStats(unpack(c), reading)}, nil
}

// ListContainerStats reads all running containers that the filter lets through.
func (s *runtimeServer) ListContainerStats(ctx context.Context, r *v1.ListContainerStatsRequest) (*v1.ListContainerStatsResponse, error) {
	list, err := s.listContainerStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &v1.ListContainerStatsResponse{Stats: list}, nil
}

// StreamContainerStats is ListContainerStats in pieces.
func (s *runtimeServer) StreamContainerStats(r *v1.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[v1.StreamContainerStatsResponse]) error {
	list, err := s.listContainerStats(stream.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inPieces(list, func(some []*v1.ContainerStats) error {
		return stream.Send(&v1.StreamContainerStatsResponse{ContainerStats: some})
	})
}

func (s *runtimeServer) listContainerStats(ctx context.Context, f *v1.ContainerStatsFilter) ([]*v1.ContainerStats, error) {
	containers, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	s.forget(containers, nil)
	readings, err := s.Engine.Stats(ctx, Namespace, nil, 0)
	if err != nil {
		return nil, err
	}
	var out []*v1.ContainerStats
	for _, c := range containers {
		reading, ok := readings[c.ID]
		if ok && strings.HasPrefix(c.ID, f.GetId()) && strings.HasPrefix(c.Pod, f.GetPodSandboxId()) && labelsMatch(c.Labels, f.GetLabelSelector()) {
			out = append(out, s.containerStats(unpack(c), &reading))
		}
	}
	return out, nil
}

// forget drops what is remembered of containers, or of pods, that are no more; nil says nothing of them.
func (s *runtimeServer) forget(containers []engine.Container, pods []engine.Pod) {
	there := map[string]bool{}
	for _, c := range containers {
		there[c.ID] = true
	}
	for _, p := range pods {
		there[podRate+p.ID] = true
	}
	s.rates.keep(func(id string) bool {
		if strings.HasPrefix(id, podRate) {
			return pods == nil || there[id]
		}
		return containers == nil || there[id]
	})
	if containers != nil {
		s.layers.keep(func(id string) bool { return there[id] })
	}
}

// podRate begins the keys of pods among the rates.
const podRate = "pod/"

// containerStats translates a reading; nil for a container that does not run.
func (s *runtimeServer) containerStats(k kept, r *stats.Stats) *v1.ContainerStats {
	out := &v1.ContainerStats{
		Attributes: &v1.ContainerAttributes{Id: k.ID, Metadata: k.metadata(), Labels: k.Labels, Annotations: k.config.GetAnnotations()},
	}
	if usage, at, ok := s.layers.usage(k.Container); ok {
		out.WritableLayer = &v1.FilesystemUsage{
			Timestamp: at.UnixNano(), FsId: &v1.FilesystemIdentifier{Mountpoint: s.Disk.Mountpoint(k.Container)},
			UsedBytes: number(uint64(usage.Size)), InodesUsed: number(uint64(usage.Inodes)),
		}
	}
	if r == nil {
		return out
	}
	out.Cpu = cpuUsage(*r, s.rates.nanoCores(k.ID, r.Time, r.CPU.Usage, k.StartedAt))
	out.Memory = memoryUsage(*r)
	out.Swap = swapUsage(*r)
	out.Io = ioUsage(*r)
	return out
}

func cpuUsage(r stats.Stats, nanoCores uint64) *v1.CpuUsage {
	out := &v1.CpuUsage{Timestamp: r.Time.UnixNano(), UsageCoreNanoSeconds: number(r.CPU.Usage), UsageNanoCores: number(nanoCores)}
	if r.Pressure != nil {
		out.Psi = psi(r.Pressure.CPU)
	}
	return out
}

func memoryUsage(r stats.Stats) *v1.MemoryUsage {
	m := r.Memory
	out := &v1.MemoryUsage{
		Timestamp: r.Time.UnixNano(), WorkingSetBytes: number(m.WorkingSet), UsageBytes: number(m.Usage), RssBytes: number(m.RSS),
		PageFaults: number(m.PageFaults), MajorPageFaults: number(m.MajorPageFaults),
	}
	if m.Limit > 0 {
		out.AvailableBytes = number(m.Limit - min(m.Limit, m.WorkingSet))
	}
	if r.Pressure != nil {
		out.Psi = psi(r.Pressure.Memory)
	}
	return out
}

func swapUsage(r stats.Stats) *v1.SwapUsage {
	out := &v1.SwapUsage{Timestamp: r.Time.UnixNano(), SwapUsageBytes: number(r.Memory.SwapUsage)}
	if l := r.Memory.SwapLimit; l != nil {
		out.SwapAvailableBytes = number(*l - min(*l, r.Memory.SwapUsage))
	}
	return out
}

func ioUsage(r stats.Stats) *v1.IoUsage {
	if r.Pressure == nil {
		return nil
	}
	return &v1.IoUsage{Timestamp: r.Time.UnixNano(), Psi: psi(r.Pressure.IO)}
}

func psi(p stats.PSI) *v1.PsiStats {
	line := func(l stats.PSILine) *v1.PsiData {
		return &v1.PsiData{
			Total: l.Total * uint64(time.Microsecond/time.Nanosecond), // the CRI has nanoseconds
			Avg10: l.Avg10, Avg60: l.Avg60, Avg300: l.Avg300,
		}
	}
	return &v1.PsiStats{Full: line(p.Full), Some: line(p.Some)}
}

func number(n uint64) *v1.UInt64Value { return &v1.UInt64Value{Value: n} }
