package cri

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
)

func ids(list ...uint32) []*v1.IDMapping {
	var out []*v1.IDMapping
	for i := 0; i < len(list); i += 3 {
		out = append(out, &v1.IDMapping{ContainerId: list[i], HostId: list[i+1], Length: list[i+2]})
	}
	return out
}

func sandboxSecurity(c *v1.PodSandboxConfig) *v1.LinuxSandboxSecurityContext {
	if c.Linux == nil {
		c.Linux = &v1.LinuxPodSandboxConfig{}
	}
	if c.Linux.SecurityContext == nil {
		c.Linux.SecurityContext = &v1.LinuxSandboxSecurityContext{NamespaceOptions: &v1.NamespaceOption{}}
	}
	return c.Linux.SecurityContext
}

// TestPodOptions: what a configuration changes in the options of a plain pod, as JSON.
func TestPodOptions(t *testing.T) {
	host := &spec.Host{Kernel: "6.18.0"}
	plain := asMap(t, must(podOptions(podConfigOf("web"), "", host)))
	if got := plain["key"]; got != "ns/web/u-web/1" {
		t.Errorf("key is %v", got)
	}
	for name, tc := range map[string]struct {
		change func(*v1.PodSandboxConfig)
		want   string // the fields that differ, but for front
	}{
		"host's namespaces": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).NamespaceOptions = &v1.NamespaceOption{Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_NODE, Ipc: v1.NamespaceMode_NODE}
			c.PortMappings = []*v1.PortMapping{{HostPort: 80, ContainerPort: 80}}
		}, `{"ipc":"node","network":"node","pid":"node"}`},
		"processes apart": {func(c *v1.PodSandboxConfig) { sandboxSecurity(c).NamespaceOptions.Pid = v1.NamespaceMode_CONTAINER }, `{"pid":"container"}`},
		"user namespace": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).NamespaceOptions.UsernsOptions = &v1.UserNamespace{Uids: ids(0, 1000, 65536), Gids: ids(0, 2000, 65536)}
		}, `{"gidMap":[{"containerID":0,"hostID":2000,"size":65536}],"uidMap":[{"containerID":0,"hostID":1000,"size":65536}]}`},
		"user namespace with the host's network": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).NamespaceOptions = &v1.NamespaceOption{
				Network: v1.NamespaceMode_NODE, UsernsOptions: &v1.UserNamespace{Uids: ids(0, 1, 9), Gids: ids(0, 1, 9)}}
		}, `{"gidMap":[{"containerID":0,"hostID":1,"size":9}],"network":"node","uidMap":[{"containerID":0,"hostID":1,"size":9}]}`},
		"host's user namespace": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: v1.NamespaceMode_NODE}
		}, `{}`},
		"dns": {func(c *v1.PodSandboxConfig) {
			c.DnsConfig = &v1.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc.local"}, Options: []string{"ndots:5"}}
		}, `{"dns":{"servers":["10.0.0.10"],"searches":["svc.local"],"options":["ndots:5"]}}`},
		"ports": {func(c *v1.PodSandboxConfig) {
			c.PortMappings = []*v1.PortMapping{
				{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 443}, {Protocol: v1.Protocol_UDP, HostPort: 53, ContainerPort: 53, HostIp: "::ffff:127.0.0.1"}}
		}, `{"ports":[{"protocol":"tcp","host_port":8080,"container_port":80},{"protocol":"udp","host_ip":"127.0.0.1","host_port":53,"container_port":53}]}`},
		"bandwidth": {func(c *v1.PodSandboxConfig) {
			c.Annotations = map[string]string{"note": "n", ingressBandwidth: "10M", egressBandwidth: "1.5Ki"}
		}, `{"annotations":{"kubernetes.io/egress-bandwidth":"1.5Ki","kubernetes.io/ingress-bandwidth":"10M","note":"n"},"bandwidth":{"ingress":10000000,"egress":1536}}`},
		"linux": {func(c *v1.PodSandboxConfig) {
			c.Hostname = "h"
			c.Linux = &v1.LinuxPodSandboxConfig{
				CgroupParent: "/kubepods//pod1/", Sysctls: map[string]string{"net.core.somaxconn": "9"},
				Overhead: &v1.LinuxContainerResources{CpuShares: 2}, Resources: &v1.LinuxContainerResources{MemoryLimitInBytes: 1 << 30, MemorySwapLimitInBytes: -1},
			}
		}, `{"cgroup":"/kubepods/pod1","hostname":"h","overhead":{"cpu":{"shares":2}},"resources":{"memory":{"limit":1073741824,"swap":-1}},"sysctls":{"net.core.somaxconn":"9"}}`},
		"seccomp": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}
		}, `{"seccomp":"default"}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := podConfigOf("web")
			tc.change(c)
			got := asMap(t, must(podOptions(c, "", host)))
			same(t, difference(plain, got), tc.want)
			var front podFront
			kept := engine.Pod{PodOptions: must(podOptions(c, "", host))}
			if json.Unmarshal(kept.Front, &front) != nil || !proto.Equal(podConfig(kept), c) {
				t.Errorf("the configuration is not kept: %s", kept.Front)
			}
		})
	}
}

func TestPodOptionsRefused(t *testing.T) {
	userns := func(u *v1.UserNamespace) func(*v1.PodSandboxConfig) {
		return func(c *v1.PodSandboxConfig) { sandboxSecurity(c).NamespaceOptions.UsernsOptions = u }
	}
	port := func(p *v1.PortMapping) func(*v1.PodSandboxConfig) {
		return func(c *v1.PodSandboxConfig) { c.PortMappings = []*v1.PortMapping{p} }
	}
	for name, tc := range map[string]struct {
		change func(*v1.PodSandboxConfig)
		says   string
	}{
		"no metadata":        {func(c *v1.PodSandboxConfig) { c.Metadata = nil }, "metadata is missing"},
		"no name":            {func(c *v1.PodSandboxConfig) { c.Metadata.Name = "" }, "pod name is empty"},
		"name with a slash":  {func(c *v1.PodSandboxConfig) { c.Metadata.Name = "a/b" }, "slash"},
		"no uid":             {func(c *v1.PodSandboxConfig) { c.Metadata.Uid = "" }, "pod uid is empty"},
		"no namespace":       {func(c *v1.PodSandboxConfig) { c.Metadata.Namespace = "" }, "pod namespace is empty"},
		"much metadata":      {func(c *v1.PodSandboxConfig) { c.Annotations["x"] = strings.Repeat("y", 4<<20) }, "the limit is 3145728"},
		"long hostname":      {func(c *v1.PodSandboxConfig) { c.Hostname = strings.Repeat("y", 65) }, "the kernel takes 64"},
		"relative logs":      {func(c *v1.PodSandboxConfig) { c.LogDirectory = "logs" }, "absolute path"},
		"cgroup outside":     {func(c *v1.PodSandboxConfig) { c.Linux = &v1.LinuxPodSandboxConfig{CgroupParent: "/a/../.."} }, "leaves the hierarchy"},
		"dns line break":     {func(c *v1.PodSandboxConfig) { c.DnsConfig = &v1.DNSConfig{Options: []string{"a\nnameserver 6.6.6.6"}} }, "one word of one line"},
		"bandwidth":          {func(c *v1.PodSandboxConfig) { c.Annotations[ingressBandwidth] = "fast" }, "like 10M"},
		"little bandwidth":   {func(c *v1.PodSandboxConfig) { c.Annotations[egressBandwidth] = "1" }, "1k to 1P"},
		"large port":         {port(&v1.PortMapping{HostPort: 65536, ContainerPort: 1}), "ports go from 1"},
		"no container port":  {port(&v1.PortMapping{HostPort: 80}), "names no port of the container"},
		"protocol":           {port(&v1.PortMapping{HostPort: 80, ContainerPort: 80, Protocol: 9}), "use TCP, UDP or SCTP"},
		"host ip":            {port(&v1.PortMapping{HostPort: 80, ContainerPort: 80, HostIp: "here"}), "no address"},
		"network mode":       {func(c *v1.PodSandboxConfig) { sandboxSecurity(c).NamespaceOptions.Network = v1.NamespaceMode_CONTAINER }, "network namespace mode CONTAINER"},
		"pid mode":           {func(c *v1.PodSandboxConfig) { sandboxSecurity(c).NamespaceOptions.Pid = v1.NamespaceMode_TARGET }, "pid namespace mode TARGET"},
		"userns container":   {userns(&v1.UserNamespace{Mode: v1.NamespaceMode_CONTAINER}), "takes POD or NODE"},
		"userns target":      {userns(&v1.UserNamespace{Mode: v1.NamespaceMode_TARGET}), "takes POD or NODE"},
		"userns two ranges":  {userns(&v1.UserNamespace{Uids: ids(0, 1, 9, 9, 20, 9), Gids: ids(0, 1, 9)}), "exactly one"},
		"userns no gids":     {userns(&v1.UserNamespace{Uids: ids(0, 1, 9)}), "0 gid mappings"},
		"userns not from 0":  {userns(&v1.UserNamespace{Uids: ids(1, 1, 9), Gids: ids(1, 1, 9)}), "must begin at 0"},
		"userns lengths":     {userns(&v1.UserNamespace{Uids: ids(0, 1, 9), Gids: ids(0, 1, 8)}), "as many of both"},
		"userns empty range": {userns(&v1.UserNamespace{Uids: ids(0, 1, 0), Gids: ids(0, 1, 0)}), "length"},
		"userns host's maps": {userns(&v1.UserNamespace{Mode: v1.NamespaceMode_NODE, Uids: ids(0, 1, 9)}), "takes no id mappings"},
		"group alone":        {func(c *v1.PodSandboxConfig) { sandboxSecurity(c).RunAsGroup = &v1.Int64Value{Value: 1} }, "run_as_group without run_as_user"},
		"seccomp path": {func(c *v1.PodSandboxConfig) {
			sandboxSecurity(c).Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "p.json"}
		}, "absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			c := podConfigOf("web")
			tc.change(c)
			_, err := podOptions(c, "", &spec.Host{})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v, want one that says %q", err, tc.says)
			}
		})
	}
	if _, err := podOptions(nil, "", &spec.Host{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no configuration: %v", err)
	}
	c := podConfigOf("web")
	sandboxSecurity(c).SelinuxOptions = &v1.SELinuxOption{Level: "s0:c1"}
	if _, err := podOptions(c, "", &spec.Host{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("SELinux on a host without: %v", err)
	}
	if o, err := podOptions(c, "", &spec.Host{SELinux: true}); err != nil || strings.Join(o.SELinuxOptions, " ") != "level:s0:c1" {
		t.Errorf("SELinux: %q, %v", o.SELinuxOptions, err)
	}
}

func TestQuantity(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, "10M": 10e6, "10Mi": 10 << 20, "1.5k": 1500, "12e6": 12e6, "1E": 1e18, "1500m": 2, "1n": 1, "+5": 5, "1e3": 1000, "7Ki": 7168,
	} {
		if got, ok := quantity(text); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "10MB", "ten", "1 M", "inf", "NaN", "0x10", "1e99", strings.Repeat("1", 65), "10Q"} {
		if got, ok := quantity(text); ok {
			t.Errorf("%q: %d, want none", text, got)
		}
	}
}

// must is for calls whose error is a fault of the test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func asMap(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "front")
	return m
}

// difference are the fields of b that a has not, or otherwise; null where b has them not.
func difference(a, b map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, b)
	for k, v := range a {
		x, err := json.Marshal(v)
		y, err2 := json.Marshal(b[k])
		if err == nil && err2 == nil && string(x) == string(y) {
			delete(out, k)
		} else if _, has := b[k]; !has {
			out[k] = nil
		}
	}
	return out
}

func same(t *testing.T, got any, want string) {
	t.Helper()
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var wanted, gotten any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &gotten); err != nil {
		t.Fatal(err)
	}
	data = must(json.Marshal(gotten)) // the fields in their order
	if normal := must(json.Marshal(wanted)); string(normal) != string(data) {
		t.Errorf("got  %s\nwant %s", data, normal)
	}
}
