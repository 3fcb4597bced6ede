package cri

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/trust"
)

// fakeImages are names that point to configs.
type fakeImages struct {
	mu     sync.Mutex
	names  map[string]digest.Digest // name → id
	pulled []image.PullOptions
	user   string
	// distrusted is the namespace and the name of an image that must not be run.
	distrusted string
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

func (f *fakeImages) CheckTrust(_ context.Context, _ string, o image.TrustOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.distrusted != "" && f.distrusted == o.Namespace+" "+o.Name {
		return fmt.Errorf("image %s: %w", o.Name, trust.ErrSignature)
	}
	return nil
}

type fakeDisk struct {
	mu      sync.Mutex
	counted int
}

func (*fakeDisk) Mountpoint(engine.Container) string { return "/var/lib/minid/snapshots" }
func (*fakeDisk) Images(context.Context) ([]Space, error) {
	return []Space{{Mountpoint: "/var/lib/minid/snapshots", Usage: snapshot.Usage{Size: 1000, Inodes: 10}}}, nil
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
		Version: "1.2.3", CgroupDriver: "cgroupfs", Runtimes: func() map[string]string { return map[string]string{"crun": "/nonexistent/crun"} },
		Config: func() any { return map[string]string{"name": "test"} }, Log: slog.New(slog.DiscardHandler), Serving: serving,
	}
	w.runtime = newRuntime(d)
	w.runtime.criu = func(context.Context) error { return nil }
	s := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: d.Log}, nil)...)
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

// Artifact: none of the images is one.
func (f *fakeImages) Artifact(context.Context, string, string) ([]image.ArtifactFile, bool, error) {
	return nil, false, nil
}
