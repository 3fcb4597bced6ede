package scenario_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// declined checks that an error is of a class, and that its text has every word that a reader needs.
func declined(t *testing.T, what string, err error, code codes.Code, words ...string) {
	t.Helper()
	if rpc.Code(err) != code {
		t.Errorf("%s: error %v, want the code %s", what, err, code)
		return
	}
	text := rpc.Convert(err).Message()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s: the error does not say %q: %s", what, word, text)
		}
	}
	if strings.Contains(text, "failed to") || len(text) > 1000 {
		t.Errorf("%s: the error is not one that helps: %.300s", what, text)
	}
}

// TestCRIRuntimeStatus reads the conditions, the features, and the details that verbose adds, each of which is JSON.
func TestCRIRuntimeStatus(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	answer, err := s.Runtime.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
	check(t, err)
	ready := map[string]bool{}
	for _, c := range answer.Status.Conditions {
		ready[c.Type] = c.Status
	}
	if !ready["RuntimeReady"] || !ready["NetworkReady"] {
		t.Errorf("conditions %v", answer.Status.Conditions)
	}
	if len(answer.Info) == 0 {
		t.Error("verbose adds nothing")
	}
	for key, value := range answer.Info {
		if !json.Valid([]byte(value)) && strings.HasPrefix(value, "{") {
			t.Errorf("info %s is no JSON: %.200s", key, value)
		}
	}
	if f := answer.Features; !f.GetSupplementalGroupsPolicy() {
		t.Errorf("features %v", f)
	}
	handlers := map[string]*runtimeapi.RuntimeHandlerFeatures{}
	for _, h := range answer.RuntimeHandlers {
		handlers[h.Name] = h.Features
	}
	if h := handlers[""]; !h.GetRecursiveReadOnlyMounts() || !h.GetUserNamespaces() {
		t.Errorf("features of the default handler: %v, of %v", h, answer.RuntimeHandlers)
	}
	plain, err := s.Runtime.Status(t.Context(), &runtimeapi.StatusRequest{})
	check(t, err)
	if len(plain.Info) != 0 {
		t.Errorf("without verbose there is info: %v", plain.Info)
	}
}

// TestCRIHostNetwork runs a pod that has no network of its own.
func TestCRIHostNetwork(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("host", testenv.HostNetwork)
	if ip := s.PodStatus(pod.ID).GetNetwork().GetIp(); ip != "" {
		t.Errorf("a pod with the host's network has the address %s", ip)
	}
	id := pod.Run("main", "sleep", "600")
	testenv.Run(t, "ip", "link", "add", "mini-t-host", "type", "veth", "peer", "name", "mini-t-peer")
	if links := s.Exec(id, "ip", "-o", "link"); !strings.Contains(links, "mini-t-host") {
		t.Errorf("links %q", links)
	}
}

// TestCRIRuntimeConfig asks for the cgroup driver, which the kubelet takes over.
func TestCRIRuntimeConfig(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{Config: "[cgroup]\ndriver = \"cgroupfs\"\n"})
	answer, err := s.Runtime.RuntimeConfig(t.Context(), &runtimeapi.RuntimeConfigRequest{})
	check(t, err)
	if got := answer.GetLinux().GetCgroupDriver(); got != runtimeapi.CgroupDriver_CGROUPFS {
		t.Errorf("the driver is %s", got)
	}
}

// TestCRIUpdateRuntimeConfig gives pods another subnet.
func TestCRIUpdateRuntimeConfig(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	update := func(cidr string) error {
		_, err := s.Runtime.UpdateRuntimeConfig(t.Context(), &runtimeapi.UpdateRuntimeConfigRequest{
			RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: cidr}},
		})
		return err
	}
	before := s.RunPod("before")
	check(t, update("10.77.3.0/24"))
	after := s.RunPod("after")
	if ip := s.PodStatus(after.ID).GetNetwork().GetIp(); !strings.HasPrefix(ip, "10.77.3.") {
		t.Errorf("a pod of 10.77.3.0/24 has the address %s", ip)
	}
	first, second := before.Run("main", "sleep", "600"), after.Run("main", "sleep", "600")
	s.Exec(first, "ping", "-c", "1", "-W", "2", s.PodStatus(after.ID).Network.Ip)
	s.Exec(second, "ping", "-c", "1", "-W", "2", s.PodStatus(before.ID).Network.Ip)
	check(t, update("")) // nothing to say
	declined(t, "no subnet", update("10.77.3"), codes.InvalidArgument, "10.77.3")
	if s.Daemon != nil {
		s.Daemon.Restart()
		again := s.RunPod("again")
		if ip := s.PodStatus(again.ID).GetNetwork().GetIp(); !strings.HasPrefix(ip, "10.77.3.") {
			t.Errorf("after a restart a pod has the address %s", ip)
		}
	}
}

// TestCRIRuntimeHandlers runs pods by the built-in runtime, by runc and by crun, as the configuration names them.
func TestCRIRuntimeHandlers(t *testing.T) {
	testenv.Need(t, "runc", "crun")
	s := testenv.StartCRI(t, testenv.CRIOptions{Config: "[runtimes.runc]\npath = \"/usr/bin/runc\"\n[runtimes.crun]\npath = \"/usr/bin/crun\"\n"})
	run := func(handler string) (*testenv.CRIPod, error) {
		config := s.PodConfig("handler-" + handler)
		answer, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
		return &testenv.CRIPod{ID: answer.GetPodSandboxId(), Config: config, CRI: s.CRI}, err
	}
	for _, handler := range []string{"", "runc"} {
		pod, err := run(handler)
		check(t, err)
		if got := s.PodStatus(pod.ID).RuntimeHandler; got != handler {
			t.Errorf("the status says the handler is %q, not %q", got, handler)
		}
		id := pod.Run("main", "sh", "-c", "echo out; sleep 600")
		if out := s.Exec(id, "cat", "/proc/1/comm"); out != "sh\n" && out != "sleep\n" {
			t.Errorf("handler %q: exec gave %q", handler, out)
		}
		pod.Remove()
	}
	_, err := run("no-such-handler")
	declined(t, "an unknown handler", err, codes.InvalidArgument, "no-such-handler")
	withCrun(t, s, run)
	list, err := s.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	if len(list.Items) != 0 {
		t.Errorf("left: %v", list.Items)
	}
}

// withCrun runs a container by crun. Where both versions of cgroups are mounted, Debian's 1.8 refuses, and says so.
func withCrun(t *testing.T, s *testenv.CRIServer, run func(string) (*testenv.CRIPod, error)) {
	t.Helper()
	pod, err := run("crun")
	check(t, err)
	defer pod.Remove()
	answer, err := s.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: pod.ID, Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600"), SandboxConfig: pod.Config,
	})
	if err == nil {
		_, err = s.Runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: answer.ContainerId})
	}
	if err == nil {
		s.Exec(answer.ContainerId, "true")
		return
	}
	if text := rpc.Convert(err).Message(); !strings.Contains(text, "crun") || !strings.Contains(text, "cgroup") {
		t.Errorf("crun refuses, and the error does not say why: %s", text)
	}
}

// TestCRIMaskedPaths is the suite's spec of the same name with programs that are files of their own.
func TestCRIMaskedPaths(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("masked")
	config := testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600")
	config.Linux.SecurityContext.MaskedPaths = []string{"/usr/bin/pgrep", "/etc/passwd", "/home", "/no/such/path"}
	config.Linux.SecurityContext.ReadonlyPaths = []string{"/var", "/no/such/path"}
	id := pod.Create(config)
	s.Start(id)
	for _, test := range []struct {
		script, stderr string
		code           int32
	}{
		{"/usr/bin/pgrep sleep", "/usr/bin/pgrep: Permission denied", 126},
		{"test ! -s /etc/passwd", "", 0},
		{"test -z \"$(ls -A /home)\"", "", 0},
		{"touch /home/file", "Read-only file system", 1},
		{"touch /var/file", "Read-only file system", 1},
		{"touch /tmp/file", "", 0},
	} {
		answer, err := s.Runtime.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", test.script}, Timeout: 10})
		check(t, err)
		if answer.ExitCode != test.code || !strings.Contains(string(answer.Stderr), test.stderr) {
			t.Errorf("%s: exit code %d, %q", test.script, answer.ExitCode, answer.Stderr)
		}
	}
}
