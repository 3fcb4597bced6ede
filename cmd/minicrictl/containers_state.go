package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start containers that have been made", ArgsUsage: "CONTAINER...",
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			return eachInOrder(c, "CONTAINER...", func(id string) error { return r.start(c, id) })
		}),
	}
}

func (r *runtime) start(c *cli.Context, id string) error {
	if _, err := r.StartContainer(c.Context, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	fmt.Fprintln(c.App.Writer, id)
	return nil
}

func stopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop running containers", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "timeout", Aliases: []string{"t"}, Usage: "how many `SECONDS` they have to end by themselves"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all running containers"},
		},
		Action: with(containersAndPods, runStop),
	}
}

func runStop(c *cli.Context, r *runtime) error {
	if !c.Bool("all") {
		return eachInOrder(c, "CONTAINER...", func(id string) error { return r.stop(c, c.App.Writer, id, c.Int64("timeout")) })
	}
	if c.NArg() > 0 {
		return fmt.Errorf("--all and containers: give one of them: %w", errdefs.ErrInvalidArgument)
	}
	all, err := r.chosen(c.Context, selection{})
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(c.App.Writer, "No running containers found.")
	}
	for _, ctr := range all {
		err = errors.Join(err, r.stop(c, c.App.Writer, ctr.Id, c.Int64("timeout")))
	}
	return err
}

func (r *runtime) stop(c *cli.Context, w io.Writer, id string, seconds int64) error {
	if _, err := r.StopContainer(c.Context, &cri.StopContainerRequest{ContainerId: id, Timeout: seconds}); err != nil {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	fmt.Fprintln(w, id)
	return nil
}

func rmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove containers and their logs", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "stop those that run"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all containers"},
			&cli.BoolFlag{Name: "keep-logs", Aliases: []string{"k"}, Usage: "leave the log files"},
		},
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			ids := c.Args().Slice()
			if c.Bool("all") {
				all, err := r.containers(c.Context, nil)
				if err != nil {
					return fmt.Errorf("list containers: %w", err)
				}
				ids = nil
				for _, ctr := range all {
					ids = append(ids, ctr.Id)
				}
			}
			return atOnce(c, "containers", "CONTAINER...", ids, func(w io.Writer, id string) error { return r.remove(c, w, id) })
		}),
	}
}

func (r *runtime) remove(c *cli.Context, w io.Writer, id string) error {
	answer, err := r.ContainerStatus(c.Context, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return fmt.Errorf("status of container %s: %w", id, err)
	}
	if answer.GetStatus().GetState() == cri.ContainerState_CONTAINER_RUNNING {
		if !c.Bool("force") {
			return fmt.Errorf("container %s runs: stop it first (%s stop), or remove it with --force", id, program)
		}
		if err := r.stop(c, w, id, 0); err != nil {
			return err
		}
	}
	if _, err := r.RemoveContainer(c.Context, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	fmt.Fprintln(w, id)
	if path := answer.GetStatus().GetLogPath(); path != "" && !c.Bool("keep-logs") {
		removeLogs(c, path)
	}
	return nil
}

// removeLogs removes a container's log and what was rotated away from it.
func removeLogs(c *cli.Context, path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // the runtime has removed the directory, or is on another machine
	}
	base := filepath.Base(path)
	for _, e := range entries {
		if e.Name() != base && (len(e.Name()) <= len(base) || e.Name()[:len(base)+1] != base+".") {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !os.IsNotExist(err) {
			warn(c, "the log stays: %v", err)
		}
	}
}

func updateCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "change the limits of containers", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "cpu-period", Usage: "CFS period in `MICROSECONDS`; 0: the system's"},
			&cli.Int64Flag{Name: "cpu-quota", Usage: "CPU time in a period, in `MICROSECONDS`"},
			&cli.Int64Flag{Name: "cpu-share", Usage: "CPU `WEIGHT` against other containers, as cgroup v1's shares"},
			&cli.StringFlag{Name: "cpuset-cpus", Usage: "`LIST` of CPUs, as 0-2,7"},
			&cli.StringFlag{Name: "cpuset-mems", Usage: "`LIST` of memory nodes"},
			&cli.StringFlag{Name: "memory", Usage: "memory limit in `BYTES`, or with a unit, as 64MiB"},
			&cli.Int64Flag{Name: "oom-score-adj", Usage: "`SCORE` for the OOM killer, from -1000 to 1000"},
			&cli.Int64Flag{Name: "cpu-count", Usage: "`NUMBER` of CPUs (Windows)"},
			&cli.Int64Flag{Name: "cpu-maximum", Usage: "share of the CPUs in `HUNDREDTHS` of a percent (Windows)"},
		},
		Action: func(c *cli.Context) error {
			request, err := limits(c)
			if err != nil {
				return err
			}
			return with(containersAndPods, func(c *cli.Context, r *runtime) error {
				return eachInOrder(c, "CONTAINER...", func(id string) error {
					request.ContainerId = id
					if _, err := r.UpdateContainerResources(c.Context, request); err != nil {
						return fmt.Errorf("update container %s: %w", id, err)
					}
					fmt.Fprintln(c.App.Writer, id)
					return nil
				})
			})(c)
		},
	}
}

// limits makes the request of update's flags.
func limits(c *cli.Context) (*cri.UpdateContainerResourcesRequest, error) {
	if c.NumFlags() == 0 {
		return nil, fmt.Errorf("update: no limit given: see %s --help: %w", c.Command.HelpName, errdefs.ErrInvalidArgument)
	}
	var memory int64
	if text := c.String("memory"); text != "" {
		var err error
		if memory, err = units.RAMInBytes(text); err != nil {
			return nil, fmt.Errorf("--memory %q: write bytes, or for example 64MiB: %w", text, errdefs.ErrInvalidArgument)
		}
	}
	if c.IsSet("cpu-count") || c.IsSet("cpu-maximum") {
		return &cri.UpdateContainerResourcesRequest{Windows: &cri.WindowsContainerResources{
			CpuCount: c.Int64("cpu-count"), CpuMaximum: c.Int64("cpu-maximum"), CpuShares: c.Int64("cpu-share"), MemoryLimitInBytes: memory,
		}}, nil
	}
	return &cri.UpdateContainerResourcesRequest{Linux: &cri.LinuxContainerResources{
		CpuPeriod: c.Int64("cpu-period"), CpuQuota: c.Int64("cpu-quota"), CpuShares: c.Int64("cpu-share"),
		CpusetCpus: c.String("cpuset-cpus"), CpusetMems: c.String("cpuset-mems"), MemoryLimitInBytes: memory, OomScoreAdj: c.Int64("oom-score-adj"),
	}}, nil
}

func checkpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "write the state of running containers to an archive", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{&cli.StringFlag{Name: "export", Aliases: []string{"e"}, TakesFile: true, Usage: "`FILE` for the archive, on the runtime's machine"}},
		Action: func(c *cli.Context) error {
			if c.String("export") == "" {
				return fmt.Errorf("checkpoint: where to? give --export=/path/to/checkpoint.tar: %w", errdefs.ErrInvalidArgument)
			}
			return with(containersAndPods, func(c *cli.Context, r *runtime) error {
				return eachInOrder(c, "CONTAINER...", func(id string) error {
					if _, err := r.CheckpointContainer(c.Context, &cri.CheckpointContainerRequest{ContainerId: id, Location: c.String("export")}); err != nil {
						return fmt.Errorf("checkpoint container %s: %w", id, err)
					}
					fmt.Fprintln(c.App.Writer, id)
					return nil
				})
			})(c)
		},
	}
}
