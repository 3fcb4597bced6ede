package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// criMessageSize is what the kubelet's client takes (cri-client, maxMsgSize).
const criMessageSize = 16 << 20

// CRI is a client of a runtime for a test, with short ways for what nearly every test does. What fails ends the test;
// where a call is to fail, use Runtime and Images.
type CRI struct {
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
	Socket  string
	Logs    string // pods' log directories are below
	Parent  string // the pods' cgroup_parent

	t     testing.TB
	count *atomic.Int64
}

// DialCRI connects to a runtime's socket.
func DialCRI(t testing.TB, socket string, options ...grpc.DialOption) *CRI {
	t.Helper()
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(criMessageSize)),
	}, options...)
	conn, err := grpc.NewClient("unix://"+socket, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &CRI{
		Runtime: runtimeapi.NewRuntimeServiceClient(conn), Images: runtimeapi.NewImageServiceClient(conn),
		Socket: socket, Logs: filepath.Join(Dir(t), "pods"), t: t, count: &atomic.Int64{},
	}
}

// In is the client for a part of the test, which then fails in place of the whole.
func (c *CRI) In(t testing.TB) *CRI {
	part := *c
	part.t = t
	return &part
}

// PodConfig is the configuration of a pod of that name, unlike that of every other call.
func (c *CRI) PodConfig(name string, changes ...func(*runtimeapi.PodSandboxConfig)) *runtimeapi.PodSandboxConfig {
	n := c.count.Add(1)
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "tests", Uid: fmt.Sprintf("uid-%s-%d", name, n)},
		Hostname:     name,
		LogDirectory: filepath.Join(c.Logs, fmt.Sprintf("%s-%d", name, n)),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    c.Parent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}},
		},
	}
	// The kubelet shares processes only when a pod asks for it.
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_CONTAINER
	for _, change := range changes {
		change(config)
	}
	return config
}

// HostNetwork is a change of a pod's configuration.
func HostNetwork(config *runtimeapi.PodSandboxConfig) {
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	config.Hostname = ""
}

// ContainerConfig is the configuration of a container that runs a command in an image, with a log.
func ContainerConfig(name, image string, command ...string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: image},
		Command: command, LogPath: name + ".log",
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: &runtimeapi.LinuxContainerResources{},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// CRIPod is a pod of the test.
type CRIPod struct {
	ID     string
	Config *runtimeapi.PodSandboxConfig
	CRI    *CRI
}

// RunPod runs a pod.
func (c *CRI) RunPod(name string, changes ...func(*runtimeapi.PodSandboxConfig)) *CRIPod {
	c.t.Helper()
	config := c.PodConfig(name, changes...)
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.Runtime.RunPodSandbox(c.t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		c.t.Fatalf("run pod %s: %v", name, err)
	}
	return &CRIPod{ID: answer.PodSandboxId, Config: config, CRI: c}
}

// Create creates a container in the pod.
func (p *CRIPod) Create(config *runtimeapi.ContainerConfig) string {
	p.CRI.t.Helper()
	answer, err := p.CRI.Runtime.CreateContainer(p.CRI.t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.ID, Config: config, SandboxConfig: p.Config,
	})
	if err != nil {
		p.CRI.t.Fatalf("create container %s in pod %s: %v", config.Metadata.GetName(), p.Config.Metadata.Name, err)
	}
	return answer.ContainerId
}

// Run creates and starts a container that runs a command in the suite's busybox.
func (p *CRIPod) Run(name string, command ...string) string {
	p.CRI.t.Helper()
	id := p.Create(ContainerConfig(name, SuiteBusybox, command...))
	p.CRI.Start(id)
	return id
}

// Log is what the log of the pod's container of that name has.
func (p *CRIPod) Log(name string) string {
	p.CRI.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.Config.LogDirectory, name+".log"))
	if err != nil {
		p.CRI.t.Fatal(err)
	}
	return string(data)
}

// Remove stops the pod, without time for its processes, and removes it.
func (p *CRIPod) Remove() {
	p.CRI.t.Helper()
	if err := p.CRI.RemovePod(p.CRI.t.Context(), p.ID); err != nil {
		p.CRI.t.Fatal(err)
	}
}

// RemovePod stops and removes a pod.
func (c *CRI) RemovePod(ctx context.Context, id string) error {
	if _, err := c.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("stop pod %s: %w", id, err)
	}
	if _, err := c.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("remove pod %s: %w", id, err)
	}
	return nil
}

// Start starts a container.
func (c *CRI) Start(id string) {
	c.t.Helper()
	if _, err := c.Runtime.StartContainer(c.t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		c.t.Fatalf("start container %s: %v", id, err)
	}
}

// Exec runs a command in a container and returns its standard output; it must exit with 0.
func (c *CRI) Exec(id string, command ...string) string {
	c.t.Helper()
	answer, err := c.Runtime.ExecSync(c.t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: 30})
	if err != nil {
		c.t.Fatalf("exec %q: %v", command, err)
	}
	if answer.ExitCode != 0 {
		c.t.Fatalf("exec %q: exit code %d: %s%s", command, answer.ExitCode, answer.Stdout, answer.Stderr)
	}
	return string(answer.Stdout)
}

// Status is a container's.
func (c *CRI) Status(id string) *runtimeapi.ContainerStatus {
	c.t.Helper()
	answer, err := c.Runtime.ContainerStatus(c.t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		c.t.Fatalf("status of container %s: %v", id, err)
	}
	return answer.Status
}

// WaitExit waits until a container has exited, and returns its status.
func (c *CRI) WaitExit(id string) *runtimeapi.ContainerStatus {
	c.t.Helper()
	Eventually(c.t, 10*time.Second, "container "+id+" has exited", func() bool {
		return c.Status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return c.Status(id)
}

// PodStatus is a pod's.
func (c *CRI) PodStatus(id string) *runtimeapi.PodSandboxStatus {
	c.t.Helper()
	answer, err := c.Runtime.PodSandboxStatus(c.t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		c.t.Fatalf("status of pod %s: %v", id, err)
	}
	return answer.Status
}

// Pull pulls an image and returns its reference.
func (c *CRI) Pull(image string) string {
	c.t.Helper()
	answer, err := c.Images.PullImage(c.t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		c.t.Fatalf("pull %s: %v", image, err)
	}
	return answer.ImageRef
}

// RemoveAll removes every pod, as at the end of a test.
func (c *CRI) RemoveAll() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		c.t.Errorf("list the pods that are left: %v", err)
		return
	}
	for _, pod := range list.Items {
		if err := c.RemovePod(ctx, pod.Id); err != nil {
			c.t.Error(err)
		}
	}
}
