package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network"
)

func TestCreateLikeDocker(t *testing.T) {
	e := newFakeEngine(cat)
	c, _ := serve(t, e)
	_, err := c.Containers.Create(t.Context(), &api.CreateContainerRequest{
		Name: "web", GenerateName: true, NetworkMode: "bridge", PublishAll: true, Expose: []string{"80"}, ExtraHosts: []string{"db:10.0.0.5"},
		Networks: []*api.NetworkAttachment{{Network: "red", Aliases: []string{"www"}, Ip: "10.1.0.2", Ip6: "fd00::2", Mac: "02:00:00:00:00:01", Links: []string{"db"}}},
		Ports:    []*api.PublishedPort{{Protocol: "udp", HostIp: "127.0.0.1", HostPort: 8080, ContainerPort: 80}},
		Dns:      &api.DNSSettings{Servers: []string{"9.9.9.9"}, Searches: []string{"a"}, Options: []string{"o"}},
		Restart:  &api.RestartPolicy{Name: "on-failure", MaxRetries: 3}, StopTimeout: 5, Init: true,
		Health: &api.HealthCheck{Test: []string{"CMD", "x"}, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := e.created
	if o.Name != "web" || !o.GenerateName || o.Net.Mode != "bridge" || !o.Net.PublishAll || o.StopTimeout != 5 || !o.Init || o.Restart != (engine.RestartPolicy{Name: "on-failure", MaxRetries: 3}) {
		t.Errorf("%+v", o)
	}
	if len(o.Net.Networks) != 1 || o.Net.Networks[0].IP.String() != "10.1.0.2" || o.Net.Networks[0].IP6.String() != "fd00::2" || o.Net.Networks[0].Links[0] != "db" {
		t.Errorf("%+v", o.Net.Networks)
	}
	want := network.Port{Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80}
	if len(o.Net.Ports) != 1 || o.Net.Ports[0] != want || o.Net.DNS.Servers[0] != "9.9.9.9" || o.HealthCheck.StartInterval != 4 || o.HealthCheck.Retries != 5 {
		t.Errorf("%+v, %+v", o.Net, o.HealthCheck)
	}
	for name, r := range map[string]*api.CreateContainerRequest{
		"a port that is none":     {Ports: []*api.PublishedPort{{HostPort: 70000, ContainerPort: 80}}},
		"no port":                 {Ports: []*api.PublishedPort{{HostPort: 80}}},
		"an address that is none": {Ports: []*api.PublishedPort{{HostIp: "here", ContainerPort: 80}}},
		"of a network":            {Networks: []*api.NetworkAttachment{{Network: "red", Ip: "there"}}},
	} {
		if _, err := c.Containers.Create(t.Context(), r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestView(t *testing.T) {
	s := &containersServer{Deps: Deps{Engine: newFakeEngine(cat)}}
	running := engine.Container{
		ID: "c", Name: "web", State: engine.Running, RestartCount: 2, StopTimeout: time.Second, AutoRemove: true,
		Net: engine.NetworkOptions{Networks: []engine.NetworkAttachment{{Network: "bridge"}}, Ports: []network.Port{{ContainerPort: 80}}},
		Attachments: []network.Attachment{{
			Ports: []network.Port{{HostPort: 8080, ContainerPort: 80}},
			Links: []network.Link{{Interface: "eth0", MAC: "02:00:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/16")}, Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}},
		}},
		HealthCheck: &engine.HealthCheck{Test: []string{"CMD", "x"}, Interval: time.Second},
		Health:      &engine.Health{Status: engine.HealthUnhealthy, FailingStreak: 4, Log: []engine.HealthResult{{Start: time.Unix(1, 0), End: time.Unix(2, 0), ExitCode: 1, Output: "no"}}},
	}
	v := s.view(running)
	if v.Name != "web" || v.RestartCount != 2 || v.StopTimeout != int64(time.Second) || !v.AutoRemove || v.NetworkMode != "bridge" || v.HealthCheck.Interval != int64(time.Second) {
		t.Errorf("%v", v)
	}
	if len(v.Ports) != 1 || !proto.Equal(v.Ports[0], &api.PublishedPort{Protocol: "tcp", HostPort: 8080, ContainerPort: 80}) {
		t.Errorf("ports %v", v.Ports)
	}
	if n := v.Networks; len(n) != 1 || n[0].Interface != "eth0" || n[0].Ips[0] != "10.0.0.2/16" || n[0].Gateways[0] != "10.0.0.1" || n[0].Mac != "02:00:00:00:00:01" {
		t.Errorf("networks %v", n)
	}
	if h := v.Health; h.Status != "unhealthy" || h.FailingStreak != 4 || len(h.Log) != 1 || h.Log[0].Output != "no" || h.Log[0].End != 2e9 {
		t.Errorf("health %v", h)
	}
	stopped := running
	stopped.Attachments, stopped.Health, stopped.State = nil, nil, engine.Exited
	v = s.view(stopped)
	if v.Ports[0].HostPort != 0 || v.Networks[0].Interface != "" || len(v.Networks[0].Ips) > 0 || v.Health.Status != "none" {
		t.Errorf("stopped: %v", v)
	}
	if v := s.view(engine.Container{}); v.Health != nil || len(v.Networks)+len(v.Ports) > 0 {
		t.Errorf("a plain one: %v", v)
	}
}
