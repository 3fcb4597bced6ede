package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// watchPause is the time between two pictures of --watch.
const watchPause = 500 * time.Millisecond

func statsFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "id", Usage: "only the " + what + " with this `ID`"},
		&cli.StringSliceFlag{Name: "label", Usage: "only those with the label `KEY=VALUE`"},
		&cli.IntFlag{Name: "seconds", Aliases: []string{"s"}, Value: 1, Usage: "measure the CPU for so many `SECONDS`"},
		watchFlag(), outputFlag(formatTable, formatJSON, formatYAML),
	}
}

func watchFlag() cli.Flag {
	return &cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "again and again"}
}

// watched runs a command once, or with --watch until it is interrupted.
func watched(act func(*cli.Context, *runtime) error) func(*cli.Context, *runtime) error {
	return func(c *cli.Context, r *runtime) error {
		for {
			err := act(c, r)
			switch {
			case !c.Bool("watch"):
				return err
			case c.Context.Err() != nil:
				return nil // an interrupt is how it ends
			case err != nil:
				return err
			}
			select {
			case <-c.Context.Done():
			case <-time.After(watchPause):
			}
		}
	}
}

// clearScreen makes room for the next picture on a terminal.
func clearScreen(c *cli.Context) {
	if c.Bool("watch") && terminal(c.App.Writer) {
		fmt.Fprint(c.App.Writer, "\x1b[2J\x1b[H")
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// statsID is the object of stats, which may be named in two ways.
func statsID(c *cli.Context) (string, error) {
	if err := icli.Args(c, 0, 1, "[ID]"); err != nil {
		return "", err
	}
	if c.Int("seconds") < 1 {
		return "", fmt.Errorf("--seconds %d: at least 1: %w", c.Int("seconds"), errdefs.ErrInvalidArgument)
	}
	if id := c.String("id"); id != "" {
		return id, nil
	}
	return c.Args().First(), nil
}

func statsCommand() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "print what containers use", ArgsUsage: "[CONTAINER]",
		Flags: append(statsFlags("container"),
			&cli.StringFlag{Name: "pod", Aliases: []string{"p"}, Usage: "only containers of the pod with this `ID`"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "containers that do not run too"}),
		Action: with(containersAndPods, watched(runStats)),
	}
}

func runStats(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	f := &cri.ContainerStatsFilter{PodSandboxId: c.String("pod")}
	if f.Id, err = statsID(c); err != nil {
		return err
	}
	if f.LabelSelector, err = parseLabels(c.StringSlice("label")); err != nil {
		return err
	}
	first, err := r.statsOf(c.Context, f)
	if err != nil {
		return err
	}
	if format != formatTable {
		return printMessage(c.App.Writer, &cri.ListContainerStatsResponse{Stats: first}, format, "")
	}
	if err := pause(c.Context, time.Duration(c.Int("seconds"))*time.Second); err != nil {
		return err
	}
	second, err := r.statsOf(c.Context, f)
	if err != nil {
		return err
	}
	clearScreen(c)
	return printTable(c.App.Writer, []string{"CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES", "SWAP"}, statsRows(first, second, c.Bool("all")))
}

// statsOf asks for statistics, ordered by the containers' identifiers.
func (r *runtime) statsOf(ctx context.Context, f *cri.ContainerStatsFilter) ([]*cri.ContainerStats, error) {
	all, err := r.containerStats(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("statistics of containers: %w", err)
	}
	slices.SortFunc(all, func(a, b *cri.ContainerStats) int {
		return cmp.Compare(a.GetAttributes().GetId(), b.GetAttributes().GetId())
	})
	return all, nil
}

// statsRows compares two samples. Containers without figures do not run, and are left out unless all are wanted; those of
// only one sample are left out too.
func statsRows(first, second []*cri.ContainerStats, all bool) [][]string {
	before := map[string]*cri.ContainerStats{}
	for _, s := range first {
		before[s.GetAttributes().GetId()] = s
	}
	var rows [][]string
	for _, s := range second {
		id := s.GetAttributes().GetId()
		memory := s.GetMemory().GetWorkingSetBytes().GetValue()
		running := s.GetCpu().GetUsageCoreNanoSeconds().GetValue() != 0 || memory != 0
		if old, ok := before[id]; ok && (running || all) {
			rows = append(rows, []string{short(id, ""), s.GetAttributes().GetMetadata().GetName(), percent(old.GetCpu(), s.GetCpu()),
				units.HumanSize(float64(memory)), units.HumanSize(float64(s.GetWritableLayer().GetUsedBytes().GetValue())),
				strconv.FormatUint(s.GetWritableLayer().GetInodesUsed().GetValue(), 10),
				units.HumanSize(float64(s.GetSwap().GetSwapUsageBytes().GetValue()))})
		}
	}
	return rows
}

// percent is the share of one CPU between two samples; runtimes that sample seldom may give the same one twice.
func percent(old, now *cri.CpuUsage) string {
	used := float64(now.GetUsageCoreNanoSeconds().GetValue()) - float64(old.GetUsageCoreNanoSeconds().GetValue())
	took := now.GetTimestamp() - old.GetTimestamp()
	if took <= 0 || used < 0 {
		return "0.00"
	}
	return strconv.FormatFloat(used/float64(took)*100, 'f', 2, 64)
}
