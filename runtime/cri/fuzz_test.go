package cri

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
)

func FuzzPodOptions(f *testing.F) {
	c := podConfigOf("web")
	c.PortMappings = []*v1.PortMapping{{HostPort: 80, ContainerPort: 80, HostIp: "::1"}}
	c.DnsConfig = &v1.DNSConfig{Servers: []string{"10.0.0.10"}}
	sandboxSecurity(c).NamespaceOptions.UsernsOptions = &v1.UserNamespace{Uids: ids(0, 1, 9), Gids: ids(0, 1, 9)}
	c.Annotations[ingressBandwidth] = "1M"
	f.Add(must(proto.Marshal(c)))
	f.Fuzz(func(t *testing.T, data []byte) {
		config := &v1.PodSandboxConfig{}
		if proto.Unmarshal(data, config) != nil {
			return
		}
		o, err := podOptions(config, "", &spec.Host{})
		if err != nil {
			return
		}
		if len(o.Name) > maxName || len(o.Ports) > maxItems || len(o.Hostname) > 64 || len(o.UIDMap) > 1 || len(o.UIDMap) != len(o.GIDMap) {
			t.Errorf("bounds are exceeded: %+v", o)
		}
		if strings.Contains("/"+o.Cgroup+"/", "/../") || o.LogDir != "" && !filepath.IsAbs(o.LogDir) {
			t.Errorf("a path leads outside: cgroup %q, logs %q", o.Cgroup, o.LogDir)
		}
	})
}

func FuzzContainerOptions(f *testing.F) {
	c := containerConfigOf("c")
	c.Mounts = []*v1.Mount{{HostPath: "/h", ContainerPath: "/c", Readonly: true}, {Image: &v1.ImageSpec{Image: "i"}, ImageSubPath: "a", ContainerPath: "/i"}}
	c.Envs = []*v1.KeyValue{{Key: "A", Value: []byte("b")}}
	security(c).RunAsUser = &v1.Int64Value{Value: 7}
	c.Linux.Resources = &v1.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 1 << 26}
	f.Add(must(proto.Marshal(c)))
	pod := engine.Pod{PodOptions: must(podOptions(podConfigOf("web"), "", &spec.Host{}))}
	f.Fuzz(func(t *testing.T, data []byte) {
		config := &v1.ContainerConfig{}
		if proto.Unmarshal(data, config) != nil {
			return
		}
		o, err := containerOptions(pod, config, &spec.Host{})
		if err != nil {
			return
		}
		if o.Log.Path != "" && !strings.HasPrefix(o.Log.Path, "/var/log/pods/web/") {
			t.Errorf("the log leaves the pod's directory: %s", o.Log.Path)
		}
		if o.Request.Privileged {
			t.Error("privileged in a pod that is not")
		}
		for _, m := range o.Request.Mounts {
			if !filepath.IsAbs(m.Target) || m.Type == "bind" && !filepath.IsAbs(m.Source) || len(o.Request.Mounts) > maxItems {
				t.Errorf("mount %+v", m)
			}
		}
		for _, e := range o.Request.Env {
			if strings.ContainsRune(e, 0) || !strings.Contains(e, "=") {
				t.Errorf("environment %q", e)
			}
		}
	})
}

func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"10M", "1.5Gi", "12e6", "-1", "1n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := quantity(s); ok && n > 1<<63 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"containers":[{"name":"a","imageID":"sha256:0","dir":"containers/0"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, c := range m.Containers {
			if p := filepath.Join("/ck", c.Dir); p != "/ck" && !strings.HasPrefix(p, "/ck/") {
				t.Errorf("container %s is at %s", c.Name, p)
			}
		}
	})
}

func FuzzAuth(f *testing.F) {
	f.Add("u", "p", "dTpw", "https://index.docker.io/v1/")
	f.Fuzz(func(t *testing.T, user, password, auth, server string) {
		o, err := registryAuth(&v1.AuthConfig{Username: user, Password: password, Auth: auth, ServerAddress: server})
		if err == nil && server != "" && o != nil && o.Host == "" {
			t.Errorf("credentials for %q are for any host", server)
		}
		if err != nil && (len(password) > 8 && strings.Contains(err.Error(), password)) {
			t.Errorf("the error shows the password: %v", err)
		}
	})
}
