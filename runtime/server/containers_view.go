package server

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// view is a container as the API has it.
func (s *containersServer) view(c engine.Container) *api.Container {
	out := &api.Container{
		Id: c.ID, Namespace: c.Namespace, Image: c.Image, ImageDigest: c.ImageDigest, Snapshotter: c.Snapshotter,
		Snapshot: c.Snapshot, Runtime: c.Runtime, Labels: c.Labels, State: string(c.State), Pid: int64(c.PID),
		CreatedAt: nanos(c.CreatedAt), StartedAt: nanos(c.StartedAt), Exit: exitOf(c.Exit), LogPath: c.Log.Path,
		LogDriver: cmp.Or(c.Logging.Driver, c.Log.Driver), Bundle: s.Engine.Bundle(c), Cgroup: cgroupOf(c.CgroupPaths), Pod: c.Pod, Warnings: c.Warnings,
		Name: c.Name, Networks: endpointsOf(c), Ports: portsOf(c), RestartCount: int64(c.RestartCount), Restarting: c.Restarting,
		Restart: &api.RestartPolicy{Name: c.Restart.Name, MaxRetries: int32(min(c.Restart.MaxRetries, math.MaxInt32))},
		Health:  healthOf(c), HealthCheck: checkOf(c.HealthCheck), Hostname: engine.Hostname(c), Mounts: s.askedMounts(c),
		Log:        logConfigOf(c),
		AutoRemove: c.AutoRemove, StopTimeout: int64(c.StopTimeout), NetworkMode: modeOf(c.Net), Init: c.Init,
		Dns: dnsOf(c.Net.DNS), ExtraHosts: c.Net.ExtraHosts, Args: engine.Args(c),
		ImageId: c.ConfigDigest, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		AskedPorts: publishedOf(c.Net.Ports), PublishAll: c.Net.PublishAll, Exposed: exposedOf(c),
	}
	if s := c.Shipping; s != nil {
		out.LogShipping = &api.LogShipping{Error: s.Error, Since: nanos(s.Since), Dropped: s.Dropped, Gaps: s.Gaps}
	}
	return out
}

// listed is a container in a list: whole, or what a table of containers shows of it.
func (s *containersServer) listed(c engine.Container, brief bool) *api.Container {
	if !brief {
		return s.view(c)
	}
	out := &api.Container{
		Id: c.ID, Name: c.Name, Namespace: c.Namespace, Image: c.Image, Args: engine.Args(c), State: string(c.State), Restarting: c.Restarting,
		CreatedAt: nanos(c.CreatedAt), StartedAt: nanos(c.StartedAt), Exit: exitOf(c.Exit), Pod: c.Pod,
	}
	if c.State == engine.Running || c.State == engine.Paused {
		out.Health, out.Ports, out.Exposed = healthOf(c), portsOf(c), exposedOf(c)
	}
	return out
}

// exposedOf are the ports that a container exposes. Where the image's are wrong, nothing of them is published.
func exposedOf(c engine.Container) []string {
	all, err := engine.Exposed(c)
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol))
	}
	return out
}

func logConfigOf(c engine.Container) *api.LogConfig {
	return &api.LogConfig{
		Driver: cmp.Or(c.Logging.Driver, c.Log.Driver), Path: c.Log.Path, MaxSize: c.Log.MaxSize, MaxFiles: int32(min(c.Log.MaxFiles, math.MaxInt32)),
		Options: c.Logging.Options,
	}
}

// cgroupOf picks the directory to show of those that a container is in: the unified one, else the memory controller's.
func cgroupOf(paths map[string]string) string {
	for _, controller := range []string{"", "memory", "pids"} {
		if path := paths[controller]; path != "" {
			return path
		}
	}
	return ""
}

func exitOf(e *wire.Exit) *api.Exit {
	if e == nil {
		return nil
	}
	reason := e.Reason
	if e.OOM && reason == "" {
		reason = "oom"
	}
	return &api.Exit{
		Pid: int32(min(e.PID, math.MaxInt32)), Code: int32(e.Code), Signal: int32(e.Signal), Time: nanos(e.Time), Oom: e.OOM, Reason: reason,
	}
}

// modeOf is the mode of a container's network: the first network where it is in any.
func modeOf(n engine.NetworkOptions) string {
	if n.Mode == "" && len(n.Networks) > 0 {
		return n.Networks[0].Network
	}
	return n.Mode
}

// endpointsOf are a container's parts in its networks, with addresses while it runs.
func endpointsOf(c engine.Container) []*api.EndpointStatus {
	var all []*api.EndpointStatus
	for i, n := range c.Net.Networks {
		s := &api.EndpointStatus{Network: n.Network, Aliases: n.Aliases, Mac: n.MAC}
		if i < len(c.NetworkIDs) {
			s.NetworkId = c.NetworkIDs[i]
		}
		if i < len(c.Attachments) {
			fillEndpoint(s, c.Attachments[i])
		}
		all = append(all, s)
	}
	return all
}

// portsOf are the published ports: as bound while the container runs, else as asked for.
func portsOf(c engine.Container) []*api.PublishedPort {
	list := c.Net.Ports
	if len(c.Attachments) > 0 {
		list = nil
		for _, a := range c.Attachments {
			list = append(list, a.Ports...)
		}
	}
	return publishedOf(list)
}

func publishedOf(list []network.Port) []*api.PublishedPort {
	var all []*api.PublishedPort
	for _, p := range list {
		out := &api.PublishedPort{Protocol: p.Protocol, HostPort: uint32(p.HostPort), ContainerPort: uint32(p.ContainerPort)}
		if p.HostIP.IsValid() {
			out.HostIp = p.HostIP.String()
		}
		if out.Protocol == "" {
			out.Protocol = "tcp"
		}
		all = append(all, out)
	}
	return all
}

func healthOf(c engine.Container) *api.Health {
	if c.HealthCheck == nil {
		return nil
	}
	h := c.Health
	if h == nil {
		return &api.Health{Status: "none"} // it has not run since the daemon began
	}
	out := &api.Health{Status: h.Status, FailingStreak: int32(min(h.FailingStreak, math.MaxInt32))}
	for _, r := range h.Log {
		out.Log = append(out.Log, resultOf(r))
	}
	return out
}

func resultOf(r engine.HealthResult) *api.HealthResult {
	return &api.HealthResult{Start: nanos(r.Start), End: nanos(r.End), ExitCode: int32(r.ExitCode), Output: r.Output}
}

func checkOf(h *engine.HealthCheck) *api.HealthCheck {
	if h == nil {
		return nil
	}
	return &api.HealthCheck{
		Test: h.Test, Interval: int64(h.Interval), Timeout: int64(h.Timeout), StartPeriod: int64(h.StartPeriod),
		StartInterval: int64(h.StartInterval), Retries: int32(min(h.Retries, math.MaxInt32)),
	}
}

// askedMounts are the mounts that a container's client has asked for, and what came with other containers and the image.
func (s *containersServer) askedMounts(c engine.Container) []*api.Mount {
	if c.Request == nil {
		return nil
	}
	var all []*api.Mount
	for _, m := range c.Request.Mounts {
		one := &api.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: slices.Clone(m.Options), Inherited: m.Inherited}
		if m.Type == engine.MountVolume {
			one.Volume, one.Source, one.Anonymous = m.Source, s.Engine.VolumePath(c.Namespace, m.Source), m.Volume != nil && m.Volume.Anonymous
		}
		all = append(all, one)
	}
	return all
}

func dnsOf(d network.DNS) *api.DNSSettings {
	if len(d.Servers)+len(d.Searches)+len(d.Options) == 0 {
		return nil
	}
	return &api.DNSSettings{Servers: d.Servers, Searches: d.Searches, Options: d.Options}
}
