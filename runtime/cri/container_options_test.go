package cri

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func podOf(t *testing.T, change func(*v1.PodSandboxConfig)) engine.Pod {
	t.Helper()
	c := podConfigOf("web")
	if change != nil {
		change(c)
	}
	o := must(podOptions(c, "", &spec.Host{}))
	o.ID = "p1"
	return engine.Pod{PodOptions: o, State: engine.PodReady}
}

func security(c *v1.ContainerConfig) *v1.LinuxContainerSecurityContext {
	if c.Linux == nil {
		c.Linux = &v1.LinuxContainerConfig{}
	}
	if c.Linux.SecurityContext == nil {
		c.Linux.SecurityContext = &v1.LinuxContainerSecurityContext{}
	}
	return c.Linux.SecurityContext
}

func TestContainerOptions(t *testing.T) {
	o := must(containerOptions(podOf(t, nil), containerConfigOf("c"), &spec.Host{}))
	same(t, o.Request, `{"args":["1"],"entrypoint":["sleep"],"groupPolicy":"merge","maskedPaths":[],"readonlyPaths":[],"allowNewPrivileges":true,
		"seccomp":"unconfined","annotations":{"note":"c"}}`)
	o.Request = nil
	want := engine.CreateOptions{
		Image: "busybox:1", Labels: map[string]string{"app": "c"}, Log: wire.Log{Driver: "cri", Path: "/var/log/pods/web/c/0.log"},
		Pod: "p1", Key: "p1/c/2",
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, want %+v", o, want)
	}
}

// TestContainerRequest: what a configuration changes in the request of a plain container.
func TestContainerRequest(t *testing.T) {
	host := &spec.Host{Kernel: "6.18.0", Controllers: []string{"cpu", "memory"}}
	pod := podOf(t, func(c *v1.PodSandboxConfig) { sandboxSecurity(c).Privileged = true })
	plain := asMap(t, must(containerOptions(pod, containerConfigOf("c"), host)).Request)
	mount := func(m *v1.Mount) func(*v1.ContainerConfig) {
		return func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{m} }
	}
	pid := func(o *v1.NamespaceOption) func(*v1.ContainerConfig) {
		return func(c *v1.ContainerConfig) { security(c).NamespaceOptions = o }
	}
	for name, tc := range map[string]struct {
		change func(*v1.ContainerConfig)
		want   string
	}{
		"process": {func(c *v1.ContainerConfig) {
			c.Command, c.Args, c.WorkingDir, c.Tty = nil, []string{"a"}, "/w", true
			c.Envs = []*v1.KeyValue{{Key: "A", Value: []byte("b=c")}, {Key: "E"}}
			c.StopSignal = v1.Signal_SIGNAL_SIGRTMINPLUS3
		}, `{"args":["a"],"cwd":"/w","entrypoint":null,"env":["A=b=c","E="],"stopSignal":"SIGRTMIN+3","terminal":true}`},
		"pid pod":       {pid(&v1.NamespaceOption{Pid: v1.NamespaceMode_POD}), `{}`},
		"pid container": {pid(&v1.NamespaceOption{Pid: v1.NamespaceMode_CONTAINER}), `{"namespaces":{"pid":"private"}}`},
		"pid node":      {pid(&v1.NamespaceOption{Pid: v1.NamespaceMode_NODE}), `{"namespaces":{"pid":"host"}}`},
		"pid target":    {pid(&v1.NamespaceOption{Pid: v1.NamespaceMode_TARGET, TargetId: "t"}), `{"namespaces":{"pid":"container:t"}}`},
		"volume":        {mount(&v1.Mount{HostPath: "/h//x", ContainerPath: "data"}), `{"mounts":[{"type":"bind","source":"/h/x","target":"/data","options":["rbind","rprivate","rw"],"createSource":true}]}`},
		"read-only": {mount(&v1.Mount{HostPath: "/h", ContainerPath: "/c", Readonly: true, Propagation: v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}),
			`{"mounts":[{"type":"bind","source":"/h","target":"/c","options":["rbind","rslave","ro"],"createSource":true}]}`},
		"recursive": {mount(&v1.Mount{HostPath: "/h", ContainerPath: "/c", Readonly: true, RecursiveReadOnly: true, SelinuxRelabel: true}),
			`{"mounts":[{"type":"bind","source":"/h","target":"/c","options":["rbind","rprivate","rro"],"createSource":true,"relabel":"private"}]}`},
		"shared with options": {mount(&v1.Mount{HostPath: "/h", ContainerPath: "/c", Propagation: v1.MountPropagation_PROPAGATION_BIDIRECTIONAL, MountOptions: []string{"noexec", "nosuid", "nodev", "noexec"}}),
			`{"mounts":[{"type":"bind","source":"/h","target":"/c","options":["rbind","rshared","rw","noexec","nosuid","nodev"],"createSource":true}]}`},
		"idmapped": {mount(&v1.Mount{HostPath: "/h", ContainerPath: "/c", UidMappings: ids(0, 1000, 10), GidMappings: ids(0, 2000, 10)}),
			`{"mounts":[{"type":"bind","source":"/h","target":"/c","options":["rbind","rprivate","rw"],"createSource":true,"uidMap":[{"containerID":0,"hostID":1000,"size":10}],"gidMap":[{"containerID":0,"hostID":2000,"size":10}]}]}`},
		"image volume": {mount(&v1.Mount{Image: &v1.ImageSpec{Image: "sha256:abc"}, ImageSubPath: "a/b", ContainerPath: "/c", Readonly: true}),
			`{"mounts":[{"type":"image","source":"sha256:abc","target":"/c","options":["rbind","ro","rprivate"],"subPath":"a/b"}]}`},
		"devices": {func(c *v1.ContainerConfig) {
			c.Devices = []*v1.Device{{HostPath: "/dev/fuse", ContainerPath: "/dev/f", Permissions: "rw"}}
			c.CDIDevices = []*v1.CDIDevice{{Name: "v.com/c=a"}}
			c.Annotations = map[string]string{"cdi.k8s.io/x": "v.com/c=a, v.com/c=b"}
		}, `{"annotations":{"cdi.k8s.io/x":"v.com/c=a, v.com/c=b"},"cdiDevices":["v.com/c=a","v.com/c=b"],"devices":[{"source":"/dev/fuse","target":"/dev/f","permissions":"rw"}]}`},
		"resources": {func(c *v1.ContainerConfig) {
			c.Linux = &v1.LinuxContainerConfig{Resources: &v1.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 26, OomScoreAdj: 999, CpusetCpus: "0", CpusetMems: "0",
				HugepageLimits: []*v1.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB", Limit: 1 << 30}}, Unified: map[string]string{"memory.high": "1"},
			}}
		}, `{"oomScoreAdj":999,"resources":{"memory":{"limit":67108864,"swap":67108864},"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"},
			"hugepageLimits":[{"pageSize":"1GB","limit":1073741824}],"unified":{"memory.high":"1"}}}`},
		"swap": {func(c *v1.ContainerConfig) {
			c.Linux = &v1.LinuxContainerConfig{Resources: &v1.LinuxContainerResources{MemoryLimitInBytes: 1 << 26, MemorySwapLimitInBytes: 1 << 27}}
		}, `{"oomScoreAdj":0,"resources":{"memory":{"limit":67108864,"swap":134217728}}}`},
		"user": {func(c *v1.ContainerConfig) {
			s := security(c)
			s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &v1.Int64Value{Value: 0}, &v1.Int64Value{Value: 7}, []int64{9}
			s.SupplementalGroupsPolicy = v1.SupplementalGroupsPolicy_Strict
		}, `{"groupPolicy":"strict","groups":["9"],"user":"0:7"}`},
		"user name": {func(c *v1.ContainerConfig) {
			s := security(c)
			s.RunAsUser, s.RunAsUsername, s.RunAsGroup = &v1.Int64Value{Value: 5}, "www", &v1.Int64Value{Value: 7}
		}, `{"user":"www:7"}`},
		"capabilities": {func(c *v1.ContainerConfig) {
			s := security(c)
			s.Capabilities = &v1.Capability{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}}
			s.NoNewPrivs, s.ReadonlyRootfs = true, true
		}, `{"allowNewPrivileges":null,"capAdd":["NET_ADMIN","NET_BIND_SERVICE"],"capAmbient":["NET_BIND_SERVICE"],"capDrop":["ALL"],"readOnly":true}`},
		"paths and profiles": {func(c *v1.ContainerConfig) {
			s := security(c)
			s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
			s.Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "/p/s.json"}
			s.Apparmor = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "mine"}
			//lint:ignore SA1019 the field goes before it
			s.ApparmorProfile = "localhost/other"
		}, `{"apparmor":"localhost/mine","maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"],"seccomp":"/p/s.json"}`},
		"deprecated profiles": {func(c *v1.ContainerConfig) {
			s := security(c)
			//lint:ignore SA1019 older kubelets send nothing else
			s.SeccompProfilePath, s.ApparmorProfile = "localhost//p/s.json", "runtime/default"
		}, `{"apparmor":"runtime/default","seccomp":"/p/s.json"}`},
		"privileged": {func(c *v1.ContainerConfig) {
			s := security(c)
			s.Privileged, s.MaskedPaths = true, []string{"/proc/kcore"}
			s.Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}
		}, `{"privileged":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := containerConfigOf("c")
			tc.change(c)
			got := asMap(t, must(containerOptions(pod, c, host)).Request)
			same(t, difference(plain, got), tc.want)
		})
	}
}

func TestContainerOptionsRefused(t *testing.T) {
	mount := func(m *v1.Mount) func(*v1.ContainerConfig) {
		return func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{m} }
	}
	secured := func(change func(*v1.LinuxContainerSecurityContext)) func(*v1.ContainerConfig) {
		return func(c *v1.ContainerConfig) { change(security(c)) }
	}
	limits := func(r *v1.LinuxContainerResources) func(*v1.ContainerConfig) {
		return func(c *v1.ContainerConfig) { c.Linux = &v1.LinuxContainerConfig{Resources: r} }
	}
	image := &v1.ImageSpec{Image: "i"}
	for name, tc := range map[string]struct {
		change func(*v1.ContainerConfig)
		says   string
	}{
		"no metadata":       {func(c *v1.ContainerConfig) { c.Metadata = nil }, "metadata is missing"},
		"no name":           {func(c *v1.ContainerConfig) { c.Metadata.Name = "" }, "container name is empty"},
		"no image":          {func(c *v1.ContainerConfig) { c.Image = nil }, "name is empty"},
		"image's name":      {func(c *v1.ContainerConfig) { c.Image.Image = "UPPER//x" }, "UPPER"},
		"log outside":       {func(c *v1.ContainerConfig) { c.LogPath = "../../../etc/x" }, "below the pod's log directory"},
		"NUL":               {func(c *v1.ContainerConfig) { c.Args = []string{"a\x00"} }, "NUL byte"},
		"variable":          {func(c *v1.ContainerConfig) { c.Envs = []*v1.KeyValue{{Key: "A=B"}} }, "has no ="},
		"signal":            {func(c *v1.ContainerConfig) { c.StopSignal = 999 }, "none of the CRI's"},
		"device":            {func(c *v1.ContainerConfig) { c.Devices = []*v1.Device{{HostPath: "null"}} }, "absolute path"},
		"permissions":       {func(c *v1.ContainerConfig) { c.Devices = []*v1.Device{{HostPath: "/dev/null", Permissions: "x"}} }, "letters of rwm"},
		"cdi":               {func(c *v1.ContainerConfig) { c.CDIDevices = []*v1.CDIDevice{{}} }, "has no name"},
		"relative source":   {mount(&v1.Mount{HostPath: "x", ContainerPath: "/c"}), "absolute path"},
		"no target":         {mount(&v1.Mount{HostPath: "/x"}), "container path"},
		"both sources":      {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", Image: image}), "give one of them"},
		"sub path outside":  {mount(&v1.Mount{ContainerPath: "/c", Image: image, ImageSubPath: "a/../.."}), "below the image's root"},
		"sub path alone":    {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", ImageSubPath: "a"}), "needs an image"},
		"rro writable":      {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", RecursiveReadOnly: true}), "needs readonly too"},
		"rro propagation":   {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", RecursiveReadOnly: true, Readonly: true, Propagation: 1}), "propagation PRIVATE"},
		"propagation":       {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", Propagation: 9}), "use PRIVATE"},
		"mount option":      {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", MountOptions: []string{"suid"}}), "noexec, nodev and nosuid"},
		"half idmapped":     {mount(&v1.Mount{HostPath: "/x", ContainerPath: "/c", UidMappings: ids(0, 1, 2)}), "needs uid and gid mappings"},
		"oom score":         {limits(&v1.LinuxContainerResources{OomScoreAdj: 1001}), "-1000 to 1000"},
		"negative shares":   {limits(&v1.LinuxContainerResources{CpuShares: -1}), "can't be negative"},
		"negative memory":   {limits(&v1.LinuxContainerResources{MemoryLimitInBytes: -2}), "-1 for no limit"},
		"privileged":        {secured(func(s *v1.LinuxContainerSecurityContext) { s.Privileged = true }), "needs a privileged pod"},
		"group alone":       {secured(func(s *v1.LinuxContainerSecurityContext) { s.RunAsGroup = &v1.Int64Value{Value: 1} }), "without run_as_user"},
		"negative user":     {secured(func(s *v1.LinuxContainerSecurityContext) { s.RunAsUser = &v1.Int64Value{Value: -1} }), "numbers go from 0"},
		"negative group":    {secured(func(s *v1.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{-1} }), "numbers go from 0"},
		"user with a group": {secured(func(s *v1.LinuxContainerSecurityContext) { s.RunAsUsername = "a:b" }), "no colon"},
		"policy":            {secured(func(s *v1.LinuxContainerSecurityContext) { s.SupplementalGroupsPolicy = 7 }), "Merge and Strict"},
		"masked path":       {secured(func(s *v1.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"proc"} }), "absolute path"},
		"seccomp type":      {secured(func(s *v1.LinuxContainerSecurityContext) { s.Seccomp = &v1.SecurityProfile{ProfileType: 9} }), "RuntimeDefault, Unconfined and Localhost"},
		//lint:ignore SA1019 as above
		"seccomp string": {secured(func(s *v1.LinuxContainerSecurityContext) { s.SeccompProfilePath = "strict" }), "use runtime/default"},
		"apparmor name":  {secured(func(s *v1.LinuxContainerSecurityContext) { s.Apparmor = &v1.SecurityProfile{ProfileType: 2} }), "loaded on this host"},
		"no target id":   {secured(func(s *v1.LinuxContainerSecurityContext) { s.NamespaceOptions = &v1.NamespaceOption{Pid: 3} }), "target id is missing"},
		"userns of its own": {secured(func(s *v1.LinuxContainerSecurityContext) {
			s.NamespaceOptions = &v1.NamespaceOption{UsernsOptions: &v1.UserNamespace{Uids: ids(0, 1, 9), Gids: ids(0, 1, 9)}}
		}), "not that of its pod"},
	} {
		t.Run(name, func(t *testing.T) {
			c := containerConfigOf("c")
			tc.change(c)
			_, err := containerOptions(podOf(t, nil), c, &spec.Host{})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v, want one that says %q", err, tc.says)
			}
		})
	}
}

func TestSELinuxOfContainers(t *testing.T) {
	c := containerConfigOf("c")
	security(c).SelinuxOptions = &v1.SELinuxOption{User: "u", Role: "r", Type: "t"}
	if _, err := containerOptions(podOf(t, nil), c, &spec.Host{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("on a host without SELinux: %v", err)
	}
	r := must(containerOptions(podOf(t, nil), c, &spec.Host{SELinux: true})).Request
	if got := strings.Join(r.SELinuxOptions, " "); got != "user:u role:r type:t" {
		t.Errorf("options are %q", got)
	}
}

// TestSignals: every signal of the CRI can be parsed, and comes back as itself or as the other name of the same.
func TestSignals(t *testing.T) {
	aliases := map[v1.Signal]v1.Signal{
		v1.Signal_SIGNAL_SIGCLD: v1.Signal_SIGNAL_SIGCHLD, v1.Signal_SIGNAL_SIGIOT: v1.Signal_SIGNAL_SIGABRT, v1.Signal_SIGNAL_SIGPOLL: v1.Signal_SIGNAL_SIGIO,
	}
	for n := range v1.Signal_name {
		sig := v1.Signal(n)
		name, err := signalName(sig)
		if err != nil {
			t.Errorf("%s: %v", sig, err)
			continue
		}
		if sig == v1.Signal_SIGNAL_RUNTIME_DEFAULT {
			continue
		}
		want := sig
		if other, ok := aliases[sig]; ok {
			want = other
		}
		if got := signalOf(name); got != want {
			t.Errorf("%s: %q came back as %s", sig, name, got)
		}
	}
	for text, want := range map[string]v1.Signal{"15": v1.Signal_SIGNAL_SIGTERM, "quit": v1.Signal_SIGNAL_SIGQUIT, "37": v1.Signal_SIGNAL_SIGRTMINPLUS3, "no": 0, "": 0, "63": v1.Signal_SIGNAL_SIGRTMAXMINUS1} {
		if got := signalOf(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
