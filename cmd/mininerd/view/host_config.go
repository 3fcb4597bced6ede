package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// HostConfig is what of a container depends on the host.
type HostConfig struct {
	Binds                                       []string
	ContainerIDFile                             string
	LogConfig                                   LogConfig
	NetworkMode                                 string
	PortBindings                                map[string][]PortBinding
	RestartPolicy                               RestartPolicy
	AutoRemove                                  bool
	VolumeDriver                                string
	VolumesFrom                                 []string
	ConsoleSize                                 [2]uint
	CapAdd, CapDrop                             []string
	CgroupnsMode                                string
	Dns, DnsOptions, DnsSearch                  []string // docker's names are the JSON's
	ExtraHosts, GroupAdd                        []string
	IpcMode, Cgroup                             string // docker's names are the JSON's
	Links                                       []string
	OomScoreAdj                                 int
	PidMode                                     string
	Privileged, PublishAllPorts, ReadonlyRootfs bool
	SecurityOpt                                 []string
	Mounts                                      []AskedMount      `json:",omitempty"`
	StorageOpt, Tmpfs                           map[string]string `json:",omitempty"`
	UTSMode, UsernsMode                         string
	ShmSize                                     int64
	Sysctls                                     map[string]string `json:",omitempty"`
	Runtime                                     string
	Isolation                                   string
	CpuShares                                   uint64 // docker's names are the JSON's
	Memory, NanoCpus                            int64
	CgroupParent                                string
	BlkioWeight                                 uint16
	BlkioWeightDevice                           []WeightDevice
	BlkioDeviceReadBps, BlkioDeviceWriteBps     []ThrottleDevice
	BlkioDeviceReadIOps, BlkioDeviceWriteIOps   []ThrottleDevice
	CpuPeriod                                   uint64 // docker's names are the JSON's
	CpuQuota                                    int64  // docker's names are the JSON's
	CpuRealtimePeriod                           uint64 // docker's names are the JSON's
	CpuRealtimeRuntime                          int64  // docker's names are the JSON's
	CpusetCpus, CpusetMems                      string
	Devices                                     []DeviceMapping
	DeviceCgroupRules                           []string
	DeviceRequests                              []DeviceRequest
	KernelMemory, KernelMemoryTCP               int64
	MemoryReservation, MemorySwap               int64
	MemorySwappiness                            *int64
	OomKillDisable                              *bool
	PidsLimit                                   *int64
	Ulimits                                     []Ulimit
	CpuCount, CpuPercent                        int64  // docker's names are the JSON's
	IOMaximumIOps, IOMaximumBandwidth           uint64 // these four are of Windows
	Init                                        *bool  `json:",omitempty"`
	MaskedPaths, ReadonlyPaths                  []string
}

// LogConfig is the log's driver.
type LogConfig struct {
	Type   string
	Config map[string]string
}

// RestartPolicy says what is done when it exits.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int32
}

// Ulimit is a resource limit of the process.
type Ulimit struct {
	Name       string
	Hard, Soft int64
}

// DeviceMapping is a device of the host in the container.
type DeviceMapping struct{ PathOnHost, PathInContainer, CgroupPermissions string }

// WeightDevice is the weight of one block device.
type WeightDevice struct {
	Path   string
	Weight uint16
}

// ThrottleDevice bounds the use of one block device, in bytes or operations a second.
type ThrottleDevice struct {
	Path string
	Rate uint64
}

func hostConfig(c *api.Container, s *specs.Spec, r *spec.Request) HostConfig {
	asked, known := askedOf(c)
	never := false
	h := HostConfig{
		NetworkMode: networkMode(c, r), PortBindings: portBindings(c), AutoRemove: c.AutoRemove, CapAdd: capabilities(r.CapAdd), CapDrop: capabilities(r.CapDrop),
		CgroupnsMode: cmp.Or(r.Namespaces["cgroup"], "private"), Dns: listed(c.Dns.GetServers()), DnsOptions: listed(c.Dns.GetOptions()), DnsSearch: listed(c.Dns.GetSearches()),
		ExtraHosts: c.ExtraHosts, GroupAdd: r.Groups, IpcMode: cmp.Or(asked.IPC, r.Namespaces["ipc"], "private"), PidMode: own(r.Namespaces["pid"]),
		UTSMode: own(r.Namespaces["uts"]), UsernsMode: own(r.Namespaces["user"]), Privileged: r.Privileged, PublishAllPorts: c.PublishAll, ReadonlyRootfs: r.ReadOnly,
		Tmpfs: r.Tmpfs, ShmSize: cmp.Or(r.ShmSize, 64<<20), Sysctls: r.Sysctls, Runtime: cmp.Or(c.Runtime, builtIn), CgroupParent: r.CgroupParent,
		RestartPolicy: RestartPolicy{cmp.Or(c.Restart.GetName(), "no"), c.Restart.GetMaxRetries()}, LogConfig: logOf(c),
		Isolation: asked.Isolation, ContainerIDFile: asked.IDFile, VolumeDriver: asked.VolumeDriver, VolumesFrom: asked.VolumesFrom, Mounts: asked.Mounts, Links: asked.Links,
		Binds: asked.Binds, SecurityOpt: asked.SecurityOpt, DeviceCgroupRules: asked.DeviceCgroupRules, DeviceRequests: asked.DeviceRequests,
		KernelMemory: asked.KernelMemory, NanoCpus: asked.NanoCPUs, Devices: deviceMappings(r.Devices), BlkioWeightDevice: []WeightDevice{},
		OomKillDisable: &never,
	}
	if c.Init {
		h.Init = &c.Init
	}
	if r.OOMScoreAdj != nil {
		h.OomScoreAdj = *r.OOMScoreAdj
	}
	if !known {
		h.SecurityOpt, h.Binds = securityOptions(r), binds(r)
	}
	if len(h.SecurityOpt) == 0 && (h.Privileged || h.PidMode == "host" || h.IpcMode == "host") {
		h.SecurityOpt = []string{"label=disable"} // as docker says it
	}
	for _, l := range r.Rlimits {
		h.Ulimits = append(h.Ulimits, Ulimit{strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), int64(l.Hard), int64(l.Soft)})
	}
	if s.Linux != nil {
		h.MaskedPaths, h.ReadonlyPaths = s.Linux.MaskedPaths, s.Linux.ReadonlyPaths
		h.limits(s.Linux.Resources, r.BlockLimits)
	}
	if asked.NanoCPUs != 0 { // then these two are the daemon's way to say it
		h.CpuPeriod, h.CpuQuota = 0, 0
	}
	if r.RootfsSize > 0 {
		h.StorageOpt = map[string]string{"size": fmt.Sprint(r.RootfsSize)}
	}
	return h
}

// builtIn is docker's name for the runtime that is built in.
const builtIn = "runc"

// listed is a list that is never null.
func listed(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// capabilities are names as docker writes them since version 21.
func capabilities(list []string) []string {
	var all []string
	for _, name := range list {
		name = strings.ToUpper(name)
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		all = append(all, name)
	}
	return all
}

// securityOptions are those of a container whose client kept nothing.
func securityOptions(r *spec.Request) []string {
	var all []string
	if r.Seccomp == "unconfined" {
		all = append(all, "seccomp=unconfined")
	}
	if r.AppArmor != "" {
		all = append(all, "apparmor="+r.AppArmor)
	}
	if !r.AllowNewPrivileges {
		all = append(all, "no-new-privileges")
	}
	return all
}

// binds are those of a container whose client kept nothing.
func binds(r *spec.Request) []string {
	var all []string
	for _, m := range r.Mounts {
		if m.Type == "bind" {
			all = append(all, bindText(m))
		}
	}
	return all
}

func deviceMappings(list []spec.Device) []DeviceMapping {
	all := []DeviceMapping{}
	for _, d := range list {
		all = append(all, DeviceMapping{d.Source, cmp.Or(d.Target, d.Source), cmp.Or(d.Permissions, "rwm")})
	}
	return all
}

// portBindings are the ports as they were asked for.
func portBindings(c *api.Container) map[string][]PortBinding {
	out := map[string][]PortBinding{}
	for _, p := range c.AskedPorts {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp"))
		port := ""
		if p.HostPort != 0 {
			port = fmt.Sprint(p.HostPort)
		}
		out[key] = append(out[key], PortBinding{p.HostIp, port})
	}
	return out
}

// limits reads the limits in force; devices are the paths of block devices as they were given, by their numbers.
func (h *HostConfig) limits(r *specs.LinuxResources, blocks []spec.BlockLimit) {
	if r == nil {
		return
	}
	if m := r.Memory; m != nil {
		h.Memory, h.MemoryReservation, h.MemorySwap = value(m.Limit), value(m.Reservation), value(m.Swap)
		if m.DisableOOMKiller != nil {
			h.OomKillDisable = m.DisableOOMKiller
		}
		if m.Swappiness != nil {
			n := int64(*m.Swappiness)
			h.MemorySwappiness = &n
		}
	}
	if c := r.CPU; c != nil {
		h.CpuShares, h.CpuPeriod, h.CpuQuota, h.CpusetCpus, h.CpusetMems = value(c.Shares), value(c.Period), value(c.Quota), c.Cpus, c.Mems
		h.CpuRealtimePeriod, h.CpuRealtimeRuntime = value(c.RealtimePeriod), value(c.RealtimeRuntime)
	}
	if r.Pids != nil {
		h.PidsLimit = r.Pids.Limit
	}
	b := r.BlockIO
	if b == nil {
		return
	}
	h.BlkioWeight = value(b.Weight)
	if len(blocks) > 0 {
		h.blockLimits(blocks)
		return
	}
	path := func(major, minor int64) string { return fmt.Sprintf("/dev/block/%d:%d", major, minor) }
	for _, w := range b.WeightDevice {
		h.BlkioWeightDevice = append(h.BlkioWeightDevice, WeightDevice{path(w.Major, w.Minor), value(w.Weight)})
	}
	for _, x := range []struct {
		from []specs.LinuxThrottleDevice
		to   *[]ThrottleDevice
	}{
		{b.ThrottleReadBpsDevice, &h.BlkioDeviceReadBps}, {b.ThrottleWriteBpsDevice, &h.BlkioDeviceWriteBps},
		{b.ThrottleReadIOPSDevice, &h.BlkioDeviceReadIOps}, {b.ThrottleWriteIOPSDevice, &h.BlkioDeviceWriteIOps},
	} {
		for _, d := range x.from {
			*x.to = append(*x.to, ThrottleDevice{path(d.Major, d.Minor), d.Rate})
		}
	}
}

// blockLimits are those of devices that were named by their paths.
func (h *HostConfig) blockLimits(blocks []spec.BlockLimit) {
	for _, b := range blocks {
		if b.Weight != 0 {
			h.BlkioWeightDevice = append(h.BlkioWeightDevice, WeightDevice{b.Path, b.Weight})
		}
		for _, x := range []struct {
			rate uint64
			to   *[]ThrottleDevice
		}{
			{b.ReadBps, &h.BlkioDeviceReadBps}, {b.WriteBps, &h.BlkioDeviceWriteBps},
			{b.ReadIOPS, &h.BlkioDeviceReadIOps}, {b.WriteIOPS, &h.BlkioDeviceWriteIOps},
		} {
			if x.rate != 0 {
				*x.to = append(*x.to, ThrottleDevice{b.Path, x.rate})
			}
		}
	}
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// own is a mode as docker writes it: one of its own is empty.
func own(mode string) string {
	if mode == "private" {
		return ""
	}
	return mode
}

func networkMode(c *api.Container, r *spec.Request) string {
	if path, ok := strings.CutPrefix(r.Namespaces["network"], "path:"); ok {
		return "ns:" + path
	}
	if c.NetworkMode == "" && len(c.Networks) > 0 {
		return c.Networks[0].Network
	}
	return cmp.Or(c.NetworkMode, "none")
}

func bindText(m spec.Mount) string {
	text := m.Source + ":" + m.Target
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rbind" })
	if len(options) > 0 {
		text += ":" + strings.Join(options, ",")
	}
	return text
}

// logOf is the log's driver with its options, the daemon's own among them.
func logOf(c *api.Container) LogConfig {
	l := LogConfig{Type: cmp.Or(c.LogDriver, "none"), Config: map[string]string{}}
	maps.Copy(l.Config, c.Log.GetOptions())
	return l
}
