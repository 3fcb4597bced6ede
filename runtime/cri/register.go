// Package cri serves runtime.v1, the interface between a kubelet and a container runtime: RuntimeService and
// ImageService of k8s.io/cri-api. It translates requests to the engine and the image service, and their records to
// answers; it decides nothing that outlives a call. Translations are pure functions (pod_options.go, container_*.go);
// one RPC, or a few that belong together, have one file. Errors leave as they are: internal/grpcx gives them their
// status.
//
// What the kubelet sends and the engine has no field for is kept with the records, opaque to everybody else (front.go).
package cri

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/stats"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Namespace is the native namespace of everything that is made over the CRI.
const Namespace = "k8s.io"

// Engine is what the CRI wants of the engine; *engine.Engine is one.
type Engine interface {
	RunPod(ctx context.Context, ns string, o engine.PodOptions) (engine.Pod, error)
	StopPod(ctx context.Context, ns, id string) error
	RemovePod(ctx context.Context, ns, id string) error
	Pod(ctx context.Context, ns, id string) (engine.Pod, error)
	ListPods(ctx context.Context, ns string) ([]engine.Pod, error)
	UpdatePod(ctx context.Context, ns, id string, resources, overhead *specs.LinuxResources) error
	PodStats(ctx context.Context, ns string, ids []string, parts stats.Parts) ([]engine.PodStats, error)
	SetPodCIDR(ctx context.Context, cidrs []string) error
	NetworkStatus(ctx context.Context) (ready bool, reason, message string)
	Runtimes(ctx context.Context) []engine.RuntimeInfo

	Create(ctx context.Context, ns string, o engine.CreateOptions) (engine.Container, error)
	Start(ctx context.Context, ns, id string, o engine.StartOptions) (engine.Process, error)
	Stop(ctx context.Context, ns, id string, o engine.StopOptions) error
	Delete(ctx context.Context, ns, id string, o engine.DeleteOptions) (*wire.Exit, error)
	Get(ctx context.Context, ns, id string) (engine.Container, error)
	List(ctx context.Context, ns string) ([]engine.Container, error)
	Spec(ctx context.Context, ns, id string) (*specs.Spec, error)
	Exec(ctx context.Context, ns, id string, o engine.ExecOptions) (engine.Process, error)
	Signal(ctx context.Context, ns, id, execID string, sig int, all bool) error
	Pause(ctx context.Context, ns, id string) error
	Resume(ctx context.Context, ns, id string) error
	Update(ctx context.Context, ns, id string, r *specs.LinuxResources) error
	ReopenLog(ctx context.Context, ns, id string) error
	Checkpoint(ctx context.Context, ns, id string, o engine.CheckpointOptions) error
	ApplyChanges(ctx context.Context, ns, id string, changes io.Reader) error
	Bundle(c engine.Container) string
	Stats(ctx context.Context, ns string, ids []string, parts stats.Parts) (map[string]stats.Stats, error)
	CollectGarbage(ctx context.Context, dryRun bool) (image.Collected, error)
}

// Images is what the CRI wants of the image service; *image.Service is one.
type Images interface {
	Resolve(ctx context.Context, ns, ref, platform string) (image.Resolved, error)
	Get(ctx context.Context, ns, ref string) (image.Image, error)
	List(ctx context.Context, ns string) ([]image.Image, error)
	ID(ctx context.Context, target ocispec.Descriptor) digest.Digest
	Usage(ctx context.Context, ns, ref, snapshotter string) (image.Usage, error)
	Pull(ctx context.Context, ns string, o image.PullOptions, progress func(image.Progress)) (image.Image, error)
	Delete(ctx context.Context, ns, ref string, force bool) ([]string, error)
	CheckTrust(ctx context.Context, ns string, o image.TrustOptions) error
	Artifact(ctx context.Context, ns, ref string) (files []image.ArtifactFile, is bool, err error)
}

// Streams makes the URLs at which a client takes up a streaming request; runtime/stream has them.
type Streams interface {
	GetExec(r *v1.ExecRequest) (*v1.ExecResponse, error)
	GetAttach(r *v1.AttachRequest) (*v1.AttachResponse, error)
	GetPortForward(r *v1.PortForwardRequest) (*v1.PortForwardResponse, error)
}

// Bus is where events come from; *events.Bus is one.
type Bus interface {
	Subscribe(o events.Options) *events.Subscription
}

// Disk tells what images and containers take on the disk, and gives a container's own files. Its methods may walk
// directories: nothing here calls them while a client waits for statistics.
type Disk interface {
	// Mountpoint is a directory on the filesystem of a container's own files.
	Mountpoint(c engine.Container) string
	// Images counts blobs and unpacked layers, by filesystem; that of most comes first.
	Images(ctx context.Context) ([]Space, error)
	// Layer counts what a container has written.
	Layer(ctx context.Context, c engine.Container) (snapshot.Usage, error)
	// Diff writes what a container has changed, as an uncompressed layer.
	Diff(ctx context.Context, c engine.Container, w io.Writer) error
}

// Space is what is taken on the filesystem of a directory.
type Space struct {
	Mountpoint string
	snapshot.Usage
}

// Deps are the collaborators of the services.
type Deps struct {
	Engine       Engine
	Images       Images
	Streams      Streams
	Events       Bus
	Disk         Disk
	Host         spec.Host
	Version      string // of the daemon
	CgroupDriver string // cgroupfs or systemd
	// Runtimes are the runtime handlers by name with the paths of their binaries, and Policy what the owner of the node says
	// of pods and containers; both may change. nil: only the default handler, and nothing.
	Runtimes func() map[string]string
	Policy   func() *policy.Settings
	// Config is the daemon's configuration in force, and Networks what is known of the networks by its name ("cniconfig",
	// "lastCNILoadStatus"): what they return is shown as JSON to those who ask for details. Networks may be nil.
	Config func() any
	// Pinned tells whether an image's name is one of those that a kubelet must not remove. May be nil.
	Pinned   func(name string) bool
	Networks func() map[string]any
	Log      *slog.Logger
	// Serving ends when the daemon is to stop: what would go on for ever then ends.
	Serving context.Context
}

// Register adds the two services to a gRPC server.
func Register(r grpc.ServiceRegistrar, d Deps) {
	v1.RegisterRuntimeServiceServer(r, newRuntime(d))
	v1.RegisterImageServiceServer(r, newImages(d))
}

// runtimeServer is the RuntimeService. Unsafe… makes the compiler say when an RPC has no answer here.
type runtimeServer struct {
	v1.UnsafeRuntimeServiceServer
	Deps
	rates  *rates
	layers *layers
	ids    userIDs
	criu   func(context.Context) error // says why there can be no checkpoints
}

// withDefaults fills in what may be left out.
func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Runtimes == nil {
		d.Runtimes = func() map[string]string { return nil }
	}
	if d.Policy == nil {
		d.Policy = func() *policy.Settings { return &policy.Settings{UnprivilegedPorts: true, UnprivilegedICMP: true} }
	}
	return d
}

func newRuntime(d Deps) *runtimeServer {
	d = d.withDefaults()
	return &runtimeServer{
		Deps: d, rates: newRates(),
		layers: newLayers(d.Serving, d.Disk.Layer, d.Log), criu: checkCRIU,
	}
}

// imageServer is the ImageService.
type imageServer struct {
	v1.UnsafeImageServiceServer
	Deps
	space   *space
	collect chan struct{} // holds a token while a collection waits to begin
}

func newImages(d Deps) *imageServer {
	d = d.withDefaults()
	return &imageServer{Deps: d, space: newSpace(d), collect: make(chan struct{}, 1)}
}

// invalid is an error of class ErrInvalidArgument.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// unable is an error of class ErrFailedPrecondition.
func unable(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}

// notFound is an error of class ErrNotFound.
func notFound(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrNotFound)...)
}
