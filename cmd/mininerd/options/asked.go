package options

import (
	"encoding/csv"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/minirt/mini/cmd/mininerd/view"
)

// Asked is what inspect says again of the flags of run and create. They have been checked.
func Asked(f Flags) (view.Asked, error) {
	a := view.Asked{
		IDFile: f.String("cidfile"), VolumesFrom: f.StringSlice("volumes-from"), VolumeDriver: f.String("volume-driver"),
		SecurityOpt: f.StringSlice("security-opt"), IPC: f.String("ipc"), Isolation: f.String("isolation"), Links: f.StringSlice("link"),
		DeviceCgroupRules: f.StringSlice("device-cgroup-rule"),
	}
	if n := f.Float64("cpus"); n != 0 {
		a.NanoCPUs = int64(n*1e9 + 0.5)
	}
	if f.IsSet("stop-timeout") {
		seconds := int64(f.Int("stop-timeout"))
		a.StopTimeout = &seconds
	}
	for _, v := range f.StringSlice("volume") {
		if strings.Contains(v, ":") { // else it is anonymous, which is no bind
			a.Binds = append(a.Binds, v)
		}
	}
	var err error
	if a.Mounts, err = askedMounts(f.StringSlice("mount")); err != nil {
		return a, err
	}
	gpus, err := GPUs(f.String("gpus"))
	if err != nil || gpus.Count == 0 && len(gpus.IDs) == 0 {
		return a, err
	}
	request := view.DeviceRequest{Driver: gpus.Driver, Count: gpus.Count, DeviceIDs: gpus.IDs, Capabilities: [][]string{{"gpu"}}, Options: gpus.Options}
	if request.Options == nil {
		request.Options = map[string]string{}
	}
	if len(gpus.Capabilities) > 0 {
		request.Capabilities = [][]string{append([]string{"gpu"}, gpus.Capabilities...)}
	}
	a.DeviceRequests = []view.DeviceRequest{request}
	return a, nil
}

// askedMounts reads --mount for inspect; what is wrong with it was said before.
func askedMounts(list []string) ([]view.AskedMount, error) {
	var all []view.AskedMount
	for _, text := range list {
		fields, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			return nil, invalid("--mount %s: %w", text, err)
		}
		m := view.AskedMount{Type: "volume"}
		for _, field := range fields {
			key, value, valued := strings.Cut(field, "=")
			askedMountField(&m, strings.ToLower(key), value, !valued || value == "true" || value == "1")
		}
		if m.Type == "bind" {
			if m.Source, err = filepath.Abs(m.Source); err != nil {
				return nil, err
			}
		}
		all = append(all, m)
	}
	return all, nil
}

func askedMountField(m *view.AskedMount, key, value string, on bool) {
	bind := func() *view.AskedBindOptions {
		if m.BindOptions == nil {
			m.BindOptions = &view.AskedBindOptions{}
		}
		return m.BindOptions
	}
	tmpfs := func() *view.AskedTmpfsOptions {
		if m.TmpfsOptions == nil {
			m.TmpfsOptions = &view.AskedTmpfsOptions{}
		}
		return m.TmpfsOptions
	}
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		m.ReadOnly = on
	case "consistency":
		m.Consistency = value
	case "bind-propagation":
		bind().Propagation = value
	case "bind-nonrecursive":
		bind().NonRecursive = on
	case "tmpfs-size":
		tmpfs().SizeBytes, _ = units.RAMInBytes(value) // it was read before
	case "tmpfs-mode":
		mode, _ := strconv.ParseUint(value, 8, 32) // as well
		tmpfs().Mode = uint32(mode)
	default:
		askedVolumeField(m, key, value, on)
	}
}

func askedVolumeField(m *view.AskedMount, key, value string, on bool) {
	if !strings.HasPrefix(key, "volume-") {
		return
	}
	if m.VolumeOptions == nil {
		m.VolumeOptions = &view.AskedVolumeOptions{}
	}
	v := m.VolumeOptions
	if v.DriverConfig == nil && (key == "volume-driver" || key == "volume-opt") {
		v.DriverConfig = &view.AskedDriver{}
	}
	name, of, _ := strings.Cut(value, "=")
	switch key {
	case "volume-nocopy":
		v.NoCopy = on
	case "volume-subpath":
		v.Subpath = value
	case "volume-label":
		v.Labels = with(v.Labels, name, of)
	case "volume-driver":
		v.DriverConfig.Name = value
	case "volume-opt":
		v.DriverConfig.Options = with(v.DriverConfig.Options, name, of)
	}
}
