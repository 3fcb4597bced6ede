package options

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func mountFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "`SOURCE:TARGET[:OPTIONS]`: a file or directory of the host, made when missing; options: ro, rw, rro, shared, slave, private, rshared …"},
		&cli.StringSliceFlag{Name: "mount", Usage: "`type=bind|tmpfs|image,source=SOURCE,target=TARGET,OPTIONS`"},
		&cli.StringSliceFlag{Name: "tmpfs", Usage: "`TARGET[:OPTIONS]`: a filesystem in memory"},
		&cli.BoolFlag{Name: "read-only", Usage: "read-only root filesystem"},
		&cli.StringFlag{Name: "shm-size", Usage: "`SIZE` of /dev/shm"},
		&cli.StringSliceFlag{Name: "device", Usage: "`HOST[:CONTAINER[:PERMISSIONS]]`, or the name of a CDI device (vendor/class=name)"},
		&cli.StringFlag{Name: "gpus", Usage: "GPUs: all, or device=0,1: the CDI devices nvidia.com/gpu=…"},
	}
}

func mounts(f Flags, r *spec.Request, _ *api.CreateContainerRequest) error {
	r.ReadOnly = f.Bool("read-only")
	for _, text := range f.StringSlice("volume") {
		m, err := Volume(text)
		if err != nil {
			return err
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
	if s := f.String("shm-size"); s != "" {
		n, err := units.RAMInBytes(s)
		if err != nil || n <= 0 {
			return invalid("--shm-size %s: write a size, for example 64m", s)
		}
		r.ShmSize = n
	}
	return devices(f, r)
}

// Volume reads -v SOURCE:TARGET[:OPTIONS]. Only paths of the host are known so far: the source of a bind that does not
// exist is made, as docker does.
func Volume(text string) (spec.Mount, error) {
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		return spec.Mount{}, invalid("--volume %s: there are no anonymous volumes yet: write /SOURCE:%s", text, text)
	}
	if len(parts) > 3 {
		return spec.Mount{}, invalid("invalid volume specification: '%s': write SOURCE:TARGET[:OPTIONS]", text)
	}
	source, target := parts[0], parts[1]
	switch {
	case strings.HasPrefix(source, "."):
		dir, err := os.Getwd()
		if err != nil {
			return spec.Mount{}, err
		}
		source = filepath.Join(dir, source)
	case source == "" || !strings.HasPrefix(source, "/"):
		return spec.Mount{}, invalid("--volume %s: there are no named volumes yet: write an absolute path, or one that begins with a dot", text)
	}
	if !strings.HasPrefix(target, "/") || filepath.Clean(target) == "/" {
		return spec.Mount{}, invalid("invalid volume specification: '%s': the target must be an absolute path other than /", text)
	}
	m := spec.Mount{Type: "bind", Source: filepath.Clean(source), Target: target, CreateSource: true}
	recursive := "rbind"
	if len(parts) == 3 {
		for _, o := range strings.Split(parts[2], ",") {
			switch o {
			case "", "rw":
			case "ro", "rro", "shared", "slave", "private", "rshared", "rslave", "rprivate":
				m.Options = append(m.Options, o)
			case "bind", "rbind":
				recursive = o
			case "z", "Z", "nocopy", "cached", "delegated", "consistent", "default":
				// Relabelling has no meaning without SELinux; the others are those of volumes and of Docker Desktop.
			default:
				return spec.Mount{}, invalid("invalid mode: %s: in --volume %s", o, text)
			}
		}
	}
	m.Options = append([]string{recursive}, m.Options...)
	return m, nil
}

// Mount reads --mount. A bind's source must be there.
func Mount(text string) (spec.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return spec.Mount{}, invalid("--mount %s: %w", text, err)
	}
	m := spec.Mount{Type: "volume"}
	recursive := "rbind"
	for _, field := range fields {
		key, value, valued := strings.Cut(field, "=")
		if err := mountField(&m, strings.ToLower(key), value, valued, &recursive); err != nil {
			return m, invalid("--mount %s: %w", text, err)
		}
	}
	switch {
	case m.Type == "volume":
		return m, invalid("--mount %s: there are no volumes yet: use type=bind, tmpfs or image", text)
	case m.Type != "bind" && m.Type != "tmpfs" && m.Type != "image":
		return m, invalid("--mount %s: mount type unknown: %q: use bind, tmpfs or image", text, m.Type)
	case m.Target == "" || !strings.HasPrefix(m.Target, "/"):
		return m, invalid("--mount %s: target is required, as an absolute path", text)
	case m.Type == "tmpfs" && m.Source != "":
		return m, invalid("--mount %s: must not set source for type=tmpfs", text)
	case m.Type != "tmpfs" && m.Source == "":
		return m, invalid("--mount %s: source is required", text)
	case m.Type == "bind":
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return m, err
		}
		m.Options = append([]string{recursive}, m.Options...)
	}
	return m, nil
}

func mountField(m *spec.Mount, key, value string, valued bool, recursive *string) error {
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		if !valued || value == "true" || value == "1" {
			m.Options = append(m.Options, "ro")
		} else if value != "false" && value != "0" {
			return invalid("invalid value for %s: %s", key, value)
		}
	case "bind-propagation":
		m.Options = append(m.Options, value)
	case "bind-nonrecursive":
		*recursive = "bind"
	case "bind-recursive":
		switch value {
		case "enabled", "writable":
		case "disabled":
			*recursive = "bind"
		case "readonly":
			m.Options = append(m.Options, "rro")
		default:
			return invalid("invalid value for bind-recursive: %q: use enabled, disabled, writable or readonly", value)
		}
	case "bind-create-src":
		m.CreateSource = true
	case "tmpfs-size":
		n, err := units.RAMInBytes(value)
		if err != nil {
			return invalid("invalid value for tmpfs-size: %s", value)
		}
		m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		m.Options = append(m.Options, "mode="+value)
	case "image-subpath":
		m.SubPath = value
	case "consistency":
	default:
		return invalid("unexpected key '%s'", key)
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
