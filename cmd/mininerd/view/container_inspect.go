package view

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// ContainerDocument is what inspect prints of a container, as docker's API has it.
type ContainerDocument struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           ContainerState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int64
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      HostConfig
	GraphDriver     GraphDriver
	SizeRw          *int64 `json:",omitempty"`
	Mounts          []MountPoint
	Config          ContainerConfig
	NetworkSettings NetworkSettings
}

// ContainerState is the state of the first process.
type ContainerState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int64
	ExitCode   int32
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *HealthState `json:",omitempty"`
}

// HealthState is what the checks found.
type HealthState struct {
	Status        string
	FailingStreak int32
	Log           []HealthCheckResult
}

// HealthCheckResult is one check.
type HealthCheckResult struct {
	Start, End string
	ExitCode   int32
	Output     string
}

// GraphDriver is where the root filesystem is.
type GraphDriver struct {
	Name string
	Data map[string]string
}

// MountPoint is one mount that was asked for.
type MountPoint struct {
	Type        string
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// ContainerConfig is what of a container does not depend on the host.
type ContainerConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *HealthConfig `json:",omitempty"`
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
	StopTimeout  *int64 `json:",omitempty"`
}

// HealthConfig is how it is checked; times in nanoseconds.
type HealthConfig struct {
	Test          []string
	Interval      int64 `json:",omitempty"`
	Timeout       int64 `json:",omitempty"`
	StartPeriod   int64 `json:",omitempty"`
	StartInterval int64 `json:",omitempty"`
	Retries       int32 `json:",omitempty"`
}

// DocumentOfContainer describes a container that was got with its spec.
func DocumentOfContainer(c *api.Container) (ContainerDocument, error) {
	var s specs.Spec
	var r spec.Request
	var config ocispec.ImageConfig
	for _, doc := range []struct {
		data []byte
		into any
	}{{c.Spec, &s}, {c.Request, &r}, {c.ImageConfig, &config}} {
		if len(doc.data) == 0 {
			continue
		}
		if err := json.Unmarshal(doc.data, doc.into); err != nil {
			return ContainerDocument{}, fmt.Errorf("container %s: what the daemon says of it: %w", c.Id, err)
		}
	}
	if s.Process == nil {
		s.Process = &specs.Process{}
	}
	d := ContainerDocument{
		ID: c.Id, Created: moment(c.CreatedAt), Args: []string{}, State: stateOf(c), Image: c.ImageDigest, LogPath: c.LogPath,
		Name: "/" + ContainerName(c), RestartCount: c.RestartCount, Driver: c.Snapshotter, Platform: "linux",
		AppArmorProfile: s.Process.ApparmorProfile, ProcessLabel: s.Process.SelinuxLabel,
		GraphDriver: GraphDriver{Name: c.Snapshotter, Data: map[string]string{"Snapshot": c.Snapshot}},
		Mounts:      mountPoints(c.Mounts), HostConfig: hostConfig(c, &s, &r), NetworkSettings: networkSettings(c),
	}
	if len(s.Process.Args) > 0 {
		d.Path, d.Args = s.Process.Args[0], append(d.Args, s.Process.Args[1:]...)
	}
	if s.Linux != nil {
		d.MountLabel = s.Linux.MountLabel
	}
	for _, m := range s.Mounts {
		switch m.Destination {
		case "/etc/resolv.conf":
			d.ResolvConfPath = m.Source
		case "/etc/hostname":
			d.HostnamePath = m.Source
		case "/etc/hosts":
			d.HostsPath = m.Source
		}
	}
	if c.Size != nil {
		d.SizeRw = &c.Size.Size
	}
	d.Config = containerConfig(c, &s, &r, config)
	return d, nil
}

func containerConfig(c *api.Container, s *specs.Spec, r *spec.Request, image ocispec.ImageConfig) ContainerConfig {
	config := ContainerConfig{
		Hostname: cmp.Or(c.Hostname, s.Hostname), Domainname: s.Domainname, User: cmp.Or(r.User, image.User), AttachStdout: true, AttachStderr: true,
		Tty: s.Process.Terminal, Env: s.Process.Env, Cmd: slices.Clone(r.Args), Image: Familiar(c.Image), WorkingDir: s.Process.Cwd,
		Entrypoint: image.Entrypoint, Labels: c.Labels, StopSignal: cmp.Or(r.StopSignal, image.StopSignal), Volumes: image.Volumes,
	}
	for _, m := range r.Mounts {
		if m.Volume == nil || !m.Volume.Anonymous || m.Inherited {
			continue
		}
		config.Volumes = maps.Clone(config.Volumes)
		if config.Volumes == nil {
			config.Volumes = map[string]struct{}{}
		}
		config.Volumes[m.Target] = struct{}{}
	}
	if r.Entrypoint != nil {
		config.Entrypoint = *r.Entrypoint
	} else if len(config.Cmd) == 0 {
		config.Cmd = image.Cmd
	}
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	for _, e := range c.Exposed {
		if config.ExposedPorts == nil {
			config.ExposedPorts = map[string]struct{}{}
		}
		config.ExposedPorts[e] = struct{}{}
	}
	if c.StopTimeout != 0 {
		seconds := c.StopTimeout / int64(time.Second)
		config.StopTimeout = &seconds
	}
	if h := c.HealthCheck; h != nil {
		config.Healthcheck = &HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return config
}

// moment is a time as docker writes it; the zero time for 0.
func moment(ns int64) string {
	if ns == 0 {
		return "0001-01-01T00:00:00Z"
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}

func stateOf(c *api.Container) ContainerState {
	s := ContainerState{
		Status: State(c), Running: c.State == "running" || c.State == "paused" || c.Restarting, Paused: c.State == "paused", Restarting: c.Restarting,
		Pid: c.Pid, StartedAt: moment(c.StartedAt), FinishedAt: moment(0),
	}
	if c.Exit != nil {
		s.ExitCode, s.OOMKilled, s.FinishedAt, s.Pid = c.Exit.Code, c.Exit.Oom, moment(c.Exit.Time), 0
		if c.Exit.Reason != "oom" {
			s.Error = c.Exit.Reason
		}
	}
	if h := c.Health; h != nil && h.Status != "none" && h.Status != "" {
		s.Health = &HealthState{Status: h.Status, FailingStreak: h.FailingStreak, Log: []HealthCheckResult{}}
		for _, l := range h.Log {
			s.Health.Log = append(s.Health.Log, HealthCheckResult{moment(l.Start), moment(l.End), l.ExitCode, l.Output})
		}
	}
	return s
}

func mountPoints(list []*api.Mount) []MountPoint {
	out := []MountPoint{}
	for _, m := range list {
		p := MountPoint{Type: m.Type, Source: m.Source, Destination: m.Target, RW: true}
		var mode []string
		for _, o := range m.Options {
			switch o {
			case "ro", "rro":
				p.RW = false
				mode = append(mode, o)
			case "shared", "slave", "private", "rshared", "rslave", "rprivate":
				p.Propagation = o
				mode = append(mode, o)
			}
		}
		if m.Volume != "" {
			p.Name, p.Driver = m.Volume, "local"
			if len(mode) == 0 && !m.Anonymous {
				mode = []string{"z"} // as docker has it
			}
		}
		if !m.Inherited {
			p.Mode = strings.Join(mode, ",")
		}
		if m.Type == "bind" && p.Propagation == "" {
			p.Propagation = "rprivate"
		}
		out = append(out, p)
	}
	return out
}

// NetworkSettings is the container's part in its networks.
type NetworkSettings struct {
	Ports                                              map[string][]PortBinding
	Gateway, GlobalIPv6Address, IPAddress, IPv6Gateway string
	GlobalIPv6PrefixLen, IPPrefixLen                   int
	MacAddress                                         string
	Networks                                           map[string]Endpoint
}

// PortBinding is where a port is on the host.
type PortBinding struct{ HostIp, HostPort string } //nolint:revive,staticcheck // docker's names are the JSON's

// Endpoint is the container's part in one network.
type Endpoint struct {
	Aliases                                                []string
	MacAddress, NetworkID, Gateway, IPAddress, IPv6Gateway string
	IPPrefixLen                                            int
	GlobalIPv6Address                                      string
	GlobalIPv6PrefixLen                                    int
}

func networkSettings(c *api.Container) NetworkSettings {
	n := NetworkSettings{Ports: PortMap(c), Networks: map[string]Endpoint{}}
	for i, e := range c.Networks {
		p := endpoint(e)
		n.Networks[e.Network] = p
		if i == 0 && e.Network == "bridge" { // docker fills these for the default network alone
			n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = p.Gateway, p.IPAddress, p.IPPrefixLen, p.MacAddress
			n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = p.IPv6Gateway, p.GlobalIPv6Address, p.GlobalIPv6PrefixLen
		}
	}
	if len(n.Networks) == 0 {
		for _, mode := range networksOf(c) {
			if mode == "host" || mode == "none" || mode == "bridge" {
				n.Networks[mode] = Endpoint{}
			}
		}
	}
	return n
}

func endpoint(e *api.EndpointStatus) Endpoint {
	p := Endpoint{Aliases: e.Aliases, MacAddress: e.Mac, NetworkID: e.NetworkId}
	for _, text := range e.Ips {
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
		case prefix.Addr().Is4() && p.IPAddress == "":
			p.IPAddress, p.IPPrefixLen = prefix.Addr().String(), prefix.Bits()
		case prefix.Addr().Is6() && p.GlobalIPv6Address == "":
			p.GlobalIPv6Address, p.GlobalIPv6PrefixLen = prefix.Addr().String(), prefix.Bits()
		}
	}
	for _, g := range e.Gateways {
		if strings.Contains(g, ":") {
			p.IPv6Gateway = g
		} else {
			p.Gateway = g
		}
	}
	return p
}

// PortMap is docker's: by container port, with a null for what is only exposed.
func PortMap(c *api.Container) map[string][]PortBinding {
	out := map[string][]PortBinding{}
	for _, e := range c.Exposed {
		out[e] = nil
	}
	for _, p := range c.Ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp"))
		for _, address := range hostAddresses(p.HostIp) {
			out[key] = append(out[key], PortBinding{strings.Trim(address, "[]"), fmt.Sprint(p.HostPort)})
		}
	}
	return out
}
