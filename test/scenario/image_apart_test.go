package scenario_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/internal/testenv"
)

// gate holds large blobs back while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{open: make(chan struct{})}
	t.Cleanup(func() { g.set(true) })
	return g
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open {
		select {
		case <-g.open:
		default:
			close(g.open)
		}
		return
	}
	g.open = make(chan struct{})
}

func (g *gate) pass(_ string, _ int, body io.ReadCloser) io.ReadCloser {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &held{body, 16 << 10, g.open}
}

// held is a body of which the first bytes come, and the others when the channel is closed: configurations are all there.
type held struct {
	io.ReadCloser
	left int
	open <-chan struct{}
}

func (h *held) Read(p []byte) (int, error) {
	if h.left > 0 {
		n, err := h.ReadCloser.Read(p[:min(len(p), h.left)])
		h.left -= n
		return n, err
	}
	<-h.open
	return h.ReadCloser.Read(p)
}

// TestPullApart pulls for a kubelet in another cgroup than the daemon's, through what can go wrong with the process there.
func TestPullApart(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{})
	gate := newGate(t)
	slow := newProxy(t, r, gate.pass)
	group := "mini-test-" + id.New()[:12]
	t.Cleanup(func() { cgroup.RemoveEmpty(group) })
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[registry]\nconfig_path = %q\n[image]\nseparate_pull_cgroup = \"/%s/pulls\"\n",
		hostsDir(t, "apart.example", slow.URL), group)})
	pull := func(image, parent string) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := testenv.DialCRI(t, d.Address).Images.PullImage(ctx, &runtimeapi.PullImageRequest{
			Image:         &runtimeapi.ImageSpec{Image: "apart.example/" + image + ":latest"},
			SandboxConfig: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}, Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: parent}},
		})
		return err
	}
	pulled := make(chan error, 1)
	begin := func(image, parent, where string) {
		t.Helper()
		go func() { pulled <- pull(image, parent) }()
		testenv.Eventually(t, 20*time.Second, "a process in "+where, func() bool { return testenv.ProcessesIn(where+"/minid-pull-") == 1 })
	}
	left := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(d.Root, "pulls/*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			groups, err := filepath.Glob(filepath.Join(root, group, "*/minid-pull-*"))
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, groups...)
		}
		return names
	}

	begin("busybox", "", "/"+group+"/pulls")
	gate.set(true)
	if err := <-pulled; err != nil {
		t.Fatal(err)
	}
	if out := d.Minictr("-n", "k8s.io", "run", "--rm", "apart.example/busybox:latest", "one", "echo", "it runs"); out != "it runs\n" {
		t.Errorf("it says %q", out)
	}
	if err := pull("whiteouts", ""); err != nil {
		t.Error(err)
	}
	if err := pull("layers30", ""); err != nil {
		t.Error(err)
	}
	gets, _ := slow.requests()
	for blob, n := range gets {
		if n > 1 {
			t.Errorf("blob %s was fetched %d times", blob, n)
		}
	}
	d.Minictr("check")
	if names := left(); len(names) > 0 {
		t.Errorf("left: %s", names)
	}

	gate.set(false)
	begin("nginx", "", "/"+group+"/pulls")
	d.Kill9()
	testenv.Eventually(t, 10*time.Second, "the process ends with the daemon", func() bool { return testenv.ProcessesIn("/"+group+"/") == 0 })
	gate.set(true)
	if err := <-pulled; err == nil {
		t.Error("a pull of a daemon that was killed")
	}
	d.Start()
	if names := left(); len(names) > 0 {
		t.Errorf("left: %s", names)
	}

	t.Run("limit", func(t *testing.T) {
		limit := filepath.Join("/sys/fs/cgroup/memory", group, "pulls/memory.limit_in_bytes")
		if _, err := os.Stat(limit); err != nil {
			t.Skip("the memory of cgroups v1 is needed: ", err)
		}
		check(t, os.WriteFile(limit, []byte("1048576"), 0))
		if err := pull("redis", ""); grpcstatus.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "/"+group+"/pulls") {
			t.Errorf("with 1 MiB: %v", err)
		}
		check(t, os.WriteFile(limit, []byte("-1"), 0))
	})

	d.Stop()
	config, err := os.ReadFile(d.Config)
	check(t, err)
	check(t, os.WriteFile(d.Config, []byte(strings.Replace(string(config), "/"+group+"/pulls", "pod", 1)), 0o644))
	d.Start()
	gate.set(false)
	begin("nginx", "/"+group+"/pod", "/"+group+"/pod")
	d.Kill9()
	d.Start() // and ends those that the one before has left
	if names := left(); len(names) > 0 {
		t.Errorf("left of a pod's pull: %s", names)
	}
	gate.set(true)
	<-pulled
	gate.set(false)
	begin("redis", "/"+group+"/pod", "/"+group+"/pod")
	gate.set(true)
	if err := <-pulled; err != nil {
		t.Error(err)
	}
	if names := left(); len(names) > 0 {
		t.Errorf("left: %s", names)
	}
}
