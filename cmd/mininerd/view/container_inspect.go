package view

import (
	"cmp"
	"crypto/sha256"
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
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []MountPoint
	Config          ContainerConfig
	NetworkSettings NetworkSettings
	LogShipping     *LogShipping `json:",omitempty"` // ours: only when something is amiss
}

// LogShipping is what is amiss with the place that the log goes to.
type LogShipping struct {
	Error         string
	Since         string
	Dropped, Gaps int64
}

func shippingOf(c *api.Container) *LogShipping {
	s := c.LogShipping
	if s == nil || s.Error == "" && s.Dropped == 0 && s.Gaps == 0 {
		return nil
	}
	return &LogShipping{Error: s.Error, Since: moment(s.Since), Dropped: s.Dropped, Gaps: s.Gaps}
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
	StopSignal   string   `json:",omitempty"`
	StopTimeout  *int64   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
	ArgsEscaped  bool     `json:",omitempty"`
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
//
// Where its root filesystem is and how large its image is are not in that: WithSnapshot adds the one, SizeRootFs is the
// sum of SizeRw and the other.
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
		ID: c.Id, Created: moment(c.CreatedAt), Args: []string{}, State: stateOf(c), Image: cmp.Or(c.ImageId, c.ImageDigest), LogPath: c.LogPath,
		Name: "/" + ContainerName(c), RestartCount: c.RestartCount, Driver: c.Snapshotter, Platform: "linux",
		AppArmorProfile: s.Process.ApparmorProfile, ProcessLabel: s.Process.SelinuxLabel,
		GraphDriver: GraphDriver{Name: c.Snapshotter},
		Mounts:      mountPoints(c.Mounts), HostConfig: hostConfig(c, &s, &r), NetworkSettings: networkSettings(c, &s),
	}
	command := s.Process.Args
	if c.Init && len(command) > 2 {
		command = command[2:] // behind the init and its --
	}
	if len(command) > 0 {
		d.Path, d.Args = command[0], append(d.Args, command[1:]...)
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
	d.LogShipping = shippingOf(c)
	if c.LogDriver != "json-file" && c.LogDriver != "cri" {
		d.LogPath = "" // as docker has it: how the others keep it is their own
	}
	if c.Size != nil {
		d.SizeRw = &c.Size.Size
	}
	d.Config = containerConfig(c, &s, &r, config)
	return d, nil
}

func containerConfig(c *api.Container, s *specs.Spec, r *spec.Request, image ocispec.ImageConfig) ContainerConfig {
	asked, _ := askedOf(c)
	config := ContainerConfig{
		Hostname: cmp.Or(c.Hostname, s.Hostname), Domainname: cmp.Or(r.Domainname, s.Domainname), User: cmp.Or(r.User, image.User),
		AttachStdin: asked.AttachStdin, AttachStdout: asked.AttachStdout, AttachStderr: asked.AttachStderr, OpenStdin: c.Stdin, StdinOnce: c.StdinOnce,
		Tty: s.Process.Terminal, Env: environment(c, s, r, image), Cmd: slices.Clone(r.Args), Image: Familiar(c.Image), WorkingDir: cmp.Or(r.Cwd, image.WorkingDir),
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
	config.ExposedPorts = exposed(c)
	config.StopTimeout = asked.StopTimeout
	if c.StopTimeout != 0 && asked.StopTimeout == nil {
		seconds := c.StopTimeout / int64(time.Second)
		config.StopTimeout = &seconds
	}
	if h := c.HealthCheck; h != nil {
		config.Healthcheck = &HealthConfig{
			Test: h.Test, Interval: unless(h.Interval, 30*time.Second), Timeout: unless(h.Timeout, 30*time.Second), StartPeriod: h.StartPeriod,
			StartInterval: unless(h.StartInterval, 5*time.Second),
		}
		if h.Retries != 3 {
			config.Healthcheck.Retries = h.Retries
		}
	}
	return config
}

// exposed are the ports that the image or the client names, published or not.
func exposed(c *api.Container) map[string]struct{} {
	all := map[string]struct{}{}
	for _, e := range c.Exposed {
		all[e] = struct{}{}
	}
	for _, p := range c.AskedPorts {
		all[fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp"))] = struct{}{}
	}
	return all
}

// unless is a time in nanoseconds; 0 where it is the one that is meant by saying nothing.
func unless(asked int64, silent time.Duration) int64 {
	if asked == int64(silent) {
		return 0
	}
	return asked
}

// environment is what was asked for and what of the image's that does not name anew, in docker's order. Of a container
// that was made of a whole spec, it is the spec's.
func environment(c *api.Container, s *specs.Spec, r *spec.Request, image ocispec.ImageConfig) []string {
	if len(c.Request) == 0 {
		return s.Process.Env
	}
	all := listed(slices.Clone(r.Env))
	for _, e := range image.Env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(all, func(have string) bool { return have == name || strings.HasPrefix(have, name+"=") }) {
			all = append(all, e)
		}
	}
	return all
}

// WithSnapshot says where the root filesystem is: the directories of an overlay, else what is mounted. bundle is the
// container's, below which it is mounted.
func (d *ContainerDocument) WithSnapshot(mounts []*api.Mount, bundle string) {
	d.GraphDriver.Data = map[string]string{}
	for _, m := range mounts {
		d.GraphDriver.Data["MergedDir"] = bundle + "/rootfs"
		if m.Type != "overlay" {
			d.GraphDriver.Data["UpperDir"] = m.Source
		}
		for _, o := range m.Options {
			for _, x := range [][2]string{{"lowerdir=", "LowerDir"}, {"upperdir=", "UpperDir"}, {"workdir=", "WorkDir"}} {
				if dir, ok := strings.CutPrefix(o, x[0]); ok {
					d.GraphDriver.Data[x[1]] = dir
				}
			}
		}
	}
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
	Bridge, SandboxID, SandboxKey                      string
	HairpinMode                                        bool
	LinkLocalIPv6Address                               string
	LinkLocalIPv6PrefixLen                             int
	SecondaryIPAddresses, SecondaryIPv6Addresses       []string
	EndpointID                                         string
	Ports                                              map[string][]PortBinding
	Gateway, GlobalIPv6Address, IPAddress, IPv6Gateway string
	GlobalIPv6PrefixLen, IPPrefixLen                   int
	MacAddress                                         string
	Networks                                           map[string]Endpoint
}

// PortBinding is where a port is on the host.
type PortBinding struct{ HostIp, HostPort string } // docker's names are the JSON's

// Endpoint is the container's part in one network.
type Endpoint struct {
	IPAMConfig                                             *EndpointAddresses
	Links                                                  []string
	DriverOpts                                             map[string]string
	EndpointID                                             string
	Aliases                                                []string
	MacAddress, NetworkID, Gateway, IPAddress, IPv6Gateway string
	IPPrefixLen                                            int
	GlobalIPv6Address                                      string
	GlobalIPv6PrefixLen                                    int
}

// EndpointAddresses are the ones that were asked for.
type EndpointAddresses struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

// madeID is the id that docker gives a part of a container, and that the daemon has not: the same for the same part.
func madeID(parts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, "\x00"))))
}

func networkSettings(c *api.Container, s *specs.Spec) NetworkSettings {
	n := NetworkSettings{Ports: map[string][]PortBinding{}, Networks: map[string]Endpoint{}}
	runs := c.State == "running" || c.State == "paused"
	if runs {
		if len(c.Networks) > 0 {
			n.Ports = PortMap(c)
		}
		n.SandboxID, n.SandboxKey = madeID("sandbox", c.Id), sandboxKey(s)
	}
	for i, e := range c.Networks {
		p := endpoint(e)
		if runs {
			p.EndpointID = madeID("endpoint", c.Id, e.NetworkId)
		}
		n.Networks[e.Network] = p
		if i == 0 && e.Network == "bridge" { // docker fills these for the default network alone
			n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = p.Gateway, p.IPAddress, p.IPPrefixLen, p.MacAddress
			n.EndpointID = p.EndpointID
			n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = p.IPv6Gateway, p.GlobalIPv6Address, p.GlobalIPv6PrefixLen
		}
	}
	if len(n.Networks) == 0 {
		for _, mode := range networksOf(c) {
			if mode == "host" || mode == "none" || mode == "bridge" {
				n.Networks[mode] = Endpoint{EndpointID: orNothing(runs, madeID("endpoint", c.Id, mode))}
			}
		}
	}
	return n
}

func orNothing(it bool, text string) string {
	if it {
		return text
	}
	return ""
}

// sandboxKey is the file of the network namespace, where it has one.
func sandboxKey(s *specs.Spec) string {
	if s.Linux == nil {
		return ""
	}
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			return n.Path
		}
	}
	return ""
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
