package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Crictl is upstream's crictl, which "make conformance-tools" builds. Tests that need it are skipped without it.
func Crictl(t testing.TB) string {
	t.Helper()
	path := filepath.Join(Repository(t), ".cache/conformance/crictl")
	if !executable(path) {
		t.Skip("needs upstream's crictl, which is not built (make conformance-tools)")
	}
	return path
}

// ContainerdProcess is Debian's containerd with its CRI switched on, and root, state, socket and pod network of its own.
type ContainerdProcess struct {
	Dir, Address, Endpoint string // Endpoint is the address with unix://
	Registry               *RegistryServer

	t       testing.TB
	process *exec.Cmd
}

// Containerd starts a containerd that pulls from a registry with the test images. Pods get addresses of 10.222.0.0/16. It
// ends with the test, with all of its pods; then nothing of it may be left.
func Containerd(t testing.TB) *ContainerdProcess {
	t.Helper()
	Root(t)
	Need(t, "containerd", "runc")
	if !executable("/usr/lib/cni/ptp") {
		t.Skip("needs the CNI plugins, which are not installed (make deps-test)")
	}
	registry := Registry(t, RegistryOptions{})
	Image(t, "pause")
	dir := Dir(t)
	c := &ContainerdProcess{Dir: dir, Address: filepath.Join(dir, "containerd.sock"), Registry: registry, t: t}
	c.Endpoint = "unix://" + c.Address
	before := look()
	if err := c.configure(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.process = exec.Command("containerd", "--config", filepath.Join(dir, "config.toml"))
	c.process.Stdout, c.process.Stderr = log, log
	c.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.end()
		before.compare(t, filepath.Base(dir))
	})
	Eventually(t, 30*time.Second, "containerd's CRI answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return c.call(func(r cri.RuntimeServiceClient) error {
			_, err := r.Version(ctx, &cri.VersionRequest{})
			return err
		}) == nil
	})
	return c
}

// Log is what containerd has written so far.
func (c *ContainerdProcess) Log() string {
	data, err := os.ReadFile(filepath.Join(c.Dir, "containerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (c *ContainerdProcess) configure() error {
	// Without CAP_SYS_RESOURCE, which a container of a test may lack, a lower OOM score is refused.
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
address = "%[1]s/containerd.sock"
[ttrpc]
address = "%[1]s/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "%[2]s/pause:latest"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "%[1]s/cni"
[plugins."io.containerd.internal.v1.opt"]
path = "%[1]s/opt"
`, c.Dir, c.Registry.Address)
	network := fmt.Sprintf(`{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipam":{"type":"host-local","dataDir":"%s/ipam","ranges":[[{"subnet":"10.222.0.0/16"}]]}}]}`, c.Dir)
	if err := os.MkdirAll(filepath.Join(c.Dir, "cni"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "cni", "10-pods.conflist"), []byte(network), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, "config.toml"), []byte(config), 0o644)
}

func (c *ContainerdProcess) call(do func(cri.RuntimeServiceClient) error) error {
	conn, err := grpc.NewClient("unix:"+c.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(cri.NewRuntimeServiceClient(conn))
}

// end removes all pods, ends containerd and unmounts what it leaves.
func (c *ContainerdProcess) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.call(func(r cri.RuntimeServiceClient) error { return removePods(ctx, r) }); err != nil {
		c.t.Errorf("remove the pods: %v", err)
	}
	if c.t.Failed() {
		c.t.Logf("log of containerd:\n%s", tail(c.Log(), 40))
	}
	_ = c.process.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = c.process.Wait()                          // its end is what is waited for, not how
	unmountBelow(c.Dir)
}

func removePods(ctx context.Context, r cri.RuntimeServiceClient) error {
	pods, err := r.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if _, err := r.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			return err
		}
		if _, err := r.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			return err
		}
	}
	return nil
}

func unmountBelow(dir string) {
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH) // what is left is reported
		}
	}
}
