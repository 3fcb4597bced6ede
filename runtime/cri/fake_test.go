package cri

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/stats"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// fakeEngine keeps pods and containers in memory, and publishes as the real one does. Nothing runs.
type fakeEngine struct {
	bus *events.Bus

	mu          sync.Mutex
	pods        map[string]engine.Pod
	containers  map[string]engine.Container
	made        int
	updates     []specs.LinuxResources
	cidrs       []string
	killed      int
	kill        func()
	exec        func(o engine.ExecOptions, killed <-chan struct{}) wire.Exit
	checkpoint  func(o engine.CheckpointOptions) error
	reading     stats.Stats
	startError  error
	runPodError error
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{bus: events.New(), pods: map[string]engine.Pod{}, containers: map[string]engine.Container{}}
}

func (e *fakeEngine) publish(kind, action, id string) {
	e.bus.Publish(events.Event{Namespace: Namespace, Type: kind, Action: action, ID: id})
}

// id makes ids that differ in their first characters, as real ones do.
func (e *fakeEngine) id() string {
	e.made++
	return digest.FromString(fmt.Sprint(e.made)).Encoded()
}

func (e *fakeEngine) RunPod(_ context.Context, ns string, o engine.PodOptions) (engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.runPodError != nil {
		return engine.Pod{}, e.runPodError
	}
	for _, p := range e.pods {
		if p.Key == o.Key && p.State == engine.PodReady {
			return p, nil
		}
	}
	o.ID = e.id()
	p := engine.Pod{PodOptions: o, Namespace: ns, State: engine.PodReady, CreatedAt: time.Now()}
	if o.Network == engine.ModePod {
		p.Attachment = &network.Attachment{ID: o.ID, IPs: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd00::2")}}
	}
	e.pods[o.ID] = p
	e.publish("pod", "create", o.ID)
	e.publish("pod", "start", o.ID)
	return p, nil
}

func (e *fakeEngine) changePod(id string, change func(*engine.Pod)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.pods[id]
	if !ok {
		return fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
	}
	change(&p)
	e.pods[id] = p
	return nil
}

func (e *fakeEngine) StopPod(_ context.Context, _, id string) error {
	err := e.changePod(id, func(p *engine.Pod) { p.State, p.Attachment = engine.PodStopped, nil })
	if err == nil {
		e.publish("pod", "stop", id)
	}
	return err
}

func (e *fakeEngine) RemovePod(_ context.Context, _, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.pods[id]; !ok {
		return fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
	}
	delete(e.pods, id)
	for cid, c := range e.containers {
		if c.Pod == id {
			delete(e.containers, cid)
			e.publish("container", "delete", cid)
		}
	}
	e.publish("pod", "delete", id)
	return nil
}

func (e *fakeEngine) Pod(_ context.Context, _, id string) (engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.pods {
		if strings.HasPrefix(p.ID, id) {
			return p, nil
		}
	}
	return engine.Pod{}, fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
}

func (e *fakeEngine) ListPods(context.Context, string) ([]engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []engine.Pod
	for _, p := range e.pods {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b engine.Pod) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, nil
}

func (e *fakeEngine) UpdatePod(_ context.Context, _, id string, resources, overhead *specs.LinuxResources) error {
	return e.changePod(id, func(p *engine.Pod) { p.Resources, p.Overhead = resources, overhead })
}

func (e *fakeEngine) PodStats(_ context.Context, _ string, ids []string) ([]engine.PodStats, error) {
	pods, _ := e.ListPods(nil, "")
	containers, _ := e.List(nil, "")
	var out []engine.PodStats
	for _, p := range pods {
		if len(ids) > 0 && !slices.Contains(ids, p.ID) {
			continue
		}
		one := engine.PodStats{Pod: p, Stats: e.now(), Containers: map[string]stats.Stats{}}
		for _, c := range containers {
			if c.Pod == p.ID && c.PID != 0 {
				one.Containers[c.ID] = e.now()
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func (e *fakeEngine) now() stats.Stats {
	r := e.reading
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	return r
}

func (e *fakeEngine) SetPodCIDR(_ context.Context, cidrs []string) error {
	e.cidrs = cidrs
	return nil
}

func (e *fakeEngine) NetworkStatus(context.Context) (bool, string, string) {
	return false, "NetworkPluginNotReady", "no configuration"
}

func (e *fakeEngine) Create(_ context.Context, ns string, o engine.CreateOptions) (engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.Key == o.Key {
			return c, nil
		}
	}
	c := engine.Container{
		ID: e.id(), Namespace: ns, State: engine.Created, Image: o.Image, Runtime: o.Runtime, Pod: o.Pod, Key: o.Key, Front: o.Front,
		Labels: o.Labels, Log: o.Log, Request: o.Request, CreatedAt: time.Now(), Snapshot: "s", Snapshotter: "overlay",
		Stdin: o.Stdin, StdinOnce: o.StdinOnce,
	}
	e.containers[c.ID] = c
	e.publish("container", "create", c.ID)
	return c, nil
}

func (e *fakeEngine) change(id string, change func(*engine.Container)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	change(&c)
	e.containers[id] = c
	return nil
}

func (e *fakeEngine) Start(_ context.Context, _, id string, _ engine.StartOptions) (engine.Process, error) {
	if e.startError != nil {
		return engine.Process{}, e.startError
	}
	err := e.change(id, func(c *engine.Container) { c.State, c.PID, c.StartedAt = engine.Running, 42, time.Now() })
	e.publish("container", "start", id)
	return engine.Process{PID: 42}, err
}

func (e *fakeEngine) Stop(_ context.Context, _, id string, _ engine.StopOptions) error {
	e.end(id, wire.Exit{Code: 137, Signal: 9})
	return nil
}

func (e *fakeEngine) end(id string, x wire.Exit) {
	x.Time = time.Now()
	_ = e.change(id, func(c *engine.Container) { c.State, c.PID, c.Exit = engine.Exited, 0, &x })
	e.publish("container", "exit", id)
}

func (e *fakeEngine) Delete(_ context.Context, _, id string, _ engine.DeleteOptions) (*wire.Exit, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	delete(e.containers, id)
	e.publish("container", "delete", id)
	return c.Exit, nil
}

func (e *fakeEngine) Get(_ context.Context, _, id string) (engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if strings.HasPrefix(c.ID, id) {
			return c, nil
		}
	}
	return engine.Container{}, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
}

func (e *fakeEngine) List(context.Context, string) ([]engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []engine.Container
	for _, c := range e.containers {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b engine.Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (e *fakeEngine) Spec(context.Context, string, string) (*specs.Spec, error) {
	return &specs.Spec{Process: &specs.Process{User: specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{2000, 3000}}}}, nil
}

func (e *fakeEngine) Exec(_ context.Context, _, _ string, o engine.ExecOptions) (engine.Process, error) {
	killed := make(chan struct{})
	e.mu.Lock()
	e.killed = 0
	e.kill = func() { close(killed) }
	e.mu.Unlock()
	ended := make(chan wire.Exit, 1)
	go func() {
		x := e.exec(o, killed)
		ended <- x
	}()
	return engine.Process{ExecID: "x", PID: 43, Wait: func(ctx context.Context) (wire.Exit, error) {
		select {
		case x := <-ended:
			ended <- x
			return x, nil
		case <-ctx.Done():
			return wire.Exit{}, context.Cause(ctx)
		}
	}}, nil
}

func (e *fakeEngine) Signal(_ context.Context, _, _, _ string, sig int, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed = sig; e.kill != nil {
		e.kill()
	}
	return nil
}

func (e *fakeEngine) Pause(_ context.Context, _, id string) error {
	return e.change(id, func(c *engine.Container) { c.State = engine.Paused })
}

func (e *fakeEngine) Resume(_ context.Context, _, id string) error {
	return e.change(id, func(c *engine.Container) { c.State = engine.Running })
}

func (e *fakeEngine) Update(_ context.Context, _, id string, r *specs.LinuxResources) error {
	return e.change(id, func(c *engine.Container) {
		e.updates = append(e.updates, *r)
		q := *c.Request
		q.Resources = r
		c.Request = &q
	})
}

func (e *fakeEngine) ReopenLog(context.Context, string, string) error { return nil }

func (e *fakeEngine) Checkpoint(_ context.Context, _, _ string, o engine.CheckpointOptions) error {
	if e.checkpoint != nil {
		return e.checkpoint(o)
	}
	if err := os.MkdirAll(o.Path, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Path, "pages-1.img"), []byte("memory"), 0o600)
}

func (e *fakeEngine) Stats(_ context.Context, _ string, ids []string) (map[string]stats.Stats, error) {
	list, _ := e.List(nil, "")
	out := map[string]stats.Stats{}
	for _, c := range list {
		if c.PID != 0 && (len(ids) == 0 || slices.Contains(ids, c.ID)) {
			out[c.ID] = e.now()
		}
	}
	return out, nil
}

func (e *fakeEngine) CollectGarbage(context.Context, bool) (image.Collected, error) {
	return image.Collected{}, nil
}

// fakeImages are names that point to configs.
type fakeImages struct {
	mu     sync.Mutex
	names  map[string]digest.Digest // name → id
	pulled []image.PullOptions
	user   string
}

func target(id digest.Digest) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString("manifest of " + id.String()), Annotations: map[string]string{"id": id.String()}}
}

func (f *fakeImages) record(name string, id digest.Digest) image.Image {
	return image.Image{Name: name, Target: target(id)}
}

func (f *fakeImages) Get(_ context.Context, _, ref string) (image.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, id := range f.names {
		repository, _, _ := strings.Cut(name, ":")
		if name == ref || name == "docker.io/library/"+ref || strings.HasPrefix(id.String(), ref) || ref == repository+"@"+target(id).Digest.String() {
			return f.record(name, id), nil
		}
	}
	return image.Image{}, fmt.Errorf("image %s: %w", ref, errdefs.ErrNotFound)
}

func (f *fakeImages) Resolve(ctx context.Context, ns, ref, _ string) (image.Resolved, error) {
	i, err := f.Get(ctx, ns, ref)
	if err != nil {
		return image.Resolved{}, err
	}
	r := image.Resolved{Image: i, Manifest: i.Target, ConfigDigest: f.ID(ctx, i.Target)}
	r.Config.Config.User = f.user
	return r, nil
}

func (f *fakeImages) List(context.Context, string) ([]image.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []image.Image
	for _, name := range sortedKeys(f.names) {
		list = append(list, f.record(name, f.names[name]))
	}
	return list, nil
}

func (f *fakeImages) ID(_ context.Context, d ocispec.Descriptor) digest.Digest {
	return digest.Digest(d.Annotations["id"])
}

func (f *fakeImages) Usage(context.Context, string, string, string) (image.Usage, error) {
	return image.Usage{ContentSize: 1234}, nil
}

func (f *fakeImages) Pull(_ context.Context, _ string, o image.PullOptions, _ func(image.Progress)) (image.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulled = append(f.pulled, o)
	id := digest.FromString(o.Name)
	f.names[o.Name] = id
	return f.record(o.Name, id), nil
}

func (f *fakeImages) Delete(_ context.Context, _, ref string, _ bool) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.names[ref]; !ok {
		return nil, fmt.Errorf("image %s: %w", ref, errdefs.ErrNotFound)
	}
	delete(f.names, ref)
	return []string{ref}, nil
}

type fakeDisk struct {
	mu      sync.Mutex
	counted int
	applied []string
}

func (*fakeDisk) Mountpoint() string { return "/var/lib/minid/snapshots" }
func (*fakeDisk) Images(context.Context) (snapshot.Usage, error) {
	return snapshot.Usage{Size: 1000, Inodes: 10}, nil
}

func (d *fakeDisk) Layer(context.Context, engine.Container) (snapshot.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counted++
	return snapshot.Usage{Size: 77, Inodes: 7}, nil
}

func (*fakeDisk) Diff(_ context.Context, c engine.Container, w io.Writer) error {
	_, err := io.WriteString(w, "diff of "+c.ID)
	return err
}

func (d *fakeDisk) Apply(_ context.Context, _ engine.Container, r io.Reader) error {
	data, err := io.ReadAll(r)
	d.applied = append(d.applied, string(data))
	return err
}

type fakeStreams struct{}

func (fakeStreams) GetExec(r *v1.ExecRequest) (*v1.ExecResponse, error) {
	return &v1.ExecResponse{Url: "http://x/exec/" + r.ContainerId}, nil
}

func (fakeStreams) GetAttach(r *v1.AttachRequest) (*v1.AttachResponse, error) {
	return &v1.AttachResponse{Url: "http://x/attach/" + r.ContainerId}, nil
}

func (fakeStreams) GetPortForward(r *v1.PortForwardRequest) (*v1.PortForwardResponse, error) {
	return &v1.PortForwardResponse{Url: "http://x/portforward/" + r.PodSandboxId}, nil
}

// world is both services over a socket, with fakes behind them.
type world struct {
	v1.RuntimeServiceClient
	images  v1.ImageServiceClient
	engine  *fakeEngine
	names   *fakeImages
	disk    *fakeDisk
	runtime *runtimeServer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		engine: newFakeEngine(), disk: &fakeDisk{},
		names: &fakeImages{names: map[string]digest.Digest{"docker.io/library/busybox:1": digest.FromString("busybox")}},
	}
	serving, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	d := Deps{
		Engine: w.engine, Images: w.names, Streams: fakeStreams{}, Events: w.engine.bus, Disk: w.disk, Host: spec.Host{Kernel: "6.18.0"},
		Version: "1.2.3", CgroupDriver: "cgroupfs", Runtimes: map[string]string{"crun": "/nonexistent/crun"},
		Config: func() any { return map[string]string{"name": "test"} }, Log: slog.New(slog.DiscardHandler), Serving: serving,
	}
	w.runtime = newRuntime(d)
	w.runtime.criu = func(context.Context) error { return nil }
	s := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: d.Log})...)
	v1.RegisterRuntimeServiceServer(s, w.runtime)
	v1.RegisterImageServiceServer(s, newImages(d))
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.RuntimeServiceClient, w.images = v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn)
	return w
}

// pod runs one, and gives its id.
func (w *world) pod(t *testing.T, name string) string {
	t.Helper()
	r, err := w.RunPodSandbox(t.Context(), &v1.RunPodSandboxRequest{Config: podConfigOf(name)})
	if err != nil {
		t.Fatal(err)
	}
	return r.PodSandboxId
}

func podConfigOf(name string) *v1.PodSandboxConfig {
	return &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: name, Namespace: "ns", Uid: "u-" + name, Attempt: 1}, LogDirectory: "/var/log/pods/" + name,
		Labels: map[string]string{"app": name}, Annotations: map[string]string{"note": "n"},
	}
}

func containerConfigOf(name string) *v1.ContainerConfig {
	return &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: name, Attempt: 2}, Image: &v1.ImageSpec{Image: "busybox:1"}, Command: []string{"sleep"}, Args: []string{"1"},
		Labels: map[string]string{"app": name}, Annotations: map[string]string{"note": "c"}, LogPath: name + "/0.log",
	}
}

// container makes one in a pod and starts it.
func (w *world) container(t *testing.T, pod, name string, start bool) string {
	t.Helper()
	r, err := w.CreateContainer(t.Context(), &v1.CreateContainerRequest{PodSandboxId: pod, Config: containerConfigOf(name)})
	if err != nil {
		t.Fatal(err)
	}
	if start {
		if _, err := w.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: r.ContainerId}); err != nil {
			t.Fatal(err)
		}
	}
	return r.ContainerId
}
