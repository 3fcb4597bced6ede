package options

import (
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/internal/limits"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// ResourceFlags are the limits that can be changed while a container runs.
func ResourceFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "`SIZE` of memory, for example 64m"},
		&cli.StringFlag{Name: "memory-reservation", Usage: "`SIZE` that the kernel tries to hold when memory is scarce"},
		&cli.StringFlag{Name: "memory-swap", Usage: "`SIZE` of memory and swap together; -1: no limit of the swap"},
		&cli.UintFlag{Name: "blkio-weight", Usage: "relative `WEIGHT` of block I/O, 10 to 1000"},
	}, limits.List("c")...)
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

func requestLimits(f Flags, r *spec.Request, _ *api.CreateContainerRequest) error {
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
	if r.BlockLimits, err = blockLimits(f); err != nil {
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
	if err := memory(f, r); err != nil {
		return nil, err
	}
	if err := limits.Read(f, r); err != nil {
		return nil, err
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

// blockLimits reads the flags that limit single block devices, which are the daemon's machine's.
func blockLimits(f Flags) ([]spec.BlockLimit, error) {
	var all []spec.BlockLimit
	of := func(path string) *spec.BlockLimit {
		for i := range all {
			if all[i].Path == path {
				return &all[i]
			}
		}
		all = append(all, spec.BlockLimit{Path: path})
		return &all[len(all)-1]
	}
	for _, text := range f.StringSlice("blkio-weight-device") {
		path, value, _ := strings.Cut(text, ":")
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n != 0 && (n < 10 || n > 1000) {
			return nil, invalid("invalid weight for device: %s: write DEVICE:WEIGHT, 10 to 1000", text)
		}
		of(path).Weight = uint16(n)
	}
	for _, x := range []struct {
		flag string
		to   func(*spec.BlockLimit) *uint64
		size bool
	}{
		{"device-read-bps", func(b *spec.BlockLimit) *uint64 { return &b.ReadBps }, true},
		{"device-write-bps", func(b *spec.BlockLimit) *uint64 { return &b.WriteBps }, true},
		{"device-read-iops", func(b *spec.BlockLimit) *uint64 { return &b.ReadIOPS }, false},
		{"device-write-iops", func(b *spec.BlockLimit) *uint64 { return &b.WriteIOPS }, false},
	} {
		for _, text := range f.StringSlice(x.flag) {
			path, rate, err := throttle(text, x.size)
			if err != nil {
				return nil, invalid("--%s %s: %w", x.flag, text, err)
			}
			*x.to(of(path)) = rate
		}
	}
	return all, nil
}

func throttle(text string, size bool) (path string, rate uint64, err error) {
	path, value, ok := strings.Cut(text, ":")
	if !ok {
		return "", 0, invalid("bad format: write DEVICE:RATE")
	}
	if size {
		n, err := units.RAMInBytes(value)
		return path, uint64(max(0, n)), err
	}
	rate, err = strconv.ParseUint(value, 10, 64)
	return path, rate, err
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
