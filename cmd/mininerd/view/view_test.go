package view

import (
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/runtime/api"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// before is a time in nanoseconds since the epoch, so long ago.
func before(d time.Duration) int64 { return now().Add(-d).UnixNano() }

func TestStatus(t *testing.T) {
	hour := before(time.Hour)
	for want, c := range map[string]*api.Container{
		"Created":                             {State: "created"},
		"Up About an hour":                    {State: "running", StartedAt: hour},
		"Up About an hour (healthy)":          {State: "running", StartedAt: hour, Health: &api.Health{Status: "healthy"}},
		"Up About an hour (health: starting)": {State: "running", StartedAt: hour, Health: &api.Health{Status: "starting"}},
		"Up About an hour (Paused)":           {State: "paused", StartedAt: hour},
		"Exited (137) 5 minutes ago":          {State: "exited", Exit: &api.Exit{Code: 137, Time: before(5 * time.Minute)}},
		"Restarting (1) 2 seconds ago":        {State: "exited", Restarting: true, Exit: &api.Exit{Code: 1, Time: before(2 * time.Second)}},
		"Removal In Progress":                 {State: "removing"},
	} {
		if got := Status(c, now()); got != want {
			t.Errorf("%v: %q, want %q", c, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for _, test := range []struct {
		ports   []*api.PublishedPort
		exposed []string
		want    string
		lines   string
	}{
		{nil, nil, "", ""},
		{nil, []string{"80/tcp"}, "80/tcp", ""},
		{[]*api.PublishedPort{{HostPort: 8080, ContainerPort: 80}}, []string{"80/tcp", "443/tcp"}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp", "80/tcp -> 0.0.0.0:8080 80/tcp -> [::]:8080"},
		{[]*api.PublishedPort{{HostIp: "127.0.0.1", HostPort: 9, ContainerPort: 53, Protocol: "udp"}}, nil, "127.0.0.1:9->53/udp", "53/udp -> 127.0.0.1:9"},
		{[]*api.PublishedPort{{HostIp: "::1", HostPort: 8001, ContainerPort: 81}, {HostIp: "::1", HostPort: 8000, ContainerPort: 80}}, nil, "[::1]:8000-8001->80-81/tcp", "80/tcp -> [::1]:8000 81/tcp -> [::1]:8001"},
	} {
		c := &api.Container{State: "running", Ports: test.ports, Exposed: test.exposed}
		if got := Ports(c); got != test.want {
			t.Errorf("%v: %q, want %q", test.ports, got, test.want)
		}
		if got := strings.Join(PortLines(c, ""), " "); got != test.lines {
			t.Errorf("%v: lines %q, want %q", test.ports, got, test.lines)
		}
	}
	c := &api.Container{State: "running", Ports: []*api.PublishedPort{{HostIp: "1.1.1.1", HostPort: 8, ContainerPort: 80}}}
	if got := PortLines(c, "80"); len(got) != 1 || got[0] != "1.1.1.1:8" || PortLines(c, "80/udp") != nil {
		t.Errorf("port 80: %v", got)
	}
}

func some() []*api.Container {
	return []*api.Container{
		{Id: "aaa1", Name: "old", State: "exited", CreatedAt: before(3 * time.Hour), Exit: &api.Exit{Code: 3}, Image: "docker.io/library/busybox:latest", Labels: map[string]string{"a": "1"}},
		{Id: "bbb2", Name: "web", State: "running", CreatedAt: before(2 * time.Hour), Image: "docker.io/library/nginx:1", NetworkMode: "host", Exposed: []string{"80/tcp"},
			Ports: []*api.PublishedPort{{HostPort: 8080, ContainerPort: 80}}, Mounts: []*api.Mount{{Source: "/src", Target: "/dst"}}, Health: &api.Health{Status: "healthy"}},
		{Id: "ccc3", Name: "new", State: "created", CreatedAt: before(time.Hour), Labels: map[string]string{"a": "2"}},
		{Id: "ddd4", Name: "web2", State: "paused", CreatedAt: before(30 * time.Minute), Networks: []*api.EndpointStatus{{Network: "net", NetworkId: "0123456789"}}},
	}
}

func TestContainers(t *testing.T) {
	for _, test := range []struct {
		filters string
		all     bool
		last    int
		want    string
	}{
		{"", false, 0, "web2 web"}, {"", true, 0, "web2 new web old"}, {"", false, 1, "web2"}, {"", false, 3, "web2 new web"},
		{"status=exited", false, 0, "old"}, {"status=exited status=created", false, 0, "new old"}, {"exited=3", false, 0, "old"}, {"exited=0", false, 0, ""},
		{"name=web", false, 0, "web2 web"}, {"name=^web$", false, 0, "web"}, {"name=^/web$", false, 0, "web"}, {"id=aaa", true, 0, "old"},
		{"label=a", true, 0, "new old"}, {"label=a=1", true, 0, "old"}, {"ancestor=busybox", true, 0, "old"}, {"ancestor=nginx:1", false, 0, "web"}, {"ancestor=nginx", false, 0, ""},
		{"before=new", false, 0, "web old"}, {"since=web", false, 0, "web2 new"}, {"network=net", false, 0, "web2"}, {"network=0123", false, 0, "web2"}, {"network=host", false, 0, "web"},
		{"volume=/dst", false, 0, "web"}, {"publish=8080", false, 0, "web"}, {"publish=8000-9000/tcp", false, 0, "web"}, {"publish=8080/udp", false, 0, ""}, {"expose=80", false, 0, "web"},
		{"health=healthy", false, 0, "web"}, {"health=none", false, 0, "web2"}, {"name=web label=a", true, 0, ""},
	} {
		f, err := ParseFilters(strings.Fields(test.filters), ContainerFilterKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		list, err := Containers(some(), f, test.all, test.last)
		var names []string
		for _, c := range list {
			names = append(names, c.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	for filter, want := range map[string]string{"status=well": "invalid filter 'status=well'", "exited=x": "exited=x", "health=x": "health=x", "before=nothing": "No such container: nothing"} {
		f, err := ParseFilters([]string{filter}, ContainerFilterKeys()...)
		if err == nil {
			_, err = Containers(some(), f, true, 0)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", filter, err)
		}
	}
	for _, wrong := range []string{"name", "colour=red"} {
		if _, err := ParseFilters([]string{wrong}, ContainerFilterKeys()...); err == nil {
			t.Errorf("%s: no error", wrong)
		}
	}
}

func TestContainerRow(t *testing.T) {
	first := some()[0]
	first.Args = []string{"sh", "-c", "something rather long"}
	r := ContainerRow(first, false, now())
	if r.ID != "aaa1" || r.Image != "busybox" || r.Command != `"sh -c 'something ra…"` || r.RunningFor != "3 hours ago" || r.State != "exited" || r.Label("a") != "1" {
		t.Errorf("%+v", r)
	}
	if h := ContainerHeader(); h.Label("com.example.some-name") != "some name" || h.ID != "CONTAINER ID" {
		t.Errorf("header %+v", h)
	}
}

func TestPrunable(t *testing.T) {
	for filters, want := range map[string]string{"": "aaa1 ccc3", "label=a=1": "aaa1", "label!=a=1": "ccc3", "until=2h": "aaa1", "until=2026-01-02T00:00:00Z": "", "label=a label!=a": ""} {
		f, err := ParseFilters(strings.Fields(filters), PruneFilterKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		list, err := Prunable(some(), f, now())
		var ids []string
		for _, c := range list {
			ids = append(ids, c.Id)
		}
		if got := strings.Join(ids, " "); err != nil || got != want {
			t.Errorf("%s: %q, %v", filters, got, err)
		}
	}
}

func localImages() []LocalImage {
	at := func(d time.Duration, labels map[string]string) ocispec.Image {
		created := now().Add(-d)
		return ocispec.Image{Created: &created, Config: ocispec.ImageConfig{Labels: labels}}
	}
	hex := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	return []LocalImage{
		{Image: &api.Image{Name: "docker.io/library/busybox:latest", Id: hex("a"), Target: &api.Descriptor{Digest: hex("1")}}, Config: at(2*time.Hour, map[string]string{"l": "1"}), Bytes: 2050000},
		{Image: &api.Image{Name: "reg.example/team/app:v1", Id: hex("b"), Target: &api.Descriptor{Digest: hex("2")}}, Config: at(time.Hour, nil)},
		{Image: &api.Image{Name: "reg.example/team/app@" + hex("3"), Id: hex("c"), Target: &api.Descriptor{Digest: hex("3")}}, Config: at(3*time.Hour, nil)},
	}
}

func TestImages(t *testing.T) {
	for _, test := range []struct{ filters, repository, want string }{
		{"", "", "reg.example/team/app:v1 busybox:latest reg.example/team/app:<none>"}, {"", "busybox", "busybox:latest"}, {"", "busybox:1", ""},
		{"", "reg.example/team/app", "reg.example/team/app:v1 reg.example/team/app:<none>"}, {"dangling=true", "", "reg.example/team/app:<none>"},
		{"dangling=false", "", "reg.example/team/app:v1 busybox:latest"}, {"label=l=1", "", "busybox:latest"}, {"before=reg.example/team/app:v1", "", "busybox:latest reg.example/team/app:<none>"},
		{"since=busybox", "", "reg.example/team/app:v1"}, {"reference=*box", "", "busybox:latest"}, {"reference=*/*/app:v*", "", "reg.example/team/app:v1"}, {"until=90m", "", "busybox:latest reg.example/team/app:<none>"},
	} {
		f, err := ParseFilters(strings.Fields(test.filters), ImageFilterKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		list, err := Images(localImages(), f, test.repository, now())
		var names []string
		for _, i := range list {
			r := ImageRow(i, false, now())
			names = append(names, r.Repository+":"+r.Tag)
		}
		if got := strings.Join(names, " "); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	r := ImageRow(localImages()[0], false, now())
	if r.ID != strings.Repeat("a", 12) || r.Size != "2.05MB" || r.CreatedSince != "2 hours ago" {
		t.Errorf("%+v", r)
	}
}

func TestEvents(t *testing.T) {
	for _, row := range []struct {
		event *api.Event
		want  string
	}{
		{&api.Event{Type: "container", Action: "exec", Id: "abc", Attributes: map[string]string{"exec": "x", "pid": "1", "command": "sh -c y"}}, "container exec_create: sh -c y abc (execID=x)|container exec_start: sh -c y abc (execID=x)"},
		{&api.Event{Type: "container", Action: "exit", Id: "abc", Attributes: map[string]string{"exec": "x", "code": "1"}}, "container exec_die abc (execID=x, exitCode=1)"},
		{&api.Event{Type: "container", Action: "health_status", Id: "abc", Attributes: map[string]string{"health": "healthy"}}, "container health_status: healthy abc"},
		{&api.Event{Type: "container", Action: "connect", Id: "abc", Attributes: map[string]string{"network": "net", "network_id": "n1"}}, "network connect n1 (container=abc, name=net, type=bridge)"},
		{&api.Event{Type: "container", Action: "create", Id: "abc", Attributes: map[string]string{"image": "docker.io/library/bb:1", "a": "b"}}, "container create abc (a=b, image=bb:1)"},
		{&api.Event{Type: "network", Action: "delete", Id: "n1"}, "network destroy n1"},
		{&api.Event{Type: "image", Action: "delete", Id: "bb"}, "image untag bb"},
	} {
		var lines []string
		for _, e := range EventsOf(row.event) {
			_, line, _ := strings.Cut(e.String(), " ")
			lines = append(lines, line)
		}
		if got := strings.Join(lines, "|"); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
	}
	e := EventsOf(&api.Event{Time: before(0), Namespace: "ns", Type: "container", Action: "exit", Id: "abc", Attributes: map[string]string{"code": "7", "name": "web"}})[0]
	if !strings.HasSuffix(e.String(), "container die abc (exitCode=7, name=web, namespace=ns)") {
		t.Errorf("%s", e)
	}
	for filter, want := range map[string]bool{"event=die": true, "event=start": false, "type=container": true, "container=web": true, "container=ab": true, "container=x": false, "label=name=web": true} {
		f, err := ParseFilters([]string{filter}, EventFilterKeys()...)
		if err != nil || e.Match(f) != want {
			t.Errorf("%s: %v, %v", filter, e.Match(f), err)
		}
	}
}

func TestStatsRow(t *testing.T) {
	var a, b Sample
	a.Time, b.Time = now(), now().Add(time.Second)
	a.CPU.Usage, b.CPU.Usage = 1e9, 15e8
	b.Memory.WorkingSet, b.Pids.Current = 1<<20, 3
	r := StatsRow("abc", "web", &a, &b, 4<<20, false)
	if r.CPUPerc != "50.00%" || r.MemPerc != "25.00%" || r.MemUsage != "1MiB / 4MiB" || r.PIDs != "3" {
		t.Errorf("%+v", r)
	}
	if r := StatsRow("abc", "web", nil, nil, 1, false); r.CPUPerc != "--" {
		t.Errorf("not running: %+v", r)
	}
}

func TestDocumentOfContainer(t *testing.T) {
	c := some()[1]
	c.Spec = []byte(`{"process":{"args":["nginx","-g","x"],"env":["A=b"],"cwd":"/","terminal":true},"linux":{"resources":{"memory":{"limit":5},"pids":{"limit":7}}}}`)
	c.Request = []byte(`{"args":["nginx","-g","x"],"mounts":[{"type":"bind","source":"/src","target":"/dst","options":["rbind","ro"]}],"capAdd":["NET_ADMIN"],"allowNewPrivileges":true}`)
	c.ImageConfig = []byte(`{"Entrypoint":["/entry"],"User":"u"}`)
	c.Networks = []*api.EndpointStatus{{Network: "bridge", NetworkId: "n1", Ips: []string{"10.0.0.2/16", "fd00::2/64"}, Gateways: []string{"10.0.0.1", "fd00::1"}, Mac: "02:00:00:00:00:01"}}
	d, err := DocumentOfContainer(c)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "/web" || d.Path != "nginx" || len(d.Args) != 2 || !d.State.Running || d.State.Health.Status != "healthy" || !d.Config.Tty || d.Config.User != "u" ||
		d.Config.Entrypoint[0] != "/entry" || d.HostConfig.Memory != 5 || *d.HostConfig.PidsLimit != 7 || d.HostConfig.Binds[0] != "/src:/dst:ro" || d.HostConfig.SecurityOpt != nil {
		t.Errorf("%+v", d)
	}
	n := d.NetworkSettings
	if n.IPAddress != "10.0.0.2" || n.IPPrefixLen != 16 || n.GlobalIPv6Address != "fd00::2" || n.IPv6Gateway != "fd00::1" || n.Networks["bridge"].NetworkID != "n1" || n.Ports["80/tcp"][0].HostPort != "8080" {
		t.Errorf("%+v", n)
	}
}
