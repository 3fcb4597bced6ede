// Package engine is the only orchestrator: it makes, starts, watches and removes containers out of images, snapshots,
// specs and supervisors. One file per use case, each told as a story.
//
// It owns the container records: it is their one writer, saves before it publishes, and publishes before it answers.
// It never sees a protobuf; the native API and the CRI translate for it. What is made on the host for a container is
// made after its record is on disk, and undone by the one idempotent remove (delete.go).
package engine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/keylock"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/supervisor/wire"
	"github.com/minirt/mini/runtime/volume"
)

// Config is what the daemon's configuration says to the engine.
type Config struct {
	CgroupDriver    string // cgroupfs or systemd
	CgroupParent    string // empty: the daemon's own name
	Runtimes        Runtimes
	SupervisorPath  string // asked for the features of the built-in runtime
	LogMaxSize      int64  // bytes; 0: logs are not rotated
	LogMaxFiles     int
	LogDriver       string            // of containers that do not say; empty: json-file
	LogOptions      map[string]string // of that driver
	Pause           string            // path of the program that holds a shared PID namespace, when told "pause"
	RecoveryTimeout time.Duration     // bounds what Recover waits for a supervisor
}

// Publisher takes events.
type Publisher interface{ Publish(events.Event) }

// Images is what the engine wants of the image service.
type Images interface {
	Resolve(ctx context.Context, ns, name, platform string) (image.Resolved, error)
	Unpack(ctx context.Context, ns, name, snapshotter, platform string, progress func(image.Progress)) (string, error)
	Artifact(ctx context.Context, ns, name string) (files []image.ArtifactFile, is bool, err error)
	CollectGarbage(ctx context.Context, o image.CollectOptions) (image.Collected, error)
	Count(ctx context.Context) (int, error)
	Problems(ctx context.Context, repair, quick bool) ([]image.Problem, error)
	SaveCheckpoint(ctx context.Context, ns, name string, c image.Checkpoint) (image.Image, error)
	LoadCheckpoint(ctx context.Context, ns, name string) (image.SavedCheckpoint, error)
	NameBase(ns, name string, base ocispec.Descriptor) (image.Image, error)
	CommitLayer(ctx context.Context, ns string, base digest.Digest, o image.LayerOptions, configure func(*oci.Config) error, write func(context.Context, io.Writer) error) (image.Image, error)
}

// Deps are the engine's collaborators.
type Deps struct {
	Name, Root, State string
	Containers        *store.Table[Container]
	Pods              *store.Table[Pod]
	Networks          *store.Table[network.Record] // that users have made
	Volumes           *store.Table[volume.Record]
	Images            Images
	Network           Network
	Snapshotters      map[string]snapshot.Snapshotter
	Snapshotter       string // the default one's name
	Leases            *store.Leases
	Namespaces        *store.Namespaces
	Store             *store.Store
	Events            Publisher
	Host              spec.Host
	CDI               spec.CDI // nil: CDI devices are not known
	Plugins           Plugins  // nil: nobody is told
	Hooks             Hooks    // nil: none but those asked for
	Tuner             Tuner    // nil: processors cannot be tuned
	AppArmor          AppArmor // nil: there is no profile by default
	SELinux           SELinux  // nil: the host has none
	Config            Config
	Log               *slog.Logger
}

// AppArmor loads the profile of containers that ask for none; apparmor.Host does.
type AppArmor interface {
	Ensure(ctx context.Context) error
}

// Engine runs containers.
type Engine struct {
	Deps
	sandboxes   Sandboxes
	volumeFiles *volume.Local
	locks       keylock.Locks
	podFlights  flights[Pod]
	flights     flights[Container]
	said        saidFeatures
	reloaded    atomic.Pointer[Runtimes] // over Config.Runtimes

	ctx        context.Context // ends with Close
	close      context.CancelFunc
	background sync.WaitGroup
	recovered  chan struct{} // closed when Recover has settled everything
	closing    chan struct{} // has a token for each end of a root filesystem that is waited for

	mu         sync.RWMutex
	containers map[key]*live
	names      map[key]*live // by name; who is in containers keeps its own
	keys       keyed[*live]
	pods       map[key]*livePod
	podKeys    keyed[*livePod]
}

// Network is what the engine wants of the pods' network; *network.Network is one.
type Network interface {
	// NewNamespace pins a new namespace at a path, NewBareNamespace one for other networks than the default one;
	// AdoptNamespace makes one that is pinned there ready.
	NewNamespace(ctx context.Context, path string) error
	NewBareNamespace(ctx context.Context, path string) error
	AdoptNamespace(ctx context.Context, path string) error
	RemoveNamespace(ctx context.Context, path string) error
	Attach(ctx context.Context, r network.Request) (network.Attachment, error)
	Detach(ctx context.Context, r network.Request, a *network.Attachment) error
	Restore(ctx context.Context, records []network.Record, all []network.Attachment) error
	Collect(ctx context.Context, live []string) error // ids of pods
	Status(ctx context.Context) network.Status
	SetPodCIDR(ctx context.Context, cidrs []netip.Prefix) error
	Stats(ctx context.Context, path string) ([]network.InterfaceStats, error)
	UserNetworks
}

// UserNetworks is what the engine wants of networks beside that of pods.
type UserNetworks interface {
	PlanNetwork(ctx context.Context, wanted network.Record, others []network.Record) (network.Record, error)
	MakeNetwork(ctx context.Context, r network.Record) error
	RemoveNetwork(ctx context.Context, r network.Record) error
	DefaultNetwork(ctx context.Context) (network.Record, error)
	AttachTo(ctx context.Context, to network.Record, r network.Request) (network.Attachment, error)
	DetachFrom(ctx context.Context, r network.Request, a network.Attachment) (changed []network.Attachment, err error)
	SetNames(ctx context.Context, a network.Attachment) error
}

// Hooks adds the hooks that the host has for containers like this one to its document; *hooks.Directories is one.
type Hooks interface {
	Add(s *specs.Spec, binds bool) (warnings []string)
}

// Sandboxes is what the engine wants of the keeper of supervisors; *sandbox.Sandboxes is one.
type Sandboxes interface {
	// Warm says that a start will follow soon.
	Warm(group string)
	Start(ctx context.Context, group string, s wire.Start, attach []*os.File) (wire.StartResult, error)
	Exec(ctx context.Context, x wire.Exec, attach []*os.File) (wire.StartResult, error)
	Fleeting(p wire.Process) bool
	Attach(ctx context.Context, p wire.Process, a wire.Attachment, files []*os.File) error
	Signal(ctx context.Context, s wire.Signal) error
	Resize(ctx context.Context, r wire.Resize) error
	CloseStdin(ctx context.Context, p wire.Process) error
	Pause(ctx context.Context, p wire.Process) error
	Resume(ctx context.Context, p wire.Process) error
	Update(ctx context.Context, u wire.Update) error
	Checkpoint(ctx context.Context, c wire.Checkpoint) error
	ReopenLog(ctx context.Context, p wire.Process) error
	Delete(ctx context.Context, p wire.Process) (wire.Exit, error)
	Recover(ctx context.Context, known []sandbox.Known) ([]sandbox.Recovered, error)
	Upgrade(ctx context.Context) error
}

type key struct{ ns, id string }

func (k key) String() string { return k.ns + "/" + k.id }

// New makes an engine; Use and Recover come before the first request.
func New(d Deps) (*Engine, error) {
	if d.Snapshotters[d.Snapshotter] == nil {
		return nil, fmt.Errorf("snapshotter %q is not one of this daemon's: %w", d.Snapshotter, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Engine{
		Deps: d, volumeFiles: volume.NewLocal(filepath.Join(d.Root, "volumes")), ctx: ctx, close: cancel, recovered: make(chan struct{}), closing: make(chan struct{}, closers),
		containers: map[key]*live{}, names: map[key]*live{}, keys: keyed[*live]{}, pods: map[key]*livePod{}, podKeys: keyed[*livePod]{},
	}, nil
}

// Close ends the engine's background work. Containers go on.
func (e *Engine) Close() error {
	e.close()
	e.background.Wait()
	return nil
}

// Use gives the engine its supervisors. It is apart from New because they are opened with the engine's handlers.
func (e *Engine) Use(s Sandboxes) { e.sandboxes = s }

// exactly is the container with this id, or nil.
func (e *Engine) exactly(ns, id string) *live {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.containers[key{ns, id}]
}

// locked finds a container and takes its lock for an operation of several steps.
func (e *Engine) locked(ctx context.Context, ns, id string) (*live, func(), error) {
	l, err := e.find(ns, id)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		return nil, nil, fmt.Errorf("container %s is busy (%s): %w", id, l.stage(), err)
	}
	if l.isGone() {
		unlock()
		return nil, nil, fmt.Errorf("container %s: removed meanwhile: %w", id, errdefs.ErrNotFound)
	}
	return l, unlock, nil
}

// Get returns a container by its name, its id or an unambiguous prefix of that.
func (e *Engine) Get(ctx context.Context, ns, id string) (Container, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return Container{}, err
	}
	one := []Container{l.seen()}
	e.withNetworkIDs(ctx, ns, one)
	return one[0], nil
}

// List returns the containers of a namespace, or of all when ns is empty, the oldest first.
func (e *Engine) List(ctx context.Context, ns string) ([]Container, error) {
	e.mu.RLock()
	lives := make([]*live, 0, len(e.containers))
	for k, l := range e.containers {
		if ns == "" || k.ns == ns {
			lives = append(lives, l)
		}
	}
	e.mu.RUnlock()
	seen := make([]*Container, len(lives)) // a record is large: what is sorted are their addresses
	for i, l := range lives {
		c := l.seen()
		seen[i] = &c
	}
	slices.SortFunc(seen, func(a, b *Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	list := make([]Container, len(seen))
	for i, c := range seen {
		list[i] = *c
	}
	if ns != "" { // else nobody asks for networks
		e.withNetworkIDs(ctx, ns, list)
	}
	return list, nil
}

// SetLabels adds labels to a container, or replaces them all; an empty value removes a label.
func (e *Engine) SetLabels(ctx context.Context, ns, id string, labels map[string]string, replace bool) (Container, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	err = e.save(l, func(c *Container) { c.Labels = store.MergeLabels(c.Labels, labels, replace) })
	if err != nil {
		return Container{}, err
	}
	l.show(l.record())
	e.publish(l, "update", nil)
	return l.record(), nil
}

// Counts says how many containers there are, and how many run.
func (e *Engine) Counts() Known {
	e.mu.RLock()
	defer e.mu.RUnlock()
	k := Known{Containers: len(e.containers)}
	for _, l := range e.containers {
		switch l.state() {
		case Paused:
			k.Paused++
			k.Running++
		case Running:
			k.Running++
		}
	}
	return k
}

// Upgrade re-executes every supervisor in place, from the binary that is on disk now.
func (e *Engine) Upgrade(ctx context.Context) error { return e.sandboxes.Upgrade(ctx) }

// Bundle is the directory of a container's config.json, named pipes, mounts and exit file. It does not survive a
// reboot, and is made again by the next start.
func (e *Engine) Bundle(c Container) string {
	return filepath.Join(e.State, "containers", c.Namespace, c.ID)
}

// home is the directory of what of a container survives a reboot: its log files.
func (e *Engine) home(c Container) string {
	return filepath.Join(e.Root, "containers", c.Namespace, c.ID)
}

func process(l *live, execID string) wire.Process {
	return wire.Process{Namespace: l.key.ns, ID: l.key.id, Exec: execID}
}
