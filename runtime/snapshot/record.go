package snapshot

import (
	"maps"
	"time"

	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/store"
)

// Record is what is kept of a snapshot.
type Record struct {
	Kind   Kind   `json:"kind"`
	Parent string `json:"parent,omitempty"`
	// Dir is the number of what belongs to it in the backing; 0: nothing does. The records of a committed layer in several
	// namespaces have the same.
	Dir uint64 `json:"dir,omitempty"`
	// Elsewhere is the directory of a committed layer that another daemon has unpacked, and that is only read; Dir is 0 then.
	Elsewhere string `json:"elsewhere,omitempty"`
	// Backend is its name there, where the backing has chosen that.
	Backend   string            `json:"backend,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created"`
	UpdatedAt time.Time         `json:"updated"`
	UIDMap    []IDMap           `json:"uidMap,omitempty"`
	GIDMap    []IDMap           `json:"gidMap,omitempty"`
	Volatile  bool              `json:"volatile,omitempty"`
	Usage     *Usage            `json:"usage,omitempty"` // of a committed one, once counted
}

func (r Record) info(key Key) Info {
	return Info{Namespace: key.Namespace, Name: key.Name, Parent: r.Parent, Kind: r.Kind, Labels: maps.Clone(r.Labels),
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}
}

// Records is where the ledger keeps its records. NewRecords makes it of a store; the methods are store.Table's.
type Records interface {
	Get(ns, name string) (Record, error)
	Create(ns, name string, r Record) error
	// CreateSoon and DeleteSoon are for what a power cut may undo: see store.Store.Soon.
	CreateSoon(ns, name string, r Record) error
	DeleteSoon(ns, name string) error
	Update(ns, name string, change func(*Record) error) (Record, error)
	Delete(ns, name string) error
	List(ns string) ([]store.Entry[Record], error)
	// Move renames a record and changes it, in one transaction: ErrNotFound, ErrAlreadyExists.
	Move(ns, from, to string, change func(*Record) error) error
}

// HostID is the id on the host of one in a container; an id that is not mapped stays as it is, and is nobody inside.
func HostID(id uint32, maps []IDMap) uint32 {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID)
		}
	}
	return id
}

// LayerIDMaps are the maps as layer.DiffOptions has them.
func LayerIDMaps(maps []IDMap) []layer.IDMap {
	out := make([]layer.IDMap, len(maps))
	for i, m := range maps {
		out[i] = layer.IDMap{Inside: m.ContainerID, Outside: m.HostID, Size: m.Size}
	}
	return out
}

type table struct {
	*store.Table[Record]
	store *store.Store
}

// NewRecords is the table of one snapshotter's records. Each snapshotter has its own, since their names are independent.
func NewRecords(s *store.Store, snapshotter string) Records {
	return table{store.NewTable[Record](s, "snapshot-"+snapshotter, 1, nil), s}
}

// Move implements Records.
func (t table) Move(ns, from, to string, change func(*Record) error) error {
	return t.store.Update(func(tx *store.Tx) error {
		in := t.In(tx)
		r, err := in.Get(ns, from)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return err
		}
		if err := in.Create(ns, to, r); err != nil {
			return err
		}
		return in.Delete(ns, from)
	})
}
