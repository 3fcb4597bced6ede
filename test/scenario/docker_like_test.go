package scenario_test

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// native is the native API of a daemon in a network namespace of the test's own.
type native struct {
	*client.Client
	t *testing.T
	d *testenv.DaemonProcess
}

func dockerLike(t *testing.T) *native {
	t.Helper()
	testenv.Network(t)
	// An address of the host that is not the loopback's.
	testenv.Run(t, "ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
	testenv.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "out0")
	testenv.Run(t, "ip", "link", "set", "out0", "up")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[network]\nprovider = \"builtin\"\n"})
	n := &native{t: t, d: d}
	n.dial()
	t.Cleanup(n.removeAll)
	return n
}

func (n *native) dial() {
	n.t.Helper()
	c, err := client.Dial(context.Background(), client.Options{Address: n.d.Address})
	check(n.t, err)
	n.Client = c
}

func (n *native) removeAll() {
	list, err := n.Containers.List(context.Background(), &api.ListContainersRequest{})
	if err != nil {
		n.t.Error(err)
		return
	}
	for _, c := range list.Containers {
		if _, err := n.Containers.Delete(context.Background(), &api.DeleteContainerRequest{Id: c.Id, Force: true}); err != nil {
			n.t.Error(err)
		}
	}
	check(n.t, n.Close())
}

// request is of a container of the toolbox that runs a script.
func (n *native) request(name, script string) *api.CreateContainerRequest {
	n.t.Helper()
	data, err := json.Marshal(spec.Request{Args: []string{"sh", "-c", script}})
	check(n.t, err)
	return &api.CreateContainerRequest{Name: name, Image: toolbox, Request: data, StopTimeout: int64(time.Second)}
}

// run makes and starts a container.
func (n *native) run(r *api.CreateContainerRequest) *api.Container {
	n.t.Helper()
	_, err := n.Containers.Create(n.t.Context(), r)
	check(n.t, err)
	_, err = n.Containers.Start(n.t.Context(), &api.ContainerRequest{Id: r.Name})
	check(n.t, err)
	return n.get(r.Name)
}

func (n *native) get(name string) *api.Container {
	n.t.Helper()
	c, err := n.Containers.Get(n.t.Context(), &api.ContainerRequest{Id: name})
	check(n.t, err)
	return c
}

// until waits for something of a container to be true.
func (n *native) until(name, what string, is func(*api.Container) bool) {
	n.t.Helper()
	testenv.Eventually(n.t, 15*time.Second, name+": "+what, func() bool { return is(n.get(name)) })
}

// serving is a web server that says a word.
func (n *native) serving(name, word string, hostPort uint32) *api.CreateContainerRequest {
	r := n.request(name, "mkdir /www; echo "+word+" > /www/index.html; exec httpd -f -p 80 -h /www")
	r.NetworkMode = "bridge"
	r.Ports = []*api.PublishedPort{{HostPort: hostPort, ContainerPort: 80}}
	return r
}

func (n *native) answers(address, want string) {
	n.t.Helper()
	var page string
	var err error
	testenv.Eventually(n.t, 10*time.Second, address+" answers "+want, func() bool {
		page, err = testenv.Get(address)
		return err == nil && strings.TrimSpace(page) == want
	})
}

// silent says whether nobody answers at an address.
func silent(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		conn.Close()
	}
	return err != nil
}

func TestDockerLikePorts(t *testing.T) {
	n := dockerLike(t)
	web := n.run(n.serving("web", "first", 8080))
	if len(web.Ports) != 1 || web.Ports[0].HostPort != 8080 || len(web.Networks) != 1 || len(web.Networks[0].Ips) == 0 || web.Networks[0].Interface != "eth0" {
		t.Errorf("ports %v, networks %v", web.Ports, web.Networks)
	}
	both := []string{"127.0.0.1:8080", "192.0.2.1:8080"}
	for _, address := range both {
		n.answers(address, "first")
	}
	t.Log("a second one cannot have the port")
	_, err := n.Containers.Create(t.Context(), n.serving("other", "second", 8080))
	check(t, err)
	_, err = n.Containers.Start(t.Context(), &api.ContainerRequest{Id: "other"})
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "port 8080 is published by container web; stop it or choose another") {
		t.Errorf("%v", err)
	}
	t.Log("nor the name")
	_, err = n.Containers.Create(t.Context(), n.serving("web", "third", 0))
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "name web is taken by container "+web.Id[:12]) {
		t.Errorf("%v", err)
	}
	t.Log("the daemon's death and its end change nothing")
	check(t, n.Close())
	n.d.Restart()
	for _, address := range both {
		n.answers(address, "first")
	}
	n.d.Stop()
	for _, address := range both {
		n.answers(address, "first")
	}
	n.d.Start()
	n.dial()
	after := n.get("web")
	if after.Pid != web.Pid || !slices.Equal(after.Networks[0].Ips, web.Networks[0].Ips) || after.Ports[0].HostPort != 8080 {
		t.Errorf("after the restart: %v", after)
	}
	t.Log("stopped, it gives the port back")
	_, err = n.Containers.Stop(t.Context(), &api.StopRequest{Id: "web"})
	check(t, err)
	if c := n.get("web"); c.State != "exited" || len(c.Networks[0].Ips) > 0 || !silent(both[0]) {
		t.Errorf("stopped: %s, %v", c.State, c.Networks)
	}
	_, err = n.Containers.Start(t.Context(), &api.ContainerRequest{Id: "other"})
	check(t, err)
	n.answers(both[0], "second")
	t.Log("a free port is found")
	free := n.run(n.serving("free", "fourth", 0))
	if len(free.Ports) != 1 || free.Ports[0].HostPort == 0 {
		t.Fatalf("ports %v", free.Ports)
	}
	n.answers(net.JoinHostPort("127.0.0.1", decimal(free.Ports[0].HostPort)), "fourth")
}

func decimal(n uint32) string {
	data, err := json.Marshal(n)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// TestDockerLikeFiles looks at a container's files in /etc.
func TestDockerLikeFiles(t *testing.T) {
	n := dockerLike(t)
	r := n.request("files", "cat /etc/hosts /etc/hostname /etc/resolv.conf; ip -o -4 address show eth0; ping -c 1 host 2>&1 >/dev/null && echo reached")
	r.NetworkMode, r.ExtraHosts = "bridge", []string{"db:10.0.0.5", "host:host-gateway"}
	r.Dns = &api.DNSSettings{Servers: []string{"192.0.2.53"}, Searches: []string{"example.org"}}
	n.run(r)
	exit, err := n.Processes.Wait(t.Context(), &api.ProcessRequest{Id: "files"})
	check(t, err)
	out := n.d.Minictr("logs", n.get("files").Id)
	for _, want := range []string{"10.0.0.5\tdb\n", "\thost\n", "\nnameserver 192.0.2.53\n", "search example.org\n", "eth0", "reached", n.get("files").Id[:12] + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in (exit code %d)\n%s", want, exit.Code, out)
		}
	}
	t.Log("a container that joins another's network sees its files and its address")
	n.run(in("bridge", n.request("owner", "sleep 600")))
	n.run(in("container:owner", n.request("guest", "hostname; cat /etc/hosts")))
	_, err = n.Processes.Wait(t.Context(), &api.ProcessRequest{Id: "guest"})
	check(t, err)
	owner := n.get("owner")
	ip, _, _ := strings.Cut(owner.Networks[0].Ips[0], "/")
	if out := n.d.Minictr("logs", n.get("guest").Id); !strings.HasPrefix(out, owner.Id[:12]+"\n") || !strings.Contains(out, ip+"\t"+owner.Id[:12]) {
		t.Errorf("%s", out)
	}
}

func TestDockerLikeRestarts(t *testing.T) {
	n := dockerLike(t)
	r := n.request("fails", "exit 3")
	r.Restart = &api.RestartPolicy{Name: "on-failure", MaxRetries: 3}
	n.run(r)
	n.until("fails", "it is started again three times", func(c *api.Container) bool {
		return c.RestartCount == 3 && c.State == "exited" && !c.Restarting
	})
	r = n.serving("stays", "here", 8080)
	r.Restart = &api.RestartPolicy{Name: "unless-stopped"}
	first := n.run(r)
	n.answers("127.0.0.1:8080", "here")
	_, err := n.Processes.Signal(t.Context(), &api.SignalRequest{Id: "stays", Signal: 1}) // not its stop signal
	check(t, err)
	n.until("stays", "it runs again", func(c *api.Container) bool { return c.State == "running" && c.Pid != first.Pid && c.RestartCount == 1 })
	n.answers("127.0.0.1:8080", "here")
	_, err = n.Containers.Stop(t.Context(), &api.StopRequest{Id: "stays"})
	check(t, err)
	check(t, n.Close())
	n.d.Restart()
	n.dial()
	time.Sleep(500 * time.Millisecond)
	if c := n.get("stays"); c.State != "exited" || c.Restarting {
		t.Errorf("stopped by a client, it is %s", c.State)
	}
}

func TestDockerLikeHealth(t *testing.T) {
	n := dockerLike(t)
	r := n.request("sick", "touch /well; sleep 600")
	r.Health = &api.HealthCheck{Test: []string{"CMD-SHELL", "echo looked; test -e /well"}, Interval: int64(200 * time.Millisecond), Retries: 2}
	if c := n.run(r); c.Health.Status != "starting" {
		t.Errorf("at first: %v", c.Health)
	}
	n.until("sick", "it is healthy", func(c *api.Container) bool { return c.Health.Status == "healthy" })
	n.d.Minictr("exec", n.get("sick").Id, "rm", "/well")
	n.until("sick", "it is unhealthy", func(c *api.Container) bool { return c.Health.Status == "unhealthy" })
	h := n.get("sick").Health
	if h.FailingStreak < 2 || len(h.Log) == 0 || len(h.Log) > 5 || h.Log[len(h.Log)-1].ExitCode != 1 || h.Log[0].Output != "looked\n" {
		t.Errorf("%v", h)
	}
	check(t, n.Close())
	n.d.Restart()
	n.dial()
	n.until("sick", "the next daemon finds it unhealthy too", func(c *api.Container) bool { return c.Health.Status == "unhealthy" })
	list, err := n.Containers.List(t.Context(), &api.ListContainersRequest{Filters: []string{"health==unhealthy"}})
	if err != nil || len(list.Containers) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestDockerLikeInit has a first process that would be deaf to its stop signal, and a child that nobody waits for.
func TestDockerLikeInit(t *testing.T) {
	n := dockerLike(t)
	r := n.request("init", "cat /proc/1/comm; sleep 600")
	r.Init, r.StopTimeout = true, int64(time.Minute)
	n.run(r)
	testenv.Eventually(t, 5*time.Second, "it has begun", func() bool { return n.d.Minictr("logs", n.get("init").Id) == "docker-init\n" })
	begun := time.Now()
	_, err := n.Containers.Stop(t.Context(), &api.StopRequest{Id: "init"})
	check(t, err)
	if c := n.get("init"); c.Exit.GetCode() != 128+15 || time.Since(begun) > 10*time.Second {
		t.Errorf("code %d after %s", c.Exit.GetCode(), time.Since(begun))
	}
}

// in puts a container in a network.
func in(mode string, r *api.CreateContainerRequest) *api.CreateContainerRequest {
	r.NetworkMode = mode
	return r
}

// TestDockerLikeUserNamespace has a container whose root is nobody on the host, with a network that it may change.
func TestDockerLikeUserNamespace(t *testing.T) {
	n := dockerLike(t)
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	data, err := json.Marshal(spec.Request{
		Args:   []string{"sh", "-c", "cat /proc/self/uid_map; mkdir /www; echo mapped > /www/index.html; exec httpd -f -p 80 -h /www"},
		UIDMap: ids, GIDMap: ids,
	})
	check(t, err)
	r := n.serving("mapped", "", 8080)
	r.Request = data
	n.run(r)
	n.answers("127.0.0.1:8080", "mapped")
	if out := n.d.Minictr("logs", n.get("mapped").Id); !strings.Contains(out, "100000") {
		t.Errorf("%s", out)
	}
	for range 2 { // again, in namespaces that are made anew
		_, err = n.Containers.Restart(t.Context(), &api.StopRequest{Id: "mapped"})
		check(t, err)
		n.answers("127.0.0.1:8080", "mapped")
	}
}
