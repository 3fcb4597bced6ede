package options

import (
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// ResourceFlags are the limits that can be changed while a container runs.
func ResourceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "`SIZE` of memory, for example 64m"},
		&cli.StringFlag{Name: "memory-reservation", Usage: "`SIZE` that the kernel tries to hold when memory is scarce"},
		&cli.StringFlag{Name: "memory-swap", Usage: "`SIZE` of memory and swap together; -1: no limit of the swap"},
		&cli.Float64Flag{Name: "cpus", Usage: "`NUMBER` of CPUs' time"},
		&cli.Int64Flag{Name: "cpu-quota", Usage: "`MICROSECONDS` of CPU time per period"},
		&cli.Int64Flag{Name: "cpu-period", Usage: "period in `MICROSECONDS`"},
		&cli.Int64Flag{Name: "cpu-shares", Aliases: []string{"c"}, Usage: "relative `WEIGHT`, 1024 by default"},
		&cli.Int64Flag{Name: "cpu-rt-period", Usage: "real-time period in `MICROSECONDS`"},
		&cli.Int64Flag{Name: "cpu-rt-runtime", Usage: "real-time `MICROSECONDS` per period"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "`LIST` of CPUs, for example 0-1"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "`LIST` of memory nodes"},
		&cli.Int64Flag{Name: "pids-limit", Usage: "largest `NUMBER` of processes; -1: no limit"},
		&cli.UintFlag{Name: "blkio-weight", Usage: "relative `WEIGHT` of block I/O, 10 to 1000"},
	}
}

// limitFlags are the limits that a container has for good.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Int64Flag{Name: "memory-swappiness", Value: -1, Usage: "how gladly its memory is swapped, 0 to 100"},
		&cli.BoolFlag{Name: "oom-kill-disable", Usage: "its processes wait for memory instead of being killed"},
		&cli.IntFlag{Name: "oom-score-adj", Usage: "how gladly the kernel kills it for want of memory, -1000 to 1000"},
		&cli.StringSliceFlag{Name: "blkio-weight-device", Usage: "`DEVICE:WEIGHT`"},
		&cli.StringSliceFlag{Name: "device-read-bps", Usage: "`DEVICE:SIZE` to read in a second"},
		&cli.StringSliceFlag{Name: "device-write-bps", Usage: "`DEVICE:SIZE` to write in a second"},
		&cli.StringSliceFlag{Name: "device-read-iops", Usage: "`DEVICE:NUMBER` of reads in a second"},
		&cli.StringSliceFlag{Name: "device-write-iops", Usage: "`DEVICE:NUMBER` of writes in a second"},
		&cli.StringSliceFlag{Name: "device-cgroup-rule", Usage: "`RULE` of the devices cgroup, for example 'c 42:* rmw'"},
		&cli.StringSliceFlag{Name: "ulimit", Usage: "`NAME=SOFT[:HARD]`, for example nofile=1024:4096"},
		&cli.StringSliceFlag{Name: "cgroup-conf", Usage: "cgroup v2 `FILE=VALUE`"},
		&cli.StringFlag{Name: "cgroup-parent", Usage: "parent `CGROUP` of the container's"},
		&cli.StringFlag{Name: "rdt-class", Usage: "Intel RDT `CLASS`"},
	}
}

func limits(f Flags, r *spec.Request, _ *api.CreateContainerRequest) error {
	res, err := Resources(f)
	if err != nil {
		return err
	}
	if res == nil {
		res = &specs.LinuxResources{}
	}
	if err := memoryForGood(f, res); err != nil {
		return err
	}
	if err := blockDevices(f, res, stat); err != nil {
		return err
	}
	for _, rule := range f.StringSlice("device-cgroup-rule") {
		d, err := deviceRule(rule)
		if err != nil {
			return err
		}
		res.Devices = append(res.Devices, d)
	}
	if res.Unified, err = pairs("--cgroup-conf", f.StringSlice("cgroup-conf")); err != nil {
		return err
	}
	if !empty(res) {
		r.Resources = res
	}
	for _, text := range f.StringSlice("ulimit") {
		u, err := units.ParseUlimit(text)
		if err != nil {
			return invalid("--ulimit %s: %w", text, err)
		}
		r.Rlimits = append(r.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	if f.IsSet("oom-score-adj") {
		adj := f.Int("oom-score-adj")
		if adj < -1000 || adj > 1000 {
			return invalid("invalid value %d, range for oom score adj is [-1000, 1000]", adj)
		}
		r.OOMScoreAdj = &adj
	}
	r.CgroupParent, r.RDTClass = f.String("cgroup-parent"), f.String("rdt-class")
	return nil
}

func empty(r *specs.LinuxResources) bool {
	return r.Memory == nil && r.CPU == nil && r.Pids == nil && r.BlockIO == nil && r.Unified == nil && r.Devices == nil
}

// Resources reads the flags of ResourceFlags; nil when none is set.
func Resources(f Flags) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	for _, part := range []func(Flags, *specs.LinuxResources) error{memory, cpu} {
		if err := part(f, r); err != nil {
			return nil, err
		}
	}
	if n := f.Int64("pids-limit"); n != 0 {
		n = max(-1, n)
		r.Pids = &specs.LinuxPids{Limit: &n}
	}
	if f.IsSet("blkio-weight") && uintOf(f, "blkio-weight") != 0 {
		n := uintOf(f, "blkio-weight")
		if n < 10 || n > 1000 {
			return nil, invalid("range of blkio weight is from 10 to 1000")
		}
		weight := uint16(n)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
	}
	if empty(r) {
		return nil, nil
	}
	return r, nil
}

// uintOf reads a flag of an unsigned number, which has a method of its own.
func uintOf(f Flags, name string) uint {
	if u, ok := f.(interface{ Uint(string) uint }); ok {
		return u.Uint(name)
	}
	return 0
}

// sizeOf reads a size in bytes.
func sizeOf(flag, text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil {
		return 0, invalid("invalid argument %q for --%s: write a size, for example 64m", text, flag)
	}
	return n, nil
}

const leastMemory = 6 << 20 // docker's floor: below it runtimes cannot start a container

func memory(f Flags, r *specs.LinuxResources) error {
	m := &specs.LinuxMemory{}
	for _, x := range []struct {
		flag string
		to   **int64
	}{{"memory", &m.Limit}, {"memory-reservation", &m.Reservation}, {"memory-swap", &m.Swap}} {
		text := f.String(x.flag)
		if text == "" || text == "0" {
			continue
		}
		n, err := int64(-1), error(nil)
		if text != "-1" || x.flag != "memory-swap" {
			n, err = sizeOf(x.flag, text)
		}
		if err != nil {
			return err
		}
		*x.to = &n
	}
	switch {
	case m.Limit != nil && *m.Limit < leastMemory:
		return invalid("minimum memory limit allowed is 6MB")
	case m.Swap != nil && *m.Swap > 0 && m.Limit == nil:
		return invalid("you should always set the --memory limit when using --memory-swap")
	case m.Swap != nil && *m.Swap > 0 && *m.Swap < *m.Limit:
		return invalid("minimum --memory-swap limit should be larger than --memory limit, see usage")
	case m.Reservation != nil && m.Limit != nil && *m.Reservation > *m.Limit:
		return invalid("minimum --memory limit can not be less than --memory-reservation limit, see usage")
	case m.Limit != nil && m.Swap == nil:
		swap := 2 * *m.Limit // docker's default: as much swap again
		m.Swap = &swap
	}
	if m.Limit != nil || m.Reservation != nil || m.Swap != nil {
		r.Memory = m
	}
	return nil
}

// cpu reads the CPU's limits; --cpus is a quota in a period of 100 ms.
func cpu(f Flags, r *specs.LinuxResources) error {
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
			return invalid("conflicting options: --cpus with --cpu-quota or --cpu-period")
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
	return nil
}

func memoryForGood(f Flags, r *specs.LinuxResources) error {
	swappiness, disable := f.Int64("memory-swappiness"), f.Bool("oom-kill-disable")
	if swappiness == -1 && !disable {
		return nil
	}
	if swappiness < -1 || swappiness > 100 {
		return invalid("invalid value: %d, valid memory swappiness range is 0-100", swappiness)
	}
	if r.Memory == nil {
		r.Memory = &specs.LinuxMemory{}
	}
	if swappiness >= 0 {
		n := uint64(swappiness)
		r.Memory.Swappiness = &n
	}
	if disable {
		r.Memory.DisableOOMKiller = &disable
	}
	return nil
}

// stat finds a device's numbers.
func stat(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// blockDevices reads the flags that limit single block devices.
func blockDevices(f Flags, r *specs.LinuxResources, find func(string) (int64, int64, error)) error {
	b := &specs.LinuxBlockIO{}
	if r.BlockIO != nil {
		b = r.BlockIO
	}
	set := r.BlockIO != nil
	for _, text := range f.StringSlice("blkio-weight-device") {
		path, value, _ := strings.Cut(text, ":")
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n != 0 && (n < 10 || n > 1000) {
			return invalid("invalid weight for device: %s: write DEVICE:WEIGHT, 10 to 1000", text)
		}
		w := specs.LinuxWeightDevice{}
		if w.Major, w.Minor, err = find(path); err != nil {
			return err
		}
		weight := uint16(n)
		w.Weight, set = &weight, true
		b.WeightDevice = append(b.WeightDevice, w)
	}
	for _, x := range []struct {
		flag string
		to   *[]specs.LinuxThrottleDevice
		size bool
	}{
		{"device-read-bps", &b.ThrottleReadBpsDevice, true}, {"device-write-bps", &b.ThrottleWriteBpsDevice, true},
		{"device-read-iops", &b.ThrottleReadIOPSDevice, false}, {"device-write-iops", &b.ThrottleWriteIOPSDevice, false},
	} {
		for _, text := range f.StringSlice(x.flag) {
			d, err := throttle(text, x.size, find)
			if err != nil {
				return invalid("--%s %s: %w", x.flag, text, err)
			}
			*x.to, set = append(*x.to, d), true
		}
	}
	if set {
		r.BlockIO = b
	}
	return nil
}

func throttle(text string, size bool, find func(string) (int64, int64, error)) (d specs.LinuxThrottleDevice, err error) {
	path, value, ok := strings.Cut(text, ":")
	if !ok {
		return d, invalid("bad format: write DEVICE:RATE")
	}
	if size {
		var n int64
		n, err = units.RAMInBytes(value)
		d.Rate = uint64(max(0, n))
	} else {
		d.Rate, err = strconv.ParseUint(value, 10, 64)
	}
	if err != nil {
		return d, err
	}
	d.Major, d.Minor, err = find(path)
	return d, err
}

// deviceRule reads TYPE MAJOR:MINOR ACCESS, as the devices cgroup of v1 has it (kernel: cgroup-v1/devices.rst).
func deviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	d := specs.LinuxDeviceCgroup{Allow: true}
	fields := strings.Fields(text)
	wrong := invalid("invalid device cgroup format '%s': write TYPE MAJOR:MINOR ACCESS, for example 'c 42:* rmw'", text)
	if len(fields) != 3 || !strings.Contains("abc", fields[0]) || len(fields[0]) != 1 || strings.Trim(fields[2], "rwm") != "" {
		return d, wrong
	}
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return d, wrong
	}
	for _, x := range []struct {
		text string
		to   **int64
	}{{major, &d.Major}, {minor, &d.Minor}} {
		if x.text == "*" {
			continue
		}
		n, err := strconv.ParseInt(x.text, 10, 32)
		if err != nil {
			return d, wrong
		}
		*x.to = &n
	}
	d.Type, d.Access = fields[0], fields[2]
	return d, nil
}
