package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network"
)

func (s *containersServer) Create(ctx context.Context, r *api.CreateContainerRequest) (*api.Container, error) {
	o := engine.CreateOptions{
		ID: r.Id, Image: r.Image, Platform: r.Platform, Snapshotter: r.Snapshotter, Runtime: r.Runtime, Labels: r.Labels,
		SnapshotLabels: r.SnapshotLabels, Stdin: r.Stdin, StdinOnce: r.StdinOnce,
		AutoRemove: r.AutoRemove, NoPivot: r.NoPivot, Supervisor: r.Supervisor,
		Name: r.Name, GenerateName: r.GenerateName, StopTimeout: time.Duration(r.StopTimeout), Init: r.Init,
		Restart:     engine.RestartPolicy{Name: r.Restart.GetName(), MaxRetries: int(r.Restart.GetMaxRetries())},
		HealthCheck: healthCheckOf(r.Health), Front: r.Kept, InitBinary: r.InitBinary, StartFollows: r.StartFollows,
		VolumesFrom: r.VolumesFrom, ImageVolumes: r.ImageVolumes,
	}
	if len(r.Kept) > 0 && !json.Valid(r.Kept) {
		return nil, fmt.Errorf("what is to be kept with the container is not JSON: %w", errdefs.ErrInvalidArgument)
	}
	o.Log, o.Logging = loggingOf(r.Log)
	var err error
	if o.Net, err = networkOf(r); err != nil {
		return nil, err
	}
	if len(r.Request) > 0 {
		o.Request = &spec.Request{}
		if err := decode("request", r.Request, o.Request); err != nil {
			return nil, err
		}
	}
	if len(r.Spec) > 0 {
		o.Spec = &specs.Spec{}
		if err := decode("spec", r.Spec, o.Spec); err != nil {
			return nil, err
		}
	}
	c, err := s.Engine.Create(ctx, namespace(r), o)
	if err != nil {
		return nil, err
	}
	return s.view(c), nil
}

func networkOf(r *api.CreateContainerRequest) (engine.NetworkOptions, error) {
	n := engine.NetworkOptions{
		Mode: r.NetworkMode, PublishAll: r.PublishAll, Expose: r.Expose, ExtraHosts: r.ExtraHosts,
		DNS: network.DNS{Servers: r.Dns.GetServers(), Searches: r.Dns.GetSearches(), Options: r.Dns.GetOptions()},
	}
	for _, a := range r.Networks {
		wanted, err := attachmentOf(a)
		if err != nil {
			return n, err
		}
		n.Networks = append(n.Networks, wanted)
	}
	for _, p := range r.Ports {
		port, err := portOf(p)
		if err != nil {
			return n, err
		}
		n.Ports = append(n.Ports, port)
	}
	return n, nil
}

func attachmentOf(a *api.NetworkAttachment) (engine.NetworkAttachment, error) {
	out := engine.NetworkAttachment{Network: a.GetNetwork(), Aliases: a.GetAliases(), MAC: a.GetMac(), Links: a.GetLinks(), DriverOptions: a.GetDriverOptions()}
	var err error
	if out.IP, err = addressOf("address in network "+out.Network, a.GetIp()); err != nil {
		return out, err
	}
	if out.IP6, err = addressOf("address in network "+out.Network, a.GetIp6()); err != nil {
		return out, err
	}
	for _, text := range a.GetLinkLocalIps() {
		ip, err := addressOf("link-local address", text)
		if err != nil {
			return out, err
		}
		out.LinkLocal = append(out.LinkLocal, ip)
	}
	return out, nil
}

func portOf(p *api.PublishedPort) (network.Port, error) {
	if p.HostPort > math.MaxUint16 || p.ContainerPort > math.MaxUint16 || p.ContainerPort == 0 {
		return network.Port{}, fmt.Errorf("published port %d of port %d: ports go from 1 to 65535: %w", p.HostPort, p.ContainerPort, errdefs.ErrInvalidArgument)
	}
	out := network.Port{Protocol: p.Protocol, HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort)}
	var err error
	out.HostIP, err = addressOf("host address of a published port", p.HostIp)
	return out, err
}

// addressOf reads an address; the empty one is not valid, and no error.
func addressOf(what, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return ip, fmt.Errorf("%s %q: not an IP address: %w", what, text, errdefs.ErrInvalidArgument)
	}
	return ip, nil
}

func healthCheckOf(h *api.HealthCheck) *engine.HealthCheck {
	if h == nil {
		return nil
	}
	return &engine.HealthCheck{
		Test: h.Test, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout), StartPeriod: time.Duration(h.StartPeriod),
		StartInterval: time.Duration(h.StartInterval), Retries: int(h.Retries),
	}
}
