package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// HostConfig is what of a container depends on the host.
type HostConfig struct {
	Binds                                       []string
	VolumesFrom                                 []string
	VolumeDriver                                string
	ContainerIDFile                             string
	LogConfig                                   LogConfig
	NetworkMode                                 string
	PortBindings                                map[string][]PortBinding
	RestartPolicy                               RestartPolicy
	AutoRemove                                  bool
	CapAdd, CapDrop                             []string
	CgroupnsMode                                string
	Dns, DnsOptions, DnsSearch                  []string //nolint:revive,staticcheck // docker's names are the JSON's
	ExtraHosts, GroupAdd                        []string
	IpcMode, PidMode                            string //nolint:revive,staticcheck // docker's names are the JSON's
	OomScoreAdj                                 int
	Privileged, PublishAllPorts, ReadonlyRootfs bool
	SecurityOpt                                 []string
	Tmpfs                                       map[string]string `json:",omitempty"`
	UTSMode, UsernsMode                         string
	ShmSize                                     int64
	Sysctls                                     map[string]string `json:",omitempty"`
	Runtime                                     string
	CpuShares                                   uint64 //nolint:revive,staticcheck // docker's names are the JSON's
	Memory, NanoCpus                            int64
	CgroupParent                                string
	BlkioWeight                                 uint16
	CpuPeriod                                   uint64 //nolint:revive,staticcheck // docker's names are the JSON's
	CpuQuota                                    int64  //nolint:revive,staticcheck // docker's names are the JSON's
	CpusetCpus, CpusetMems                      string
	MemoryReservation, MemorySwap               int64
	OomKillDisable                              *bool
	PidsLimit                                   *int64
	Ulimits                                     []Ulimit
	Init                                        bool
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

func hostConfig(c *api.Container, s *specs.Spec, r *spec.Request) HostConfig {
	h := HostConfig{
		NetworkMode: networkMode(c), PortBindings: map[string][]PortBinding{}, AutoRemove: c.AutoRemove, CapAdd: r.CapAdd, CapDrop: r.CapDrop,
		CgroupnsMode: cmp.Or(r.Namespaces["cgroup"], "private"), Dns: c.Dns.GetServers(), DnsOptions: c.Dns.GetOptions(), DnsSearch: c.Dns.GetSearches(),
		ExtraHosts: c.ExtraHosts, GroupAdd: r.Groups, IpcMode: cmp.Or(r.Namespaces["ipc"], "private"), PidMode: own(r.Namespaces["pid"]),
		UTSMode: own(r.Namespaces["uts"]), UsernsMode: own(r.Namespaces["user"]), Privileged: r.Privileged, ReadonlyRootfs: r.ReadOnly, Tmpfs: r.Tmpfs,
		ShmSize: cmp.Or(r.ShmSize, 64<<20), Sysctls: r.Sysctls, Runtime: c.Runtime, CgroupParent: r.CgroupParent, Init: c.Init,
		VolumesFrom:   c.VolumesFrom,
		RestartPolicy: RestartPolicy{cmp.Or(c.Restart.GetName(), "no"), c.Restart.GetMaxRetries()}, LogConfig: logOf(c), Ulimits: []Ulimit{},
	}
	if r.OOMScoreAdj != nil {
		h.OomScoreAdj = *r.OOMScoreAdj
	}
	if r.Seccomp == "unconfined" {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp=unconfined")
	}
	if !r.AllowNewPrivileges {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	for _, l := range r.Rlimits {
		h.Ulimits = append(h.Ulimits, Ulimit{strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), int64(l.Hard), int64(l.Soft)})
	}
	for _, m := range r.Mounts {
		if isAsked(m) && (m.Type == "bind" || m.Type == "volume") {
			h.Binds = append(h.Binds, bindText(m))
		}
	}
	for _, p := range c.Ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp"))
		h.PortBindings[key] = append(h.PortBindings[key], PortBinding{p.HostIp, fmt.Sprint(p.HostPort)})
	}
	if s.Linux != nil {
		h.MaskedPaths, h.ReadonlyPaths = s.Linux.MaskedPaths, s.Linux.ReadonlyPaths
		h.limits(s.Linux.Resources)
	}
	return h
}

func (h *HostConfig) limits(r *specs.LinuxResources) {
	if r == nil {
		return
	}
	if m := r.Memory; m != nil {
		h.Memory, h.MemoryReservation, h.MemorySwap, h.OomKillDisable = value(m.Limit), value(m.Reservation), value(m.Swap), m.DisableOOMKiller
	}
	if c := r.CPU; c != nil {
		h.CpuShares, h.CpuPeriod, h.CpuQuota, h.CpusetCpus, h.CpusetMems = value(c.Shares), value(c.Period), value(c.Quota), c.Cpus, c.Mems
		if h.CpuPeriod > 0 && h.CpuQuota > 0 {
			h.NanoCpus = h.CpuQuota * 1e9 / int64(h.CpuPeriod)
		}
	}
	if r.Pids != nil {
		h.PidsLimit = r.Pids.Limit
	}
	if r.BlockIO != nil {
		h.BlkioWeight = value(r.BlockIO.Weight)
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

func networkMode(c *api.Container) string {
	if c.NetworkMode == "" && len(c.Networks) > 0 {
		return c.Networks[0].Network
	}
	return cmp.Or(c.NetworkMode, "none")
}

// isAsked says whether a mount was asked for by its source: not one of another container, nor one whose volume has no name.
func isAsked(m spec.Mount) bool {
	return !m.Inherited && !(m.Volume != nil && m.Volume.Anonymous)
}

func bindText(m spec.Mount) string {
	text := m.Source + ":" + m.Target
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rbind" })
	if len(options) > 0 {
		text += ":" + strings.Join(options, ",")
	}
	return text
}

func logOf(c *api.Container) LogConfig {
	l := LogConfig{Type: cmp.Or(c.LogDriver, "none"), Config: map[string]string{}}
	if n := c.Log.GetMaxSize(); n > 0 {
		l.Config["max-size"] = fmt.Sprint(n)
	}
	if n := c.Log.GetMaxFiles(); n > 0 {
		l.Config["max-file"] = fmt.Sprint(n)
	}
	return l
}
