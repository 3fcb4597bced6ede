// Package image is the service for images: it pulls, pushes, imports, exports, converts, checks, unpacks and deletes
// them, and collects the garbage they leave. One file has one use case. Bytes are kept by runtime/content, directories
// by runtime/snapshot, records by runtime/store; what the documents mean is in oci/image. What a container does with an
// image is the engine's business.
//
// The order of a pull, and with it of all that makes images, keeps the promise that a name never points to less than a
// whole image: a lease, then blobs and directories, then one sync, then the committed snapshots, and the name last.
package image

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/minirt/mini/internal/keylock"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

// Image is the record of an image: a name in a namespace, and what it points to.
type Image struct {
	Name   string             `json:"name"`
	Target ocispec.Descriptor `json:"target"`
	Labels map[string]string  `json:"labels,omitempty"`
	// Signatures is the blob with those that a policy saw when the image was pulled; "": none, see trust.go.
	Signatures digest.Digest `json:"signatures,omitempty"`
	CreatedAt  time.Time     `json:"createdAt"`
	UpdatedAt  time.Time     `json:"updatedAt"`
	// Store is the additional store that it is in, which is only read; "": this daemon's own.
	Store string `json:"-"`
}

// Content is what the service wants of the content store; *content.Store is one.
type Content interface {
	Info(ctx context.Context, d digest.Digest) (content.Info, error)
	Has(d digest.Digest) bool
	Open(ctx context.Context, d digest.Digest) (content.Reader, error)
	Path(d digest.Digest) string
	Writer(ctx context.Context, i content.Ingest) (*content.Writer, error)
	Sync(ctx context.Context) error
	Abort(ctx context.Context, ref string) error
	Delete(ctx context.Context, d digest.Digest) error
	Take(path string, d digest.Digest) error
	List(ctx context.Context, visit func(content.Info) error) error
	ListAll(ctx context.Context, visit func(content.Info) error) error
	SetLabels(ctx context.Context, d digest.Digest, labels map[string]string, replace bool) (content.Info, error)
	Verify(ctx context.Context, d digest.Digest) error
	Ingests(ctx context.Context) ([]content.IngestInfo, error)
}

// Registry is what the service wants of a registry client; *registry.Client is one.
type Registry interface {
	Resolve(ctx context.Context, ref name.Ref) (ocispec.Descriptor, error)
	Manifest(ctx context.Context, ref name.Ref, d ocispec.Descriptor) ([]byte, error)
	Fetch(ctx context.Context, ref name.Ref, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// FetchPart opens the bytes from an offset up to an end. ErrNotImplemented: the host has only the whole.
	FetchPart(ctx context.Context, ref name.Ref, d ocispec.Descriptor, offset, end int64) (io.ReadCloser, error)
	// Reject says that what a Fetch delivered was wrong; the next one prefers another host.
	Reject(fetched io.ReadCloser)
	PushBlob(ctx context.Context, ref name.Ref, d ocispec.Descriptor, open func(offset int64) (io.ReadCloser, error), o registry.PushOptions) (registry.Pushed, error)
	PushManifest(ctx context.Context, ref name.Ref, d ocispec.Descriptor, data []byte) error
	// Close closes the connections that are idle; what is under way goes on.
	Close()
}

// Verifier says whether an image may be pulled; *verify.Programs is one.
type Verifier interface {
	// Verify is asked when a name is resolved, before anything is fetched.
	Verify(ctx context.Context, name string, target ocispec.Descriptor) error
}

// RegistryOptions is what one request says of the registry.
type RegistryOptions struct {
	Override *registry.HostOverride
	HostsDir string // besides the configured ones, and before them
	// DockerConfig is a file with credentials, as config.json, over the configured one; empty: that.
	DockerConfig string
	Trace        bool
}

// Records is what the service wants of the table of images; *store.Table[Image] is one.
type Records interface {
	Get(ns, key string) (Image, error)
	Create(ns, key string, v Image) error
	Put(ns, key string, v Image) error
	Update(ns, key string, change func(*Image) error) (Image, error)
	Delete(ns, key string) error
	List(ns string) ([]store.Entry[Image], error)
}

// Config is what an administrator sets. Zero values mean the defaults.
type Config struct {
	MaxDownloads int   // blobs fetched at once, by all pulls together; default 6
	MaxUploads   int   // blobs pushed at once by one push; default 4
	MaxUnpacks   int   // layers applied at once; default one more than there are CPUs
	WholePulls   bool  // layers are always fetched whole, even where other layers have much of them (zstd:chunked)
	PartSize     int64 // blobs that are larger are fetched in parts of so many bytes, four at a time, held in memory; 0: in one
	NoSync       bool  // what was pulled is not written to the disk before its name is: a power cut may leave it hollow
	// ProgressTimeout ends a pull when no byte of a blob that is being fetched has arrived for so long; 0: never.
	ProgressTimeout time.Duration
	LeaseExpiry     time.Duration // how long what an interrupted pull has brought is kept for the next try; default 1 h, at least a minute
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxDownloads, 6)
	set(&c.MaxUploads, 4)
	set(&c.MaxUnpacks, runtime.NumCPU()+1)
	if c.LeaseExpiry <= 0 {
		c.LeaseExpiry = time.Hour
	}
	c.LeaseExpiry = max(c.LeaseExpiry, time.Minute) // it must not expire while it is being filled
	return c
}

// Deps are the service's collaborators.
type Deps struct {
	Apart        Apart  // nil: all pulls are done here
	ApartDir     string // where it works, on the content's filesystem; what is in it at the start is garbage
	Content      Content
	Snapshotters map[string]snapshot.Snapshotter
	Default      string // name of the snapshotter used when none is asked for
	NewRegistry  func(RegistryOptions) Registry
	// ShortNames completes a name without a registry otherwise than Docker does, best name first; nil, or no name: as Docker.
	ShortNames func(ref string) ([]string, error)
	Images     Records
	Leases     Leases
	Events     interface{ Publish(events.Event) }
	Embedded   Embedded // zero: none
	Verifier   Verifier // nil: every image may be pulled
	Judge      Judge    // nil: every image may be pulled and run, and none that is encrypted can be unpacked
	Config     Config
	Log        *slog.Logger
}

// Service keeps images. Its methods may be called concurrently.
type Service struct {
	Deps
	config    Config
	began     time.Time // what is older is of a daemon before this one
	pins      *pins
	downloads *semaphore.Weighted
	unpacks   *semaphore.Weighted
	blobs     flights[*growing]
	layers    flights[*applied]
	commits   sync.Mutex    // one pull at a time commits its layers: they share parents
	records   sync.RWMutex  // held for reading while one record is made of another, for writing while all are read
	writing   keylock.Locks // by content ref or layer
}

// New makes the service. Nothing is read yet.
func New(d Deps) (*Service, error) {
	if d.Default != "" && d.Snapshotters[d.Default] == nil {
		return nil, fmt.Errorf("snapshotter %q is not one of this daemon's: %w", d.Default, errdefs.ErrInvalidArgument)
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	c := d.Config.withDefaults()
	s := &Service{
		Deps: d, config: c, began: time.Now(), pins: newPins(),
		downloads: semaphore.NewWeighted(int64(c.MaxDownloads)),
		unpacks:   semaphore.NewWeighted(int64(c.MaxUnpacks)),
	}
	s.layers.drop = s.discard
	s.blobs.drop = (*growing).close
	return s, nil
}

// snapshotter finds one by name; "" is the default.
func (s *Service) snapshotter(n string) (snapshot.Snapshotter, error) {
	if n == "" {
		n = s.Default
	}
	if sn := s.Snapshotters[n]; sn != nil {
		return sn, nil
	}
	names := make([]string, 0, len(s.Snapshotters))
	for k := range s.Snapshotters {
		names = append(names, k)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("there is no snapshotter %q, only %v: %w", n, names, errdefs.ErrInvalidArgument)
}

func (s *Service) publish(ns, action, id string, attributes map[string]string) {
	if s.Events != nil {
		s.Events.Publish(events.Event{Time: time.Now(), Namespace: ns, Type: "image", Action: action, ID: id, Attributes: attributes})
	}
}

// afterwards is the context of clean-ups: ctx's end does not reach it.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}
