package cri

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestPodLife(t *testing.T) {
	w := newWorld(t)
	id := w.pod(t, "web")
	if again := w.pod(t, "web"); again != id {
		t.Errorf("the same metadata made %s beside %s", again, id)
	}
	c := w.container(t, id, "c", true)
	st, err := w.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: id[:12], Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	s := st.Status
	if s.Id != id || s.State != v1.PodSandboxState_SANDBOX_READY || s.Network.Ip != "10.88.0.2" || len(s.Network.AdditionalIps) != 1 ||
		s.Network.AdditionalIps[0].Ip != "fd00::2" || s.Metadata.Uid != "u-web" || s.Annotations["note"] != "n" || s.CreatedAt == 0 {
		t.Errorf("status is %v", s)
	}
	if len(st.ContainersStatuses) != 1 || st.ContainersStatuses[0].Id != c || st.Timestamp < s.CreatedAt {
		t.Errorf("containers are %v at %d", st.ContainersStatuses, st.Timestamp)
	}
	var details struct{ Config *v1.PodSandboxConfig }
	if err := json.Unmarshal([]byte(st.Info["info"]), &details); err != nil || details.Config.GetMetadata().GetName() != "web" {
		t.Errorf("info is %s: %v", st.Info["info"], err)
	}
	for range 2 {
		if _, err := w.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Fatal(err)
		}
	}
	stopped, err := w.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil || stopped.Status.State != v1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("stopped: %v, %v", stopped, err)
	}
	_, err = w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: id, Config: containerConfigOf("late")})
	wants(t, err, codes.FailedPrecondition, "is stopped")
	for range 2 {
		if _, err := w.RemovePodSandbox(t.Context(), &v1.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: id})
	wants(t, err, codes.NotFound, "")
}

// wants checks an error's code, and that it says something.
func wants(t *testing.T, err error, code codes.Code, says string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
		t.Errorf("error is %v, want %s that says %q", err, code, says)
	}
}

func TestRunPodRefused(t *testing.T) {
	w := newWorld(t)
	_, err := w.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{Config: podConfigOf("x"), RuntimeHandler: "kata"})
	wants(t, err, codes.InvalidArgument, `"" (the default) and crun`)
	if _, err := w.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{Config: podConfigOf("x"), RuntimeHandler: "crun"}); err != nil {
		t.Error(err)
	}
	_, err = w.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{})
	wants(t, err, codes.InvalidArgument, "missing")
	_, err = w.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{})
	wants(t, err, codes.InvalidArgument, "id is empty")
}

func TestContainerLife(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	id := w.container(t, pod, "c", false)
	get := func() *v1.ContainerStatusResponse {
		t.Helper()
		r, err := w.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	imageID := w.names.names["docker.io/library/busybox:1"].String()
	s := get().Status
	if s.State != v1.ContainerState_CONTAINER_CREATED || s.StartedAt != 0 || s.FinishedAt != 0 || s.ImageId != imageID || s.ImageRef != imageID ||
		s.Metadata.Attempt != 2 || s.LogPath != "/var/log/pods/web/c/0.log" || s.StopSignal != v1.Signal_SIGNAL_SIGTERM || s.Annotations["note"] != "c" {
		t.Errorf("created: %v", s)
	}
	if u := s.User.Linux; u.Uid != 1000 || u.Gid != 2000 || !slices.Equal(u.SupplementalGroups, []int64{2000, 3000}) {
		t.Errorf("user: %v", u)
	}
	_, err := w.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
	wants(t, err, codes.FailedPrecondition, "must be running")
	if _, err := w.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = w.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: id})
	wants(t, err, codes.FailedPrecondition, "started once")
	if _, err := w.UpdateContainerResources(t.Context(), &v1.UpdateContainerResourcesRequest{ContainerId: id, Linux: &v1.LinuxContainerResources{CpuShares: 77}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateContainerResources(t.Context(), &v1.UpdateContainerResourcesRequest{ContainerId: id, Linux: &v1.LinuxContainerResources{}}); err != nil || len(w.engine.updates) != 1 {
		t.Errorf("an update that says nothing: %v, %d updates", err, len(w.engine.updates))
	}
	running := get()
	if s := running.Status; s.State != v1.ContainerState_CONTAINER_RUNNING || s.StartedAt == 0 || s.Resources.Linux.CpuShares != 77 {
		t.Errorf("running: %v", s)
	}
	var details map[string]any
	if err := json.Unmarshal([]byte(running.Info["info"]), &details); err != nil || details["sandboxID"] != pod || details["pid"] != 42.0 || details["runtimeSpec"] == nil {
		t.Errorf("info is %v: %v", details, err)
	}
	if _, err := w.ReopenContainerLog(t.Context(), &v1.ReopenContainerLogRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := w.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if s := get().Status; s.State != v1.ContainerState_CONTAINER_EXITED || s.ExitCode != 137 || s.FinishedAt == 0 || s.Reason != "Error" {
		t.Errorf("exited: %v", s)
	}
	_, err = w.ReopenContainerLog(t.Context(), &v1.ReopenContainerLogRequest{ContainerId: id})
	wants(t, err, codes.FailedPrecondition, "must be running")
	_, err = w.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: id, Timeout: -1})
	wants(t, err, codes.InvalidArgument, "negative")
	for range 2 {
		if _, err := w.RemoveContainer(t.Context(), &v1.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.StopContainer(t.Context(), &v1.StopContainerRequest{ContainerId: id}); err != nil {
		t.Errorf("stop what is gone: %v", err)
	}
}

func TestExitReasons(t *testing.T) {
	began := time.Now()
	for name, tc := range map[string]struct {
		c               engine.Container
		reason, message string
	}{
		"well":      {engine.Container{StartedAt: began, Exit: &wire.Exit{}}, "Completed", ""},
		"badly":     {engine.Container{StartedAt: began, Exit: &wire.Exit{Code: 1}}, "Error", ""},
		"oom":       {engine.Container{StartedAt: began, Exit: &wire.Exit{Code: 137, OOM: true, Reason: "oom"}}, "OOMKilled", ""},
		"lost":      {engine.Container{StartedAt: began, Exit: &wire.Exit{Code: 255, Reason: "lost"}}, "Unknown", "lost"},
		"not begun": {engine.Container{Exit: &wire.Exit{Code: 127, Reason: "no such program"}}, "StartError", "no such program"},
	} {
		if reason, message := exitReason(tc.c); reason != tc.reason || message != tc.message {
			t.Errorf("%s: %s %q", name, reason, message)
		}
	}
}

func TestStartFails(t *testing.T) {
	w := newWorld(t)
	id := w.container(t, w.pod(t, "web"), "c", false)
	w.engine.startError = errors.Join(errors.New("exec nosuch: not in $PATH"), errdefs.ErrNotFound)
	_, err := w.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: id})
	wants(t, err, codes.NotFound, "not in $PATH")
}

// TestHidden: what is being made or removed, and the holder of a PID namespace, are nobody's business.
func TestHidden(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	seen := w.container(t, pod, "seen", true)
	for _, change := range []func(*engine.Container){
		func(c *engine.Container) { c.State = engine.Creating },
		func(c *engine.Container) { c.State = engine.Removing },
		func(c *engine.Container) { c.Role = engine.RolePause },
	} {
		id := w.container(t, pod, "hidden", true)
		if err := w.engine.change(id, change); err != nil {
			t.Fatal(err)
		}
		_, err := w.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: id})
		wants(t, err, codes.NotFound, "")
		r, err := w.ListContainers(t.Context(), &v1.ListContainersRequest{})
		if err != nil || len(r.Containers) != 1 || r.Containers[0].Id != seen {
			t.Errorf("listed: %v, %v", r, err)
		}
		if _, err := w.engine.Delete(t.Context(), "", id, engine.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.engine.changePod(pod, func(p *engine.Pod) { p.State = engine.PodRemoving }); err != nil {
		t.Fatal(err)
	}
	if r, err := w.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{}); err != nil || len(r.Items) != 0 {
		t.Errorf("listed: %v, %v", r, err)
	}
	// What a removal has left is seen: else nobody would remove it again.
	err := errors.Join(
		w.engine.changePod(pod, func(p *engine.Pod) { p.Left = "the network is busy" }),
		w.engine.change(seen, func(c *engine.Container) { c.State, c.Left = engine.Removing, "the disk is broken" }),
	)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{}); err != nil || len(r.Items) != 1 || r.Items[0].State != v1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("listed: %v, %v", r, err)
	}
	if r, err := w.ListContainers(t.Context(), &v1.ListContainersRequest{}); err != nil || len(r.Containers) != 1 || r.Containers[0].State != v1.ContainerState_CONTAINER_UNKNOWN {
		t.Errorf("listed: %v, %v", r, err)
	}
}

func TestTarget(t *testing.T) {
	w := newWorld(t)
	pod, other := w.pod(t, "web"), w.pod(t, "other")
	in, out := w.container(t, pod, "in", true), w.container(t, other, "out", true)
	create := func(target string) (*v1.CreateContainerResponse, error) {
		c := containerConfigOf("debug")
		security(c).NamespaceOptions = &v1.NamespaceOption{Pid: v1.NamespaceMode_TARGET, TargetId: target}
		return w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: pod, Config: c})
	}
	_, err := create(out)
	wants(t, err, codes.InvalidArgument, "not of pod")
	_, err = create("nosuch")
	wants(t, err, codes.NotFound, "target of the pid namespace")
	made, err := create(in[:10])
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := w.engine.Get(t.Context(), "", made.ContainerId); c.Request.Namespaces["pid"] != "container:"+in {
		t.Errorf("namespaces are %v", c.Request.Namespaces)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	a, b := w.pod(t, "a"), w.pod(t, "b")
	ca, cb := w.container(t, a, "ca", true), w.container(t, b, "cb", false)
	for name, tc := range map[string]struct {
		filter *v1.ContainerFilter
		want   []string
	}{
		"none":   {nil, []string{ca, cb}},
		"prefix": {&v1.ContainerFilter{Id: ca[:8]}, []string{ca}},
		"no id":  {&v1.ContainerFilter{Id: "zz"}, nil},
		"state":  {&v1.ContainerFilter{State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_CREATED}}, []string{cb}},
		"pod":    {&v1.ContainerFilter{PodSandboxId: a[:8]}, []string{ca}},
		"label":  {&v1.ContainerFilter{LabelSelector: map[string]string{"app": "cb"}}, []string{cb}},
		"both":   {&v1.ContainerFilter{PodSandboxId: a, LabelSelector: map[string]string{"app": "cb"}}, nil},
	} {
		r, err := w.ListContainers(t.Context(), &v1.ListContainersRequest{Filter: tc.filter})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range r.Containers {
			got = append(got, c.Id)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		filter *v1.PodSandboxFilter
		want   int
	}{
		"none": {nil, 2}, "prefix": {&v1.PodSandboxFilter{Id: a[:8]}, 1}, "label": {&v1.PodSandboxFilter{LabelSelector: map[string]string{"app": "b"}}, 1},
		"state": {&v1.PodSandboxFilter{State: &v1.PodSandboxStateValue{State: v1.PodSandboxState_SANDBOX_NOTREADY}}, 0},
	} {
		if r, err := w.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{Filter: tc.filter}); err != nil || len(r.Items) != tc.want {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestUpdatePodAndURLs(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	c := w.container(t, pod, "c", true)
	_, err := w.UpdatePodSandboxResources(t.Context(), &v1.UpdatePodSandboxResourcesRequest{
		PodSandboxId: pod, Resources: &v1.LinuxContainerResources{CpuShares: 5}, Overhead: &v1.LinuxContainerResources{CpuShares: 6}})
	if p, _ := w.engine.Pod(t.Context(), "", pod); err != nil || *p.Resources.CPU.Shares != 5 || *p.Overhead.CPU.Shares != 6 {
		t.Errorf("%v, %v", p.Resources, err)
	}
	x, err := w.Exec(t.Context(), &v1.ExecRequest{ContainerId: c[:9], Cmd: []string{"sh"}, Stdout: true})
	if err != nil || x.Url != "http://x/exec/"+c {
		t.Errorf("%v, %v", x, err)
	}
	_, err = w.Exec(t.Context(), &v1.ExecRequest{ContainerId: c, Cmd: []string{"sh"}, Tty: true, Stderr: true})
	wants(t, err, codes.InvalidArgument, "terminal")
	_, err = w.Attach(t.Context(), &v1.AttachRequest{ContainerId: c})
	wants(t, err, codes.InvalidArgument, "no stream")
	if a, err := w.Attach(t.Context(), &v1.AttachRequest{ContainerId: c, Stdout: true}); err != nil || a.Url != "http://x/attach/"+c {
		t.Errorf("%v, %v", a, err)
	}
	if p, err := w.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: pod, Port: []int32{80}}); err != nil || p.Url != "http://x/portforward/"+pod {
		t.Errorf("%v, %v", p, err)
	}
	_, err = w.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: pod, Port: []int32{0}})
	wants(t, err, codes.InvalidArgument, "1 to 65535")
}

// TestUserIDs: pods get ids that neither another pod nor one on its way has.
func TestUserIDs(t *testing.T) {
	pod := func(first, size uint32) engine.Pod {
		return engine.Pod{PodOptions: engine.PodOptions{UIDMap: []specs.LinuxIDMapping{{HostID: first, Size: size}}}}
	}
	u := &userIDs{}
	in := policy.IDRange{First: 100, Size: 100}
	pods := []engine.Pod{pod(150, 10), pod(100, 5), pod(90, 12), pod(5000, 5000)}
	for _, want := range []uint32{105, 125, 160, 180} {
		if got, err := u.take(pods, in, 20); err != nil || got != want {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
	if _, err := u.take(pods, in, 20); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("none are left: %v", err)
	}
	u.giveBack([]uint32{125})
	if got, err := u.take(pods, in, 20); err != nil || got != 125 {
		t.Errorf("%d, %v; want those given back", got, err)
	}
}

// TestMetricGroups: every metric is of a group that can be chosen, or always there.
func TestMetricGroups(t *testing.T) {
	always := []string{"container_last_seen", "container_start_time_seconds"}
	all := slices.Concat(containerMetrics(), podMetrics())
	for _, m := range all {
		if g := groupOf(m.name); !slices.Contains(MetricGroups(), g) && !slices.Contains(always, m.name) {
			t.Errorf("%s is of the group %q", m.name, g)
		}
	}
	if n := len(included(slices.Clone(all), []string{"cpu", "all"})); n != len(all) {
		t.Errorf("all are %d of %d", n, len(all))
	}
	var names []string
	for _, m := range included(slices.Clone(all), []string{"disk"}) {
		names = append(names, m.name)
	}
	if want := []string{"container_fs_usage_bytes", "container_fs_inodes_used", "container_last_seen", "container_start_time_seconds"}; !slices.Equal(names, want) {
		t.Errorf("of the group disk: %v", names)
	}
}

// TestMemoryBelowUse: a limit below what a running container needs is refused, and what it does not need is not counted.
func TestMemoryBelowUse(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	id := w.container(t, pod, "c", true)
	w.engine.reading = fullReading()
	needs := int64(w.engine.reading.Memory.WorkingSet)
	update := func(limit int64) error {
		_, err := w.UpdateContainerResources(t.Context(), &v1.UpdateContainerResourcesRequest{ContainerId: id, Linux: &v1.LinuxContainerResources{MemoryLimitInBytes: limit}})
		return err
	}
	wants(t, update(needs-1), codes.FailedPrecondition, "needs now")
	if err := update(needs); err != nil {
		t.Error(err)
	}
}
