// Package server serves the native API: it translates requests to the engine and the stores, and their records to
// answers. It decides nothing; what has to be decided is in runtime/engine or runtime/image. One group of RPCs has one
// file. Errors leave as they are: internal/grpcx gives them their status.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"

	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/stats"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Engine is what the server wants of the engine; *engine.Engine is one.
type Engine interface {
	Create(ctx context.Context, ns string, o engine.CreateOptions) (engine.Container, error)
	Start(ctx context.Context, ns, id string, o engine.StartOptions) (engine.Process, error)
	Get(ctx context.Context, ns, id string) (engine.Container, error)
	Spec(ctx context.Context, ns, id string) (*specs.Spec, error)
	Bundle(c engine.Container) string
	List(ctx context.Context, ns string) ([]engine.Container, error)
	SetLabels(ctx context.Context, ns, id string, labels map[string]string, replace bool) (engine.Container, error)
	Delete(ctx context.Context, ns, id string, o engine.DeleteOptions) (*wire.Exit, error)
	StopLike(ctx context.Context, ns, id, signal string, timeout *time.Duration) error
	SetRestart(ctx context.Context, ns, id string, policy engine.RestartPolicy) error
	Rename(ctx context.Context, ns, id, name string) (engine.Container, error)
	Connect(ctx context.Context, ns, id string, wanted engine.NetworkAttachment) (engine.Container, error)
	Disconnect(ctx context.Context, ns, id, network string) (engine.Container, error)
	Exec(ctx context.Context, ns, id string, o engine.ExecOptions) (engine.Process, error)
	Attach(ctx context.Context, ns, id, execID string, s engine.Streams) error
	Processes(ctx context.Context, ns, id string) ([]engine.Process, error)
	Process(ctx context.Context, ns, id, execID string) (engine.Process, error)
	Wait(ctx context.Context, ns, id, execID string) (wire.Exit, error)
	DeleteProcess(ctx context.Context, ns, id, execID string) (wire.Exit, error)
	Signal(ctx context.Context, ns, id, execID string, sig int, all bool) error
	Resize(ctx context.Context, ns, id, execID string, width, height uint16) error
	CloseStdin(ctx context.Context, ns, id, execID string) error
	Pause(ctx context.Context, ns, id string) error
	Resume(ctx context.Context, ns, id string) error
	Update(ctx context.Context, ns, id string, r *specs.LinuxResources) error
	Stats(ctx context.Context, ns string, ids []string, parts stats.Parts) (map[string]stats.Stats, error)
	Top(ctx context.Context, ns, id string) ([]engine.ProcessInfo, error)
	TopBy(ctx context.Context, ns, id string, options []string) (engine.ProcessTable, error)
	Logs(ctx context.Context, ns, id string, o engine.LogOptions, each func(logs.Entry) error) error
	ReopenLog(ctx context.Context, ns, id string) error
	Checkpoint(ctx context.Context, ns, id string, o engine.CheckpointOptions) error
	CheckpointNamed(ctx context.Context, ns, id, name, dir string, o engine.CheckpointOptions) (string, error)
	ListCheckpoints(ctx context.Context, ns, id, dir string) ([]string, error)
	CheckpointPath(ctx context.Context, ns, id, name, dir string) (string, error)
	RemoveCheckpoint(ctx context.Context, ns, id, name, dir string) error
	CheckHealth(ctx context.Context, ns, id string) (engine.HealthResult, error)
	Pod(ctx context.Context, ns, id string) (engine.Pod, error)
	CheckpointImage(ctx context.Context, ns, id string, o engine.CheckpointImageOptions) (image.Image, error)
	RestoreImage(ctx context.Context, ns string, o engine.RestoreOptions) (engine.Container, error)
	StatPath(ctx context.Context, ns, id, path string) (engine.PathInfo, error)
	CopyFrom(ctx context.Context, ns, id, path, as string, begin func(engine.PathInfo) error, w io.Writer) error
	CopyTo(ctx context.Context, ns, id, path string, r io.Reader, o engine.CopyToOptions) error
	Changes(ctx context.Context, ns, id string) ([]layer.Change, error)
	Export(ctx context.Context, ns, id string, w io.Writer) error
	Commit(ctx context.Context, ns, id string, o engine.CommitOptions) (image.Image, error)
	Check(ctx context.Context, repair, quick bool) ([]engine.Problem, int, error)
	CollectGarbage(ctx context.Context, dryRun bool) (image.Collected, error)
	Upgrade(ctx context.Context) error
	Networks
	Volumes
}

// Daemon is what only the daemon knows of itself.
type Daemon interface {
	Version() *api.VersionResponse
	Info(ctx context.Context, r *api.InfoRequest) (*api.InfoResponse, error)
	Supervisors(ctx context.Context) []*api.SupervisorInfo
	Reload(ctx context.Context) (changed, needRestart []string, err error)
}

// Deps are the server's collaborators.
type Deps struct {
	Engine       Engine
	Images       *image.Service
	Content      *content.Store
	Snapshotters map[string]snapshot.Snapshotter
	Snapshotter  string // the default one's name
	Namespaces   *store.Namespaces
	Leases       *store.Leases
	Events       *events.Bus
	Daemon       Daemon
	Log          *slog.Logger
	// Serving ends when the daemon is to stop: requests that wait for containers then end, so that they do not hold it up.
	Serving context.Context
}

// errStopping ends the requests that would go on as long as a container does.
var errStopping = fmt.Errorf("the daemon is stopping, the container runs on: try again when the daemon is back: %w", errdefs.ErrUnavailable)

// whileServing is ctx that also ends, with errStopping as its cause, when the daemon is to stop.
func (s Deps) whileServing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.Serving, func() { cancel(errStopping) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// orStopping is err, or errStopping where that is the reason for it.
func orStopping(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

// Register adds the services of the native API to a gRPC server.
func Register(r grpc.ServiceRegistrar, d Deps) {
	api.RegisterSystemServer(r, &systemServer{Deps: d})
	api.RegisterNamespacesServer(r, &namespacesServer{Deps: d})
	api.RegisterImagesServer(r, &imagesServer{Deps: d})
	api.RegisterContentServer(r, &contentServer{Deps: d})
	api.RegisterSnapshotsServer(r, &snapshotsServer{Deps: d})
	api.RegisterLeasesServer(r, &leasesServer{Deps: d})
	api.RegisterContainersServer(r, &containersServer{Deps: d})
	api.RegisterProcessesServer(r, &processesServer{Deps: d})
	api.RegisterNetworksServer(r, &networksServer{Deps: d})
	api.RegisterVolumesServer(r, &volumesServer{Deps: d})
	api.RegisterArchivesServer(r, &archivesServer{Deps: d})
}

const defaultNamespace = "default"

// namespaced is a request that names its namespace.
type namespaced interface{ GetNamespace() string }

// namespace of a request; the empty one is "default".
func namespace(r namespaced) string {
	if ns := r.GetNamespace(); ns != "" {
		return ns
	}
	return defaultNamespace
}

// snapshotter finds one by name; the empty name is the default one.
func (s Deps) snapshotter(name string) (snapshot.Snapshotter, error) {
	if name == "" {
		name = s.Snapshotter
	}
	if sn := s.Snapshotters[name]; sn != nil {
		return sn, nil
	}
	return nil, fmt.Errorf("snapshotter %q: this daemon has %s: %w", name,
		strings.Join(slices.Sorted(maps.Keys(s.Snapshotters)), ", "), errdefs.ErrInvalidArgument)
}

// nanos is a time as the API has it; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// moment is a time of the API; 0 is the zero time.
func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
