// Package limits reads the flags that limit a container's processors and processes, which the command lines share. Those of
// memory have other names and rules in each, as in docker and ctr, and are read there.
package limits

import (
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// Flags is a command line that has been read; *cli.Context is one.
type Flags interface {
	String(string) string
	Int64(string) int64
	Float64(string) float64
}

// List are the flags that Read reads. shares are other names of --cpu-shares.
func List(shares ...string) []cli.Flag {
	return []cli.Flag{
		&cli.Float64Flag{Name: "cpus", Usage: "`NUMBER` of CPUs' time"},
		&cli.Int64Flag{Name: "cpu-quota", Usage: "`MICROSECONDS` of CPU time per period"},
		&cli.Int64Flag{Name: "cpu-period", Usage: "period in `MICROSECONDS`"},
		&cli.Int64Flag{Name: "cpu-shares", Aliases: shares, Usage: "relative `WEIGHT`, 1024 by default"},
		&cli.Int64Flag{Name: "cpu-rt-period", Usage: "real-time period in `MICROSECONDS`"},
		&cli.Int64Flag{Name: "cpu-rt-runtime", Usage: "real-time `MICROSECONDS` per period"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "`LIST` of CPUs, for example 0-1"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "`LIST` of memory nodes"},
		&cli.Int64Flag{Name: "pids-limit", Usage: "largest `NUMBER` of processes; -1: no limit"},
	}
}

// Read adds what the flags say; --cpus is a quota in a period of 100 ms.
func Read(f Flags, r *specs.LinuxResources) error {
	c := &specs.LinuxCPU{Cpus: f.String("cpuset-cpus"), Mems: f.String("cpuset-mems")}
	unsigned := func(name string) *uint64 {
		if n := f.Int64(name); n > 0 {
			u := uint64(n)
			return &u
		}
		return nil
	}
	c.Shares, c.Period, c.RealtimePeriod = unsigned("cpu-shares"), unsigned("cpu-period"), unsigned("cpu-rt-period")
	if n := f.Int64("cpu-quota"); n != 0 {
		c.Quota = &n
	}
	if n := f.Int64("cpu-rt-runtime"); n != 0 {
		c.RealtimeRuntime = &n
	}
	if n := f.Float64("cpus"); n != 0 {
		if c.Quota != nil || c.Period != nil {
			return invalid("conflicting options: --cpus with --cpu-quota or --cpu-period: they say the same, give one")
		}
		if n < 0.01 {
			return invalid("range of CPUs is from 0.01 up: --cpus %g", n)
		}
		period, quota := uint64(100000), int64(n*100000+0.5)
		c.Period, c.Quota = &period, &quota
	}
	if c.Cpus != "" || c.Mems != "" || c.Shares != nil || c.Period != nil || c.Quota != nil || c.RealtimePeriod != nil || c.RealtimeRuntime != nil {
		r.CPU = c
	}
	if n := f.Int64("pids-limit"); n != 0 {
		n = max(-1, n)
		r.Pids = &specs.LinuxPids{Limit: &n}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}
