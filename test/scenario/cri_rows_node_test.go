package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestCRIRowsNode: what the owner of a node can ask a daemon, and what it notes of its own end: stacks, the configuration in
// force, a wipe after a reboot, and a check after the machine went down under it.
func TestCRIRowsNode(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: "[cri]\npids_limit = 77\n"})
	s.RunPod("left").Run("main", "sleep", "600")
	if text := s.Daemon.Minictr("info", "--config"); !strings.Contains(text, "pids_limit = 77") {
		t.Errorf("the configuration in force: %.300s", text)
	}
	reload(t, s, "pids_limit = 77", "pids_limit = 78")
	if text := s.Daemon.Minictr("info", "--config"); !strings.Contains(text, "pids_limit = 78") {
		t.Errorf("the configuration in force after a reload: %.300s", text)
	}
	check(t, syscall.Kill(s.Daemon.PID(), syscall.SIGUSR1))
	testenv.Eventually(t, 10*time.Second, "the stacks are written", func() bool {
		files, err := filepath.Glob(filepath.Join(s.Daemon.State, "stacks-*.txt"))
		check(t, err)
		for _, f := range files {
			data, err := os.ReadFile(f)
			check(t, err)
			if strings.Contains(string(data), "goroutine") {
				return true
			}
		}
		return false
	})

	mark := filepath.Join(s.Daemon.Root, "last-run.json")
	marked := func() string {
		data, err := os.ReadFile(mark)
		check(t, err)
		return string(data)
	}
	wipe := func(args ...string) string {
		t.Helper()
		return testenv.Run(t, testenv.Binary(t, "minid"), append([]string{"--config", s.Daemon.Config, "wipe"}, args...)...)
	}
	rebooted := func(clean string) {
		check(t, os.WriteFile(mark, []byte(`{"version":"v0","boot":"another","clean":`+clean+`}`), 0o644))
	}
	if !strings.Contains(marked(), `"clean":false`) {
		t.Errorf("while it runs: %s", marked())
	}
	s.Daemon.Stop()
	if !strings.Contains(marked(), `"clean":true`) {
		t.Errorf("after an end in order: %s", marked())
	}
	if got := wipe(); !strings.Contains(got, "nothing wiped") {
		t.Errorf("without a reboot: %s", got)
	}
	rebooted("true")
	if got := wipe("--images"); !strings.Contains(got, "wiped: 1 pods") || !strings.Contains(got, " 1 images") {
		t.Errorf("after a reboot: %s", got)
	}
	s.Daemon.Start()
	pods, err := s.Runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	images, err := s.Images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	check(t, err)
	if len(pods.Items) != 0 || len(images.Images) != 0 {
		t.Errorf("left: %v %v", pods.Items, images.Images)
	}
	s.Daemon.Kill9()
	s.Daemon.Start()
	if strings.Contains(s.Daemon.Log(), "power cut") {
		t.Error("a daemon that was killed is taken for a power cut")
	}
	s.Daemon.Kill9()
	rebooted("false")
	s.Daemon.Start()
	testenv.Eventually(t, 20*time.Second, "the records are checked", func() bool {
		return strings.Contains(s.Daemon.Log(), "checked after a power cut")
	})
}

// TestCRIRowsNetworks: the pods of a runtime handler have networks of their own, also when they go after its daemon was killed,
// and when the handler's directory comes with a reload.
func TestCRIRowsNetworks(t *testing.T) {
	testenv.Network(t)
	own, later := testenv.CNI(t, testenv.CNIBridge(t, 71)), testenv.CNI(t, testenv.CNIBridge(t, 72))
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", InNetwork: true, Config: "[runtimes.apart]\ninherit_default_runtime = true\ncni_conf_dir = \"" + own + "\"\n# more\n"})
	address := func(handler string) (string, *testenv.CRIPod) {
		t.Helper()
		pod, err := handled(t, s, handler, nil)
		check(t, err)
		return s.PodStatus(pod.ID).GetNetwork().GetIp(), pod
	}
	ip, pod := address("apart")
	if !strings.HasPrefix(ip, "10.71.") {
		t.Errorf("a pod of the handler has the address %s", ip)
	}
	if ip, _ := address(""); strings.HasPrefix(ip, "10.71.") || ip == "" {
		t.Errorf("a pod of the default handler has the address %s", ip)
	}
	s.Daemon.Kill9()
	s.Daemon.Start()
	pod.Remove()
	reload(t, s, "# more", "[runtimes.later]\ninherit_default_runtime = true\ncni_conf_dir = \""+later+"\"\n")
	ip, pod = address("later")
	if !strings.HasPrefix(ip, "10.72.") {
		t.Errorf("a pod of the handler that came with the reload has the address %s", ip)
	}
	pod.Remove()
	if links := testenv.Run(t, "ip", "-o", "link", "show", "type", "veth"); strings.Contains(links, "mini-t-cni") {
		t.Errorf("left: %s", links)
	}
}
