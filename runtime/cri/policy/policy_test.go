package policy

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// everything is what a handler may allow.
func everything() []string {
	var names []string
	for _, a := range annotations() {
		names = append(names, a.name)
	}
	return names
}

// row is a container with what is said of it.
type row struct {
	s       Settings
	h       spec.Host
	pod     engine.Pod
	sandbox v1.PodSandboxConfig
	config  v1.ContainerConfig
	o       engine.CreateOptions
}

func newRow() *row {
	r := &row{
		s:   Settings{Handlers: map[string]Handler{"all": {AllowedAnnotations: everything()}}},
		pod: engine.Pod{PodOptions: engine.PodOptions{Network: engine.ModePod, Runtime: "all"}},
		o:   engine.CreateOptions{Request: &spec.Request{Seccomp: "unconfined"}, Log: wire.Log{Driver: "cri"}},
	}
	r.config.Metadata = &v1.ContainerMetadata{Name: "c"}
	r.config.Linux = &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{}}
	r.sandbox.Annotations = map[string]string{}
	return r
}

func (r *row) handler(change func(*Handler)) {
	h := r.s.Handlers["all"]
	change(&h)
	r.s.Handlers["all"] = h
}

func (r *row) cpus(list string) {
	r.o.Request.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: list}}
}

// result is what becomes of it, as JSON: the request without the defaults that all have, and what else is set.
func (r *row) result(t *testing.T) (string, error) {
	t.Helper()
	if err := r.s.Container(&r.o, r.pod, &r.sandbox, &r.config, &r.h); err != nil {
		return "", err
	}
	if reflect.DeepEqual(r.o.Request.Defaults, &spec.Defaults{}) {
		r.o.Request.Defaults = nil
	}
	r.o.Request.Seccomp = strings.TrimPrefix(r.o.Request.Seccomp, "unconfined")
	var extra any
	if r.o.Tuning != nil || r.o.Forbidden != "" || r.o.Snapshotter != "" || !reflect.DeepEqual(r.o.Log, wire.Log{Driver: "cri"}) {
		extra = map[string]any{"tuning": r.o.Tuning, "forbidden": r.o.Forbidden, "snapshotter": r.o.Snapshotter, "log": r.o.Log}
	}
	data, err := json.Marshal([]any{r.o.Request, extra})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(string(data), "["), "]"), ",null"), nil
}

func TestContainer(t *testing.T) {
	annotate := func(k, v string) func(*row) { return func(r *row) { r.sandbox.Annotations[k] = v } }
	both := func(changes ...func(*row)) func(*row) {
		return func(r *row) {
			for _, c := range changes {
				c(r)
			}
		}
	}
	pinned := func(r *row) { r.cpus("2-3") }
	for name, test := range map[string]struct {
		change func(*row)
		want   string // of the result; with a word only, of the error
	}{
		"nothing": {func(*row) {}, `{}`},
		"umask":   {annotate("umask.crio.io", "077"), `{"umask":63}`},
		"labels when needed": {both(annotate("try-skip-volume-selinux-label.crio.io", "true"), func(r *row) {
			r.o.Request.Mounts = []spec.Mount{{Target: "/a", Relabel: spec.RelabelPrivate}, {Target: "/b"}}
		}), `{"mounts":[{"type":"","target":"/a","relabel":"once"},{"type":"","target":"/b"}]}`},
		"umask, old name": {annotate("io.kubernetes.cri-o.umask", "077"), `{"umask":63}`},
		"bad umask":       {annotate("umask.crio.io", "9"), `octal`},
		"not allowed":     {both(annotate("umask.crio.io", "9"), func(r *row) { r.pod.Runtime = "" }), `{}`},
		"by default": {func(r *row) {
			r.handler(func(h *Handler) { h.DefaultAnnotations = map[string]string{"umask.crio.io": "7"} })
		}, `{"umask":7,"annotations":{"umask.crio.io":"7"}}`},
		"cgroup":            {annotate("cgroup2-mount-hierarchy-rw.crio.io", "true"), `{"defaults":{"cgroupWritable":true}}`},
		"cgroup of handler": {func(r *row) { r.handler(func(h *Handler) { h.CgroupWritable = true }) }, `{"defaults":{"cgroupWritable":true}}`},
		"cgroup over handler": {both(annotate("cgroup2-mount-hierarchy-rw.crio.io", "false"), func(r *row) { r.handler(func(h *Handler) { h.CgroupWritable = true }) }),
			`{}`},
		"unified":       {annotate("unified-cgroup.crio.io/c", "memory.high=1000; pids.max=7"), `{"resources":{"unified":{"memory.high":"1000","pids.max":"7"}}}`},
		"unified other": {annotate("unified-cgroup.crio.io/d", "memory.high=1"), `{}`},
		"unified old":   {annotate("io.kubernetes.cri-o.UnifiedCgroup.c", "pids.max=7"), `{"resources":{"unified":{"pids.max":"7"}}}`},
		"bad unified":   {annotate("unified-cgroup.crio.io", "x"), `KEY=VALUE`},
		"device":        {both(annotate("devices.crio.io", "/dev/fuse:/dev/x:r, "), func(r *row) { r.s.AllowedDevices = []string{"/dev/fuse"} }), `{"devices":[{"source":"/dev/fuse","target":"/dev/x","permissions":"r"}]}`},
		"other device":  {annotate("devices.crio.io", "/dev/fuse"), `cri.allowed_devices`},
		"bad device":    {annotate("devices.crio.io", "/etc/x"), `below /dev`},
		"owned": {func(r *row) {
			r.s.DeviceOwnership, r.o.Request.Devices = true, []spec.Device{{Source: "/dev/x"}}
			r.config.Linux.SecurityContext.RunAsUser = &v1.Int64Value{Value: 9}
		}, `{"devices":[{"source":"/dev/x","uid":9}]}`},
		"added device": {func(r *row) { r.s.AdditionalDevices = []spec.Device{{Source: "/dev/x"}} }, `{"devices":[{"source":"/dev/x"}]}`},
		"pids":         {func(r *row) { r.s.PidsLimit = 5 }, `{"resources":{"pids":{"limit":5}}}`},
		"no pids here": {func(r *row) { r.s.PidsLimit, r.h.Controllers = 5, []string{"cpu"} }, `{}`},
		"hugepages": {func(r *row) {
			r.h.Controllers, r.s.TolerateMissingHugetlb = []string{"cpu"}, true
			r.o.Request.Resources = &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}}}
		}, `{"resources":{}}`},
		"little memory": {func(r *row) {
			n := int64(1 << 20)
			r.handler(func(h *Handler) { h.MinMemory = 2 << 20 })
			r.o.Request.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &n}}
		}, `2097152`},
		"proc mount": {func(r *row) { none := []string{}; r.s.DisableProcMount, r.o.Request.MaskedPaths = true, &none }, `{}`},
		"selinux": {func(r *row) {
			r.s.HostNetworkDisableSELinux, r.pod.Network, r.o.Request.SELinuxOptions = true, engine.ModeNode, []string{"type:t"}
		}, `{"selinuxOptions":["disable"]}`},
		"privileged": {func(r *row) {
			r.config.Linux.SecurityContext.Privileged = true
			r.s.PrivilegedSeccomp, r.s.DisableProcMount, r.s.AdditionalDevices = "/p.json", true, []spec.Device{{Source: "/dev/x"}}
			r.handler(func(h *Handler) { h.PrivilegedWithoutHostDevices, h.PrivilegedAllDevicesAllowed = true, true })
		}, `{"privilegedWithoutHostDevices":true,"privilegedAllDevicesAllowed":true,"seccomp":"/p.json"}`},
		"default profile": {func(r *row) { r.o.Request.Seccomp, r.s.SeccompProfile = "default", "/p.json" }, `{"seccomp":"/p.json"}`},
		"handler's profile": {func(r *row) {
			r.s.UnsetSeccomp, r.s.SeccompProfile = "runtime/default", "/p.json"
			r.handler(func(h *Handler) { h.SeccompProfile = "/h.json" })
		}, `{"seccomp":"/h.json"}`},
		"unset profile": {func(r *row) { r.s.UnsetSeccomp = "/u.json" }, `{"seccomp":"/u.json"}`},
		"unconfined": {func(r *row) {
			r.s.UnsetSeccomp = "/u.json"
			r.config.Linux.SecurityContext.Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined}
		}, `{}`},
		"notifier":     {annotate("seccomp-notifier-action.crio.io", "stop"), `{},{"forbidden":"stop","log":{"driver":"cri"},"snapshotter":"","tuning":null}`},
		"bad notifier": {annotate("seccomp-notifier-action.crio.io", "x"), `log and stop`},
		"log": {func(r *row) { r.s.MaxLogLine, r.s.LogSizeMax = 9, 8192 },
			`{},{"forbidden":"","log":{"driver":"cri","max_size":8192,"max_files":1,"max_line":9},"snapshotter":"","tuning":null}`},
		"no log":      {func(r *row) { r.s.MaxLogLine, r.o.Log = 9, wire.Log{Driver: "none"} }, `{},{"forbidden":"","log":{"driver":"none"},"snapshotter":"","tuning":null}`},
		"snapshotter": {func(r *row) { r.handler(func(h *Handler) { h.Snapshotter = "native" }) }, `{},{"forbidden":"","log":{"driver":"cri"},"snapshotter":"native","tuning":null}`},
		"timezone":    {func(r *row) { r.s.Timezone = "Europe/Berlin" }, `{"mounts":[{"type":"bind","source":"/usr/share/zoneinfo/Europe/Berlin","target":"/etc/localtime","options":["bind","ro","rprivate","nosuid","nodev","noexec"]}]}`},
		"absent source": {func(r *row) {
			r.s.RejectAbsentSources, r.o.Request.Mounts = []string{"/x"}, []spec.Mount{{Source: "/x", CreateSource: true}}
		}, `{"mounts":[{"type":"","source":"/x","target":""}]}`},
		"read-only": {func(r *row) { r.s.ReadOnly = true }, `{"readOnly":true}`},
		"annotations": {func(r *row) {
			r.o.Request.Annotations = map[string]string{"keep.a": "1", "drop": "2"}
			r.handler(func(h *Handler) { h.ContainerAnnotations = []string{"keep.*"} })
		}, `{"annotations":{"keep.a":"1"}}`},
		"tuning": {both(pinned, annotate("cpu-c-states.crio.io", "disable"), annotate("irq-load-balancing.crio.io", "housekeeping")),
			`{"env":["OPENSHIFT_HOUSEKEEPING_CPUS=2"],"resources":{"cpu":{"cpus":"2-3"}}},{"forbidden":"","log":{"driver":"cri"},"snapshotter":"","tuning":{"cpus":"2-3","cStates":"disable","interrupts":"housekeeping"}}`},
		"tuning without processors": {annotate("cpu-c-states.crio.io", "disable"), `cpuset`},
		"quota": {both(pinned, annotate("cpu-quota.crio.io/c", "disable")),
			`{"resources":{"cpu":{"quota":-1,"cpus":"2-3"}}},{"forbidden":"","log":{"driver":"cri"},"snapshotter":"","tuning":{"cpus":"2-3","noQuota":true}}`},
		"bad quota": {both(pinned, annotate("cpu-quota.crio.io", "maybe")), `disable and enable`},
		"shared": {both(pinned, annotate("cpu-shared.crio.io/c", "enable"), func(r *row) {
			r.s.SharedCPUs = "0-1"
			r.handler(func(h *Handler) { h.ExecCPUAffinity = "first" })
		}), `{"env":["OPENSHIFT_ISOLATED_CPUS=2-3","OPENSHIFT_SHARED_CPUS=0-1"],"resources":{"cpu":{"cpus":"0-3"}},"cpuAffinity":{"initial":"0"}}`},
		"shared without any": {both(pinned, annotate("cpu-shared.crio.io/c", "enable")), `cri.shared_cpuset`},
		"affinity":           {both(pinned, func(r *row) { r.handler(func(h *Handler) { h.ExecCPUAffinity = "first" }) }), `{"resources":{"cpu":{"cpus":"2-3"}},"cpuAffinity":{"initial":"2"}}`},
	} {
		r := newRow()
		test.change(r)
		got, err := r.result(t)
		switch {
		case err == nil && got != test.want:
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		case err != nil && (strings.HasPrefix(test.want, "{") || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", name, err, test.want)
		case err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err):
			t.Errorf("%s: the error has no class: %v", name, err)
		}
	}
}

func TestWorkload(t *testing.T) {
	for name, test := range map[string]struct{ annotation, want string }{
		"the default": {"", `{"resources":{"cpu":{"shares":100,"cpus":"0"}}}`},
		"its own":     {`{"cpushares":5,"cpulimit":250}`, `{"resources":{"cpu":{"shares":5,"quota":25000,"cpus":"0"}}}`},
		"misspelt":    {`{"shares":5}`, `cpushares`},
		"absurd":      {`{"cpushares":1}`, `262144`},
	} {
		r := newRow()
		r.s.Workloads = map[string]Workload{"w": {Activation: "is.w", Prefix: "of.w", Resources: WorkloadResources{CPUShares: 100, CPUSet: "0"}}}
		r.sandbox.Annotations["is.w"] = ""
		if test.annotation != "" {
			r.sandbox.Annotations["of.w/c"] = test.annotation
		}
		got, err := r.result(t)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestGOMAXPROCS(t *testing.T) {
	shares, quota := uint64(3*1024), int64(1000)
	for name, test := range map[string]struct {
		change func(*row)
		want   string
	}{
		"of the request": {func(r *row) { r.o.Request.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}} }, "GOMAXPROCS=6"},
		"at least":       {func(*row) {}, "GOMAXPROCS=2"},
		"a limit":        {func(r *row) { r.o.Request.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota}} }, ""},
		"guaranteed":     {func(r *row) { r.pod.Cgroup = "/kubepods/pod1" }, ""},
		"not wanted":     {func(r *row) { r.sandbox.Annotations["skip-gomaxprocs.crio.io"] = "true" }, ""},
		"by default_env": {func(r *row) { r.s.Defaults.Env = []string{"GOMAXPROCS=9"} }, "GOMAXPROCS=9"},
	} {
		r := newRow()
		r.s.MinGOMAXPROCS, r.pod.Cgroup = 2, "/kubepods/burstable/pod1"
		test.change(r)
		if _, err := r.result(t); err != nil {
			t.Fatal(err)
		}
		got := ""
		if d := r.o.Request.Defaults; d != nil {
			got = strings.Join(d.Env, " ")
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestPod(t *testing.T) {
	s := Settings{
		Handlers: map[string]Handler{"": {AllowedAnnotations: everything()}}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "9"},
		UserRange: IDRange{First: 1000, Size: 1 << 20}, UnsetSeccomp: "runtime/default",
	}
	free := func(in IDRange, _ uint32) (uint32, error) { return in.First, nil }
	at := func(id uint32) string {
		data, _ := json.Marshal([]specs.LinuxIDMapping{{HostID: 1000, Size: 10}, {ContainerID: id, HostID: id, Size: 1}})
		return string(data)
	}
	for name, test := range map[string]struct {
		userns, shm string
		user        int64
		o           engine.PodOptions
		want        string // the maps, or a word of the error
	}{
		"nothing":    {want: "null"},
		"auto":       {userns: "auto", want: `[{"containerID":0,"hostID":1000,"size":65536}]`},
		"size":       {userns: "auto:size=10", want: `[{"containerID":0,"hostID":1000,"size":10}]`},
		"keep above": {userns: "keep-id:size=10", user: 500, want: at(500)},
		"keep": {userns: "auto:size=10;keep-id=true", user: 3,
			want: `[{"containerID":0,"hostID":1000,"size":3},{"containerID":3,"hostID":3,"size":1},{"containerID":4,"hostID":1004,"size":6}]`},
		"root":       {userns: "auto:size=10;map-to-root=true", user: 7, want: `[{"containerID":0,"hostID":7,"size":1},{"containerID":1,"hostID":1001,"size":9}]`},
		"private":    {userns: "private:uidmapping=0:5000:10,20:7000:1", want: `[{"containerID":0,"hostID":5000,"size":10},{"containerID":20,"hostID":7000,"size":1}]`},
		"no maps":    {userns: "private", want: "uidmapping"},
		"bad map":    {userns: "private:uidmapping=0:1", want: "CONTAINER:HOST:SIZE"},
		"whose":      {userns: "keep-id", want: "run_as_user"},
		"bad mode":   {userns: "some", want: "private"},
		"bad option": {userns: "auto:sise=1", want: "size"},
		"bad size":   {userns: "auto:size=x", want: "number"},
		"own maps":   {userns: "auto:uidmapping=0:1:1", want: "private"},
		"twice":      {userns: "auto", o: engine.PodOptions{UIDMap: []specs.LinuxIDMapping{{Size: 1}}}, want: "leave the annotation out"},
		"host":       {userns: "host", want: "null"},
		"shm":        {shm: "64x", want: "64Mi"},
	} {
		config := &v1.PodSandboxConfig{Annotations: map[string]string{}, Linux: &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{}}}
		if test.userns != "" {
			config.Annotations["userns-mode.crio.io"] = test.userns
		}
		if test.shm != "" {
			config.Annotations["shm-size.crio.io"] = test.shm
		}
		if test.user != 0 {
			config.Linux.SecurityContext.RunAsUser = &v1.Int64Value{Value: test.user}
		}
		o := test.o
		err := s.Pod(&o, config, free)
		data, _ := json.Marshal(o.UIDMap)
		if err == nil && string(data) != test.want || err != nil && (strings.HasPrefix(test.want, "[") || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %s, %v; want %s", name, data, err, test.want)
		}
	}
	for name, test := range map[string]struct {
		o    engine.PodOptions
		want map[string]string
	}{
		"its own namespaces": {engine.PodOptions{Network: engine.ModePod, IPC: engine.ModePod, Sysctls: map[string]string{"kernel.shmmax": "1"}}, map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "1"}},
		"the host's":         {engine.PodOptions{Network: engine.ModeNode, IPC: engine.ModeNode}, nil},
	} {
		if err := s.Pod(&test.o, &v1.PodSandboxConfig{}, free); err != nil || !maps.Equal(test.o.Sysctls, test.want) || test.o.Seccomp != "default" {
			t.Errorf("%s: %v, %q, %v", name, test.o.Sysctls, test.o.Seccomp, err)
		}
	}
	for text, want := range map[string]int64{"64Mi": 64 << 20, "64m": 64 << 20, "1g": 1 << 30, "512": 512, "10KB": 10 << 10, "": 0, "x": 0, "-1": 0, "9999999g": 0} {
		if got, err := bytesOf(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}

func FuzzUserNamespace(f *testing.F) {
	for _, s := range []string{"auto", "keep-id:size=10", "private:uidmapping=0:5000:10,20:7000:1;gidmapping=0:1:1", "host"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := Settings{UserRange: IDRange{First: 1000, Size: 1 << 20}}
		var o engine.PodOptions
		err := s.userNamespace(&o, &v1.LinuxSandboxSecurityContext{RunAsUser: &v1.Int64Value{Value: 7}}, text, func(in IDRange, _ uint32) (uint32, error) { return in.First, nil })
		if err == nil && (len(o.UIDMap) == 0) != (len(o.GIDMap) == 0) {
			t.Errorf("%q: %v %v", text, o.UIDMap, o.GIDMap)
		}
	})
}

// TestLogToJournald: what is logged goes to the journal too, unless nothing is.
func TestLogToJournald(t *testing.T) {
	for kind, want := range map[string]string{"cri": "journald", "none": ""} {
		r := newRow()
		r.s.LogToJournald, r.o.Log.Driver = true, kind
		if _, err := r.result(t); err != nil || r.o.Logging.Driver != want {
			t.Errorf("a log of driver %s: also to %q, %v", kind, r.o.Logging.Driver, err)
		}
	}
}
