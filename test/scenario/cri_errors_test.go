package scenario_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// declinedAny is declined with one of several codes.
func declinedAny(t *testing.T, what string, err error, any ...codes.Code) {
	t.Helper()
	if !slices.Contains(any, rpc.Code(err)) {
		t.Errorf("%s: error %v, want one of the codes %v", what, err, any)
	}
}

// TestCRIBadPods asks for pods that cannot be.
func TestCRIBadPods(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	type config = runtimeapi.PodSandboxConfig
	for _, test := range []struct {
		name   string
		change func(*config)
		word   string
	}{
		{"no metadata", func(c *config) { c.Metadata = nil }, "metadata"},
		{"no name", func(c *config) { c.Metadata.Name = "" }, "name"},
		{"a label of 1 MB", func(c *config) { c.Labels = map[string]string{"large": strings.Repeat("l", 1<<20)} }, "4096"},
		{"network of a container", func(c *config) {
			c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_CONTAINER
		}, "network"},
		{"IPC of a target", func(c *config) {
			c.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_TARGET
		}, "ipc"},
		{"a mode that is none", func(c *config) { c.Linux.SecurityContext.NamespaceOptions.Pid = 42 }, "42"},
		{"a sysctl of the host", func(c *config) { c.Linux.Sysctls = map[string]string{"kernel.panic": "1"} }, "kernel.panic"},
		{"a port that is none", func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 70000, HostPort: 12000}}
		}, "70000"},
		{"a host address that is none", func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 12000, HostIp: "1.2.3"}}
		}, "1.2.3"},
		{"a hostname that is none", func(c *config) { c.Hostname = strings.Repeat("h", 300) }, "hostname"},
		{"a relative log directory", func(c *config) { c.LogDirectory = "logs" }, "log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: s.PodConfig("bad", test.change)})
			declined(t, test.name, err, codes.InvalidArgument, test.word)
		})
	}
	_, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
	declined(t, "no configuration", err, codes.InvalidArgument)
	// An annotation of 1 MB is large, but nothing forbids it.
	large := s.RunPod("large", func(c *config) { c.Annotations = map[string]string{"large": strings.Repeat("a", 1_000_000)} })
	if n := len(s.PodStatus(large.ID).Annotations["large"]); n != 1_000_000 {
		t.Errorf("of an annotation of 1 MB, %d bytes came back", n)
	}
	large.Remove()
	nothingLeft(t, s)
}

func nothingLeft(t *testing.T, s *testenv.CRIServer) {
	t.Helper()
	pods, err := s.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	containers, err := s.Runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	check(t, err)
	if len(pods.Items)+len(containers.Containers) > 0 {
		t.Errorf("left: pods %v, containers %v", pods.Items, containers.Containers)
	}
}

// TestCRIBadContainers asks for containers that cannot be: refused when they are created, or at the latest when they are
// started.
func TestCRIBadContainers(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("bad")
	type config = runtimeapi.ContainerConfig
	for _, test := range []struct {
		name   string
		change func(*config)
		code   codes.Code
		word   string
	}{
		{"no metadata", func(c *config) { c.Metadata = nil }, codes.InvalidArgument, "metadata"},
		{"no image", func(c *config) { c.Image = nil }, codes.InvalidArgument, "image"},
		{"an image that is not there", func(c *config) { c.Image.Image = "registry.k8s.io/ghost:1" }, codes.NotFound, "ghost"},
		{"a group without a user", func(c *config) {
			c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1}
		}, codes.InvalidArgument, "group"},
		{"a user that is not there", func(c *config) { c.Linux.SecurityContext.RunAsUsername = "ghost" }, codes.NotFound, "ghost"},
		{"a mount without a target", func(c *config) { c.Mounts = []*runtimeapi.Mount{{HostPath: "/tmp"}} }, codes.InvalidArgument, "mount"},
		{"a mount of nothing", func(c *config) { c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/x"}} }, codes.InvalidArgument, "/x"},
		{"two sources of a mount", func(c *config) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: "/tmp", Image: &runtimeapi.ImageSpec{Image: testenv.SuiteBusybox}, ContainerPath: "/x"}}
		}, codes.InvalidArgument, "/x"},
		{"read-only below, and writable", func(c *config) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: "/tmp", ContainerPath: "/x", RecursiveReadOnly: true}}
		}, codes.InvalidArgument, "read-only"},
		{"a device that is not there", func(c *config) {
			c.Devices = []*runtimeapi.Device{{HostPath: "/dev/ghost", ContainerPath: "/dev/ghost", Permissions: "rw"}}
		}, codes.NotFound, "/dev/ghost"},
		{"a capability that is none", func(c *config) {
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"GHOST"}}
		}, codes.InvalidArgument, "GHOST"},
		{"a negative memory limit", func(c *config) { c.Linux.Resources.MemoryLimitInBytes = -5 }, codes.InvalidArgument, "memory"},
		{"a memory limit of a byte", func(c *config) { c.Linux.Resources.MemoryLimitInBytes = 1 }, codes.InvalidArgument, "memory"},
		{"a CPU set that is none", func(c *config) { c.Linux.Resources.CpusetCpus = "9999" }, codes.InvalidArgument, "9999"},
		{"a seccomp profile that is not there", func(c *config) {
			c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}
		}, codes.NotFound, "/no/such/profile.json"},
		{"a target that is not there", func(c *config) {
			c.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: "ghost"}
		}, codes.NotFound, "ghost"},
		{"a log path out of the directory", func(c *config) { c.LogPath = "../../escape.log" }, codes.InvalidArgument, "log"},
		{"a CDI device that is not there", func(c *config) {
			c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "tests.example/ghost=0"}}
		}, codes.NotFound, "tests.example/ghost=0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testenv.ContainerConfig("bad", testenv.SuiteBusybox, "sleep", "600")
			test.change(c)
			answer, err := s.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: c, SandboxConfig: pod.Config})
			if err == nil {
				_, err = s.Runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: answer.ContainerId})
				_, removeErr := s.Runtime.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: answer.ContainerId})
				check(t, removeErr)
			}
			declined(t, test.name, err, test.code, test.word)
		})
	}
	pod.Remove()
	nothingLeft(t, s)
}

// TestCRIUnknownIDs uses ids of nothing with every call that takes one.
func TestCRIUnknownIDs(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	ctx, r, ghost := t.Context(), s.Runtime, "0123456789abcdef"
	for name, call := range map[string]func() error{
		"PodSandboxStatus": func() error {
			_, err := r.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: ghost})
			return err
		},
		"PodSandboxStats": func() error {
			_, err := r.PodSandboxStats(ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: ghost})
			return err
		},
		"ContainerStatus": func() error {
			_, err := r.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: ghost})
			return err
		},
		"ContainerStats": func() error {
			_, err := r.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: ghost})
			return err
		},
		"CreateContainer": func() error {
			_, err := r.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
				PodSandboxId: ghost, Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "true"), SandboxConfig: s.PodConfig("ghost"),
			})
			return err
		},
		"StartContainer": func() error {
			_, err := r.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: ghost})
			return err
		},
		"ExecSync": func() error {
			_, err := r.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: ghost, Cmd: []string{"true"}})
			return err
		},
		"Exec": func() error {
			_, err := r.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: ghost, Cmd: []string{"true"}, Stdout: true})
			return err
		},
		"Attach": func() error {
			_, err := r.Attach(ctx, &runtimeapi.AttachRequest{ContainerId: ghost, Stdout: true})
			return err
		},
		"PortForward": func() error {
			_, err := r.PortForward(ctx, &runtimeapi.PortForwardRequest{PodSandboxId: ghost, Port: []int32{80}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { declined(t, name, call(), codes.NotFound, ghost) })
	}
}

// TestCRIWrongStates uses containers that are not in the state that a call wants.
func TestCRIWrongStates(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	ctx := t.Context()
	pod := s.RunPod("states")
	created := pod.Create(testenv.ContainerConfig("created", testenv.SuiteBusybox, "sleep", "600"))
	exited := pod.Run("exited", "true")
	s.WaitExit(exited)
	for name, id := range map[string]string{"created": created, "exited": exited} {
		_, err := s.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
		declined(t, "ExecSync in one that is "+name, err, codes.FailedPrecondition, name)
		_, err = s.Runtime.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Stdout: true})
		declined(t, "Exec in one that is "+name, err, codes.FailedPrecondition, name)
	}
	_, err := s.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: exited})
	declined(t, "a second start", err, codes.FailedPrecondition, "exited")
	_, err = s.Runtime.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: created, Cmd: []string{"true"}, Tty: true, Stderr: true})
	declined(t, "a terminal with a stderr of its own", err, codes.InvalidArgument, "stderr")
	missing := pod.Create(testenv.ContainerConfig("missing", testenv.SuiteBusybox, "/no/such/program"))
	if _, err = s.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: missing}); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("the start of a program that is not there: %v", err)
	}
	if st := s.Status(missing); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode == 0 || st.Message == "" {
		t.Errorf("a container that could not start is %s, exit code %d, message %q", st.State, st.ExitCode, st.Message)
	}
	_, err = s.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.ID})
	check(t, err)
	_, err = s.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: pod.ID, Config: testenv.ContainerConfig("late", testenv.SuiteBusybox, "true"), SandboxConfig: pod.Config,
	})
	declined(t, "a container in a stopped pod", err, codes.FailedPrecondition, pod.ID, "ready")
}
