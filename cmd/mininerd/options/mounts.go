package options

import (
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func mountFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "`[SOURCE:]TARGET[:OPTIONS]`: a file or directory of the host, made when missing, or a volume by its name, or a new one; options: ro, rw, rro, nocopy, shared, slave, private, rshared …"},
		&cli.StringSliceFlag{Name: "mount", Usage: "`type=bind|volume|tmpfs|image,source=SOURCE,target=TARGET,OPTIONS`"},
		&cli.StringSliceFlag{Name: "volumes-from", Usage: "the mounts of `CONTAINER[:ro|rw]` too"},
		&cli.StringFlag{Name: "volume-driver", Usage: "`DRIVER` of the volumes of -v that are made: local"},
		&cli.StringSliceFlag{Name: "tmpfs", Usage: "`TARGET[:OPTIONS]`: a filesystem in memory"},
		&cli.BoolFlag{Name: "read-only", Usage: "read-only root filesystem"},
		&cli.StringFlag{Name: "shm-size", Usage: "`SIZE` of /dev/shm"},
		&cli.StringSliceFlag{Name: "device", Usage: "`HOST[:CONTAINER[:PERMISSIONS]]`, or the name of a CDI device (vendor/class=name)"},
		&cli.StringFlag{Name: "gpus", Usage: "GPUs: all, or device=0,1: the CDI devices nvidia.com/gpu=…"},
	}
}

func mounts(f Flags, r *spec.Request, out *api.CreateContainerRequest) error {
	r.ReadOnly = f.Bool("read-only")
	out.VolumesFrom, out.ImageVolumes = f.StringSlice("volumes-from"), "copy"
	volumes := f.StringSlice("volume")
	for i, text := range volumes {
		if slices.Contains(volumes[:i], text) {
			continue // once is enough, as docker has it
		}
		m, err := Volume(text)
		if err != nil {
			return err
		}
		if m.Type == "volume" {
			m.Volume.Driver = f.String("volume-driver")
		}
		r.Mounts = append(r.Mounts, m)
	}
	for _, text := range f.StringSlice("mount") {
		m, err := Mount(text)
		if err != nil {
			return err
		}
		r.Mounts = append(r.Mounts, m)
	}
	for _, text := range f.StringSlice("tmpfs") {
		target, options, _ := strings.Cut(text, ":")
		if !strings.HasPrefix(target, "/") {
			return invalid("--tmpfs %s: the target must be an absolute path", text)
		}
		if r.Tmpfs == nil {
			r.Tmpfs = map[string]string{}
		}
		r.Tmpfs[target] = options
	}
	if err := mountedOnce(r); err != nil {
		return err
	}
	if s := f.String("shm-size"); s != "" {
		n, err := units.RAMInBytes(s)
		if err != nil || n <= 0 {
			return invalid("--shm-size %s: write a size, for example 64m", s)
		}
		r.ShmSize = n
	}
	return devices(f, r)
}

// mountedOnce refuses two mounts on one target.
func mountedOnce(r *spec.Request) error {
	taken := map[string]bool{}
	for target := range r.Tmpfs {
		taken[path.Clean(target)] = true
	}
	for _, m := range r.Mounts {
		target := path.Clean(m.Target)
		if taken[target] {
			return invalid("Duplicate mount point: %s", target)
		}
		taken[target] = true
	}
	return nil
}

func devices(f Flags, r *spec.Request) error {
	for _, text := range f.StringSlice("device") {
		if strings.Contains(text, "=") {
			r.CDIDevices = append(r.CDIDevices, text)
			continue
		}
		d, err := device(text)
		if err != nil {
			return err
		}
		r.Devices = append(r.Devices, d)
	}
	gpus, err := GPUs(f.String("gpus"))
	if err != nil {
		return err
	}
	r.CDIDevices = append(r.CDIDevices, gpus.devices()...)
	return nil
}

// device reads HOST[:CONTAINER][:PERMISSIONS].
func device(text string) (spec.Device, error) {
	parts := strings.Split(text, ":")
	d := spec.Device{Source: parts[0]}
	rest := parts[1:]
	if n := len(rest); n > 0 && rest[n-1] != "" && strings.Trim(rest[n-1], "rwm") == "" {
		d.Permissions, rest = rest[n-1], rest[:n-1]
	}
	if len(rest) > 0 {
		d.Target, rest = rest[0], rest[1:]
	}
	if d.Source == "" || len(rest) > 0 {
		return d, invalid("invalid device specification: %s: write HOST[:CONTAINER[:PERMISSIONS]]", text)
	}
	return d, nil
}
