package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/id"
)

// Resource is something that a lease keeps from the garbage collector.
type Resource struct {
	Type string `json:"type"` // "content", or "snapshot/" and the snapshotter's name
	ID   string `json:"id"`   // a digest, or the snapshot's name
}

// Lease keeps resources alive while nothing else refers to them, such as what a pull has fetched so far.
type Lease struct {
	Namespace string            `json:"namespace"`
	ID        string            `json:"id"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"` // zero: never
	Resources []Resource        `json:"resources,omitempty"`
}

// Held is a resource that a live lease of a namespace keeps.
type Held struct {
	Namespace string
	Resource
}

// Leases are the leases of all namespaces. One that has expired is as good as deleted, whether or not it has been.
type Leases struct {
	s     *Store
	table *Table[Lease]
	now   func() time.Time
}

// NewLeases makes the table of leases.
func NewLeases(s *Store) *Leases {
	return &Leases{s, NewTable[Lease](s, "lease", 1, nil), time.Now}
}

// Create makes a lease that ends after expireAfter, or with 0 only by Delete. An empty name gets a random one. Errors:
// ErrAlreadyExists, ErrInvalidArgument.
func (l *Leases) Create(ns, name string, labels map[string]string, expireAfter time.Duration) (Lease, error) {
	if name == "" {
		name = id.New()
	}
	if err := ValidName(name); err != nil {
		return Lease{}, fmt.Errorf("lease %w", err)
	}
	if err := ValidLabels(labels); err != nil {
		return Lease{}, fmt.Errorf("lease %s: %w", name, err)
	}
	if expireAfter < 0 {
		return Lease{}, fmt.Errorf("lease %s: expires %s ago: %w", name, -expireAfter, errdefs.ErrInvalidArgument)
	}
	now := l.now().UTC()
	v := Lease{Namespace: ns, ID: name, Labels: labels, CreatedAt: now}
	if expireAfter > 0 {
		v.ExpiresAt = now.Add(expireAfter)
	}
	return v, l.s.Update(func(tx *Tx) error {
		if old, err := l.table.In(tx).Get(ns, name); err == nil && l.live(old) {
			return fmt.Errorf("%s is there already: %w", object("lease", ns, name), errdefs.ErrAlreadyExists)
		}
		return l.table.In(tx).Put(ns, name, v)
	})
}

// Get reads a lease. ErrNotFound when there is none or it has expired.
func (l *Leases) Get(ns, name string) (Lease, error) {
	v, err := l.table.Get(ns, name)
	if err == nil && !l.live(v) {
		return Lease{}, fmt.Errorf("%s has expired: %w", object("lease", ns, name), errdefs.ErrNotFound)
	}
	return v, err
}

// List reads the live leases of a namespace by name, or of all when ns is empty.
func (l *Leases) List(ns string) ([]Lease, error) {
	all, err := l.table.List(ns)
	var live []Lease
	for _, e := range all {
		if l.live(e.Value) {
			live = append(live, e.Value)
		}
	}
	return live, err
}

// Delete ends a lease; nil when there is none.
func (l *Leases) Delete(ns, name string) error { return l.table.Delete(ns, name) }

// Add puts a resource under a lease; once more changes nothing. ErrNotFound when there is no such lease or it has
// expired.
func (l *Leases) Add(ns, name string, r Resource) (Lease, error) {
	if r.Type == "" || r.ID == "" {
		return Lease{}, fmt.Errorf("lease %s: a resource needs a type and an id: %w", name, errdefs.ErrInvalidArgument)
	}
	if v, err := l.Get(ns, name); err != nil || slices.Contains(v.Resources, r) {
		return v, err
	}
	return l.table.Update(ns, name, func(v *Lease) error {
		if !slices.Contains(v.Resources, r) {
			v.Resources = append(v.Resources, r)
		}
		return nil
	})
}

// Resources is all that live leases keep, the garbage collector's roots. An error means that the list may not be whole:
// nothing must be collected then.
func (l *Leases) Resources() ([]Held, error) {
	all, err := l.List("")
	if err != nil {
		return nil, err
	}
	var held []Held
	for _, v := range all {
		for _, r := range v.Resources {
			held = append(held, Held{v.Namespace, r})
		}
	}
	return held, nil
}

// Expire deletes the leases that have expired, and tells how many.
func (l *Leases) Expire() (int, error) {
	dead := 0
	err := l.s.Update(func(tx *Tx) error {
		all, err := l.table.In(tx).List("")
		if err != nil {
			return err
		}
		for _, e := range all {
			if l.live(e.Value) {
				continue
			}
			dead++
			if err := l.table.In(tx).Delete(e.Namespace, e.Key); err != nil {
				return err
			}
		}
		return nil
	})
	return dead, err
}

func (l *Leases) live(v Lease) bool { return v.ExpiresAt.IsZero() || l.now().Before(v.ExpiresAt) }
