// Package snapshot keeps root filesystems: the unpacked layers of images, and the writable ones of containers on top.
//
// The contract of a snapshotter is the interface Snapshotter below. Each of the packages below is one, and
// runtime/snapshot/snapshottest holds what all must do. What is common to them, the records and the directories that
// belong to them, is the Ledger here. Images, leases and what is garbage are not known here.
package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
)

// Kind of a snapshot.
type Kind string

// The life of a snapshot. Prepare makes an active one, View a view; Commit turns an active one into a committed one of
// another name. Only a committed one can be a parent, and it never changes again.
//
//	          Prepare                  Commit
//	parent ───────────▶ active ───────────────────▶ committed
//	(committed or "")                                   │ View
//	                                                    ▼
//	                                                   view      each of them ends by Remove
const (
	Active    Kind = "active"
	View      Kind = "view"
	Committed Kind = "committed"
)

// Key names a snapshot. Names are unique in a namespace, whatever the kind. A committed layer's name is its chain ID
// (image-spec, config.md, "Layer ChainID").
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// IDMap maps a range of ids in a container to ids on the host.
type IDMap = mount.IDMap

// Options of a new snapshot.
type Options struct {
	Labels map[string]string
	// UIDMap and GIDMap are for a container with a user namespace: the snapshot is seen with its ids mapped, without the
	// layers being changed or copied where the kernel can do it (idmapped mounts, Linux 5.19 for overlays). Both or none.
	UIDMap, GIDMap []IDMap
	// Volatile says that what is written need not survive a power cut, where nobody will come back to it: a snapshotter
	// may then ignore requests to sync, and the last unmount does not wait for the disk.
	Volatile bool
	// Size is how large the snapshot's filesystem is to be, in bytes; 0: as its parent's. It is for those that are Bounded.
	Size int64
}

// Info describes a snapshot.
type Info struct {
	Namespace, Name, Parent string
	Kind                    Kind
	Labels                  map[string]string
	CreatedAt, UpdatedAt    time.Time
}

// Usage is what a snapshot takes by itself, its parents not counted; a file with several names counts once.
type Usage struct {
	Size   int64 `json:"size"` // bytes of disk blocks
	Inodes int64 `json:"inodes"`
}

// Snapshotter makes and keeps snapshots. All methods may be called at once from several goroutines.
//
// Every snapshot has a record, which is on disk before anything is made for it and is deleted after everything of it is
// gone. A crash at any point leaves records without directories or directories without records, and Open or Cleanup
// clears both away; what such a record announced has never been handed out.
//
// Error classes: ErrNotFound (no such snapshot, or parent), ErrAlreadyExists (the name is taken), ErrInvalidArgument
// (the parent or the snapshot is of a kind that cannot do this), ErrFailedPrecondition (it still has children),
// ErrDataLoss (the record is there and the files are not).
type Snapshotter interface {
	// Name is the snapshotter's: "overlay", "native", …
	Name() string

	// Prepare makes an active snapshot on top of the parent, or an empty one for "". The mounts given are for mount.All; the
	// caller mounts them where it likes, once, and unmounts them before it calls Commit or Remove. Writes through them
	// change this snapshot only.
	Prepare(ctx context.Context, key Key, parent string, opts Options) ([]mount.Mount, error)

	// View is Prepare, but read-only: for looking into a layer. A view cannot be committed.
	View(ctx context.Context, key Key, parent string, opts Options) ([]mount.Mount, error)

	// Mounts gives the mounts of an active snapshot or a view again, after a restart for instance: the same as Prepare
	// or View did. ErrInvalidArgument for a committed one.
	Mounts(ctx context.Context, key Key) ([]mount.Mount, error)

	// Commit turns the active snapshot into a committed one of the given name, with the same parent. The active name is
	// free afterwards. Labels of the active one do not carry over. What has been written is not synced: see Sync.
	Commit(ctx context.Context, ns, name, active string, labels map[string]string) error

	// Adopt makes a committed layer known in a namespace when any other has it, parents included, and says whether that
	// (or that it was there already) is so. The files are shared; they go with the last record that refers to them.
	Adopt(ctx context.Context, ns, chainID string) (bool, error)

	// Remove deletes a snapshot: ErrFailedPrecondition while it is the parent of others. ErrNotFound if there is none, so
	// that a caller that repeats a removal takes that for success.
	Remove(ctx context.Context, key Key) error

	Info(ctx context.Context, key Key) (Info, error)
	// List gives the snapshots of a namespace by name, or all for "".
	List(ctx context.Context, ns string) ([]Info, error)
	// SetLabels changes labels: those given are set, or removed when empty; with replace they are all there is.
	SetLabels(ctx context.Context, key Key, labels map[string]string, replace bool) (Info, error)

	// Usage counts; for a committed snapshot once, after which it is known.
	Usage(ctx context.Context, key Key) (Usage, error)

	// Sync makes everything written in snapshots durable, with one syncfs. Whoever commits layers that must survive a
	// power cut calls it before Commit.
	Sync(ctx context.Context) error

	// Cleanup removes what a crash has left: directories that no record refers to and records whose directory is gone. freed
	// is the number of both.
	Cleanup(ctx context.Context) (freed int, err error)

	// Close releases what the snapshotter holds. Snapshots and mounts stay.
	Close() error
}

// LayerStore is a snapshotter that can take the layers of an image in any order and all at once: each is unpacked into a
// directory of its own that knows nothing of the others, and they are put in a row when all are there.
type LayerStore interface {
	Snapshotter
	// PrepareLayer makes an active snapshot without a parent and gives the bare directory to apply the layer to, with
	// layer.Overlay and UserXattr as below. ErrNeedsParent of the apply means that this layer needs Prepare and Commit.
	PrepareLayer(ctx context.Context, key Key) (dir string, err error)
	// CommitLayer turns it into the committed layer chainID on top of the committed parentChainID ("": it is the lowest). The
	// namespace is key's. ErrAlreadyExists when another was faster: remove this one.
	CommitLayer(ctx context.Context, ns, chainID, parentChainID string, key Key, labels map[string]string) error
	// UserXattr is for layer.ApplyOptions.
	UserXattr() bool
}

// LazyLabel is on a committed snapshot whose bytes were not brought: its snapshotter fetches what is read when it is read.
const LazyLabel = "minid.lazy"

// Lazy is a snapshotter that may have a layer without its bytes being brought.
type Lazy interface {
	Snapshotter
	// Offer makes the committed layer chainID on top of the committed parentChainID ("": it is the lowest) if the snapshotter
	// can have it by itself, and says whether it has. key, in the same namespace, is the snapshot's until it is committed.
	// wanted says where the layer is, in containerd's labels; the new snapshot gets labels, and LazyLabel.
	Offer(ctx context.Context, key Key, chainID, parentChainID string, wanted, labels map[string]string) (bool, error)
}

// Bounded is a snapshotter whose snapshots have filesystems of their own, which have a size.
type Bounded interface {
	Snapshotter
	Bounded()
}

// Differ is a snapshotter that can tell what a snapshot has changed against its parent, without mounting anything.
type Differ interface {
	// Diff writes an uncompressed layer: the same bytes for the same snapshot.
	Diff(ctx context.Context, key Key, w io.Writer) error
}

// Comparer is a snapshotter that shows what a snapshot has changed and what is below it, for what Diff has no words for.
type Comparer interface {
	// Compare hands on the two trees, which are there until do returns. ErrInvalidArgument for a view, which changes nothing.
	Compare(ctx context.Context, key Key, do func(Compared) error) error
}

// Compared are a snapshot's tree and that of its parent, "" if it has none.
type Compared struct {
	Lower, Upper   string
	UpperDirectory bool // of an overlay: for layer.DiffUpper, not for layer.Diff
	UIDMap, GIDMap []IDMap
}

// Diff writes the layer that turns one into the other.
func (c Compared) Diff(ctx context.Context, w io.Writer, o layer.DiffOptions) error {
	o.UIDMap, o.GIDMap = LayerIDMaps(c.UIDMap), LayerIDMaps(c.GIDMap)
	if c.UpperDirectory {
		return layer.DiffUpper(ctx, w, c.Upper, c.Lower, o)
	}
	return layer.Diff(ctx, w, c.Lower, c.Upper, o)
}

// Changes tells the names that differ.
func (c Compared) Changes(ctx context.Context, o layer.DiffOptions) ([]layer.Change, error) {
	o.UIDMap, o.GIDMap = LayerIDMaps(c.UIDMap), LayerIDMaps(c.GIDMap)
	if c.UpperDirectory {
		return layer.ChangesUpper(ctx, c.Upper, c.Lower, o)
	}
	return layer.Changes(ctx, c.Lower, c.Upper, o)
}
