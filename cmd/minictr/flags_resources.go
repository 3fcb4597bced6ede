package main

import (
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/limits"
	"github.com/minirt/mini/oci/spec"
)

func requestFilesystem(c *cli.Context, r *spec.Request) error {
	r.ReadOnly, r.RootfsPropagation = c.Bool("read-only"), c.String("rootfs-propagation")
	for _, s := range c.StringSlice("mount") {
		m, err := parseMount(s)
		if err != nil {
			return err
		}
		r.Mounts = append(r.Mounts, m)
	}
	for _, s := range c.StringSlice("tmpfs") {
		target, options, _ := strings.Cut(s, ":")
		if r.Tmpfs == nil {
			r.Tmpfs = map[string]string{}
		}
		r.Tmpfs[target] = options
	}
	for _, s := range c.StringSlice("device") {
		if strings.Contains(s, "=") {
			r.CDIDevices = append(r.CDIDevices, s)
			continue
		}
		f := strings.Split(s, ":")
		d := spec.Device{Source: f[0]}
		if len(f) > 1 {
			d.Target = f[1]
		}
		if len(f) > 2 {
			d.Permissions = f[2]
		}
		r.Devices = append(r.Devices, d)
	}
	for _, gpu := range c.StringSlice("gpus") {
		r.CDIDevices = append(r.CDIDevices, "nvidia.com/gpu="+gpu)
	}
	size, err := bytesFlag(c, "shm-size")
	if size != nil {
		r.ShmSize = *size
	}
	return err
}

// parseMount reads ctr's and docker's forms: type=bind,src=/a,dst=/b,options=rbind:ro and type=bind,source=/a,target=/b,readonly.
func parseMount(s string) (spec.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return spec.Mount{}, fmt.Errorf("--mount %s: %w", s, err)
	}
	m := spec.Mount{Type: "bind"}
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "type":
			m.Type = v
		case "src", "source":
			m.Source = v
		case "dst", "destination", "target":
			m.Target = v
		case "options":
			m.Options = append(m.Options, strings.Split(v, ":")...)
		case "ro", "readonly":
			m.Options = append(m.Options, "ro")
		default:
			return spec.Mount{}, fmt.Errorf("--mount %s: unknown key %q: use type, src, dst, options, readonly", s, k)
		}
	}
	if m.Target == "" {
		return spec.Mount{}, fmt.Errorf("--mount %s: dst is missing", s)
	}
	if m.Type == "bind" && m.Source == "" {
		return spec.Mount{}, fmt.Errorf("--mount %s: src is missing", s)
	}
	return m, nil
}

func bytesFlag(c *cli.Context, name string) (*int64, error) {
	s := c.String(name)
	if s == "" {
		return nil, nil
	}
	if s == "-1" {
		n := int64(-1)
		return &n, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil {
		return nil, fmt.Errorf("--%s %s: write a size, for example 64MiB", name, s)
	}
	return &n, nil
}

func requestResources(c *cli.Context, r *spec.Request) error {
	res, err := resources(c)
	r.Resources = res
	return err
}

// resources reads the flags that limit a container; nil when none is set.
func resources(c *cli.Context) (*specs.LinuxResources, error) {
	res := &specs.LinuxResources{}
	if err := memoryFlags(c, res); err != nil {
		return nil, err
	}
	if err := limits.Read(c, res); err != nil {
		return nil, err
	}
	for _, s := range c.StringSlice("hugepage-limit") {
		page, size, ok := strings.Cut(s, "=")
		n, err := units.RAMInBytes(size)
		if !ok || err != nil {
			return nil, fmt.Errorf("--hugepage-limit %s: write PAGESIZE=SIZE, for example 2MB=64MiB", s)
		}
		res.HugepageLimits = append(res.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: page, Limit: uint64(n)})
	}
	var err error
	if res.Unified, err = icli.Pairs("--unified", c.StringSlice("unified")); err != nil {
		return nil, err
	}
	if res.Memory == nil && res.CPU == nil && res.Pids == nil && res.HugepageLimits == nil && res.Unified == nil {
		return nil, nil
	}
	return res, nil
}

func memoryFlags(c *cli.Context, res *specs.LinuxResources) error {
	limit, err := bytesFlag(c, "memory-limit")
	if err != nil {
		return err
	}
	swap, err := bytesFlag(c, "memory-swap")
	if err != nil {
		return err
	}
	if limit != nil || swap != nil {
		res.Memory = &specs.LinuxMemory{Limit: limit, Swap: swap}
	}
	return nil
}
