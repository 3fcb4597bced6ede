package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func statspCommand() *cli.Command {
	return &cli.Command{
		Name: "statsp", Usage: "print what pods use", ArgsUsage: "[POD]", Flags: statsFlags("pod"),
		Action: with(containersAndPods, watched(runStatsp)),
	}
}

func runStatsp(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	f := &cri.PodSandboxStatsFilter{}
	if f.Id, err = statsID(c); err != nil {
		return err
	}
	if f.LabelSelector, err = parseLabels(c.StringSlice("label")); err != nil {
		return err
	}
	first, err := r.podStatsOf(c.Context, f)
	if err != nil {
		return err
	}
	if format != formatTable {
		return printMessage(c.App.Writer, &cri.ListPodSandboxStatsResponse{Stats: first}, format, "")
	}
	if err := pause(c.Context, time.Duration(c.Int("seconds"))*time.Second); err != nil {
		return err
	}
	second, err := r.podStatsOf(c.Context, f)
	if err != nil {
		return err
	}
	clearScreen(c)
	return printTable(c.App.Writer, []string{"POD", "POD ID", "CPU %", "MEM"}, podStatsRows(first, second))
}

// podStatsOf asks for the statistics of pods, ordered by their identifiers. Where the runtime has none of pods, they are
// the sums of those of their containers.
func (r *runtime) podStatsOf(ctx context.Context, f *cri.PodSandboxStatsFilter) ([]*cri.PodSandboxStats, error) {
	all, err := r.podStats(ctx, f)
	if unimplemented(err) {
		all, err = r.sumStats(ctx, f)
	}
	if err != nil {
		return nil, fmt.Errorf("statistics of pods: %w", err)
	}
	slices.SortFunc(all, func(a, b *cri.PodSandboxStats) int {
		return cmp.Compare(a.GetAttributes().GetId(), b.GetAttributes().GetId())
	})
	return all, nil
}

func (r *runtime) sumStats(ctx context.Context, f *cri.PodSandboxStatsFilter) ([]*cri.PodSandboxStats, error) {
	pods, err := r.pods(ctx, &cri.PodSandboxFilter{Id: f.Id, LabelSelector: f.LabelSelector, State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}})
	if err != nil {
		return nil, err
	}
	var all []*cri.PodSandboxStats
	for _, p := range pods {
		containers, err := r.containerStats(ctx, &cri.ContainerStatsFilter{PodSandboxId: p.Id})
		if err != nil {
			return nil, err
		}
		all = append(all, &cri.PodSandboxStats{
			Attributes: &cri.PodSandboxAttributes{Id: p.Id, Metadata: p.Metadata, Labels: p.Labels, Annotations: p.Annotations},
			Linux:      sumContainers(containers),
		})
	}
	return all, nil
}

// sumContainers adds CPU and memory; the time is that of the youngest sample.
func sumContainers(containers []*cri.ContainerStats) *cri.LinuxPodSandboxStats {
	sum := &cri.LinuxPodSandboxStats{Containers: containers}
	for _, c := range containers {
		if c.Cpu != nil {
			if sum.Cpu == nil {
				sum.Cpu = &cri.CpuUsage{UsageCoreNanoSeconds: &cri.UInt64Value{}}
			}
			sum.Cpu.Timestamp = max(sum.Cpu.Timestamp, c.Cpu.Timestamp)
			sum.Cpu.UsageCoreNanoSeconds.Value += c.Cpu.GetUsageCoreNanoSeconds().GetValue()
		}
		if c.Memory != nil {
			if sum.Memory == nil {
				sum.Memory = &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{}}
			}
			sum.Memory.Timestamp = max(sum.Memory.Timestamp, c.Memory.Timestamp)
			sum.Memory.WorkingSetBytes.Value += c.Memory.GetWorkingSetBytes().GetValue()
		}
	}
	return sum
}

// podUsage is what the table has of a pod.
type podUsage struct {
	cpu    *cri.CpuUsage
	memory uint64
}

func usageOf(s *cri.PodSandboxStats) podUsage {
	if w := s.GetWindows(); w != nil {
		return podUsage{
			cpu: &cri.CpuUsage{
				Timestamp:            w.GetCpu().GetTimestamp(),
				UsageCoreNanoSeconds: &cri.UInt64Value{Value: w.GetCpu().GetUsageCoreNanoSeconds().GetValue()},
			},
			memory: w.GetMemory().GetWorkingSetBytes().GetValue(),
		}
	}
	return podUsage{cpu: s.GetLinux().GetCpu(), memory: s.GetLinux().GetMemory().GetWorkingSetBytes().GetValue()}
}

// podStatsRows compares two samples; pods without figures, or of only one sample, are left out.
func podStatsRows(first, second []*cri.PodSandboxStats) [][]string {
	before := map[string]podUsage{}
	for _, s := range first {
		before[s.GetAttributes().GetId()] = usageOf(s)
	}
	var rows [][]string
	for _, s := range second {
		u := usageOf(s)
		old, ok := before[s.GetAttributes().GetId()]
		if !ok || u.cpu.GetUsageCoreNanoSeconds().GetValue() == 0 && u.memory == 0 {
			continue
		}
		rows = append(rows, []string{s.GetAttributes().GetMetadata().GetName(), short(s.GetAttributes().GetId(), ""),
			percent(old.cpu, u.cpu), units.HumanSize(float64(u.memory))})
	}
	return rows
}

func metricspCommand() *cli.Command {
	return &cli.Command{
		Name: "metricsp", Usage: "print the metrics of pods, as cAdvisor has them", Flags: []cli.Flag{watchFlag(), outputFlag(formatJSON, formatYAML)},
		Action: noArgs(with(containersAndPods, watched(func(c *cli.Context, r *runtime) error {
			format, err := outputOf(c, formatJSON, formatYAML)
			if err != nil {
				return err
			}
			all, err := r.podMetrics(c.Context)
			if err != nil {
				return fmt.Errorf("metrics of pods: %w", err)
			}
			return printMessage(c.App.Writer, &cri.ListPodSandboxMetricsResponse{PodMetrics: all}, format, "")
		}))),
	}
}

func metricdescsCommand() *cli.Command {
	return &cli.Command{
		Name: "metricdescs", Usage: "print which metrics of pods there are", Flags: []cli.Flag{outputFlag(formatJSON, formatYAML)},
		Action: noArgs(with(containersAndPods, func(c *cli.Context, r *runtime) error {
			format, err := outputOf(c, formatJSON, formatYAML)
			if err != nil {
				return err
			}
			answer, err := r.ListMetricDescriptors(c.Context, &cri.ListMetricDescriptorsRequest{})
			if err != nil {
				return fmt.Errorf("descriptions of metrics: %w", err)
			}
			return printMessage(c.App.Writer, answer, format, "")
		})),
	}
}
