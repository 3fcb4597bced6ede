package image

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/store"
)

// Leases is what the service wants of the leases; *store.Leases are them.
type Leases interface {
	Create(ns, name string, labels map[string]string, expireAfter time.Duration) (store.Lease, error)
	Add(ns, name string, r store.Resource) (store.Lease, error)
	Get(ns, name string) (store.Lease, error)
	List(ns string) ([]store.Lease, error)
	Delete(ns, name string) error
	Resources() ([]store.Held, error)
	Expire() (int, error)
}

// Types of a lease's resources.
const (
	resourceContent  = "content"
	resourceSnapshot = "snapshot/" // and the snapshotter's name
)

// Labels of the leases of operations under way.
const (
	leaseFor       = "minid.for"
	leaseReference = "minid.reference" // what is pulled
	forTransfer    = "image transfer"
)

// held is what one operation keeps from the garbage collector: by pins while this process lives, and by a lease that
// lets the next try find what this one has brought, should the process die. When the operation has ended the lease goes.
type held struct {
	s        *Service
	ns, id   string
	labels   map[string]string
	expiry   time.Duration
	stays    bool // the lease outlives the operation
	mu       sync.Mutex
	releases []func()
}

// hold begins to hold things for an operation. The lease is made with the first thing it has to keep.
func (s *Service) hold(ns string) *held {
	return &held{s: s, ns: ns, labels: map[string]string{leaseFor: forTransfer}, expiry: s.config.LeaseExpiry}
}

// keep lets the lease stay when the operation has ended.
func (h *held) keep(expiry time.Duration, labels map[string]string) {
	h.stays, h.expiry, h.labels = true, expiry, labels
}

// forget undoes keep.
func (h *held) forget() { h.stays = false }

// content holds blobs.
func (h *held) content(ctx context.Context, digests ...digest.Digest) error {
	keys := make([]string, len(digests))
	resources := make([]store.Resource, len(digests))
	for i, d := range digests {
		keys[i] = contentPin(d.String())
		resources[i] = store.Resource{Type: resourceContent, ID: d.String()}
	}
	h.pin(keys...)
	return h.lease(ctx, resources)
}

// pin holds things against this process's collections only.
func (h *held) pin(keys ...string) {
	release := h.s.pins.hold(keys...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releases = append(h.releases, release)
}

// snapshots holds committed snapshots.
func (h *held) snapshots(ctx context.Context, snapshotter string, names ...string) error {
	keys := make([]string, len(names))
	resources := make([]store.Resource, len(names))
	for i, n := range names {
		keys[i] = snapshotPin(snapshotter, n)
		resources[i] = store.Resource{Type: resourceSnapshot + snapshotter, ID: n}
	}
	h.pin(keys...)
	return h.lease(ctx, resources)
}

func (h *held) lease(ctx context.Context, resources []store.Resource) error {
	if len(resources) == 0 {
		return nil
	}
	if h.id == "" {
		l, err := h.s.Leases.Create(h.ns, "image-"+id.New()[:16], h.labels, h.expiry)
		if err != nil {
			return fmt.Errorf("lease for the transfer: %w", err)
		}
		h.id = l.ID
	}
	g, _ := errgroup.WithContext(ctx) // at once, so that they share a sync
	for _, r := range resources {
		g.Go(func() error {
			_, err := h.s.Leases.Add(h.ns, h.id, r)
			return err
		})
	}
	return g.Wait()
}

// dropDead ends the leases of earlier pulls of a reference that their daemon did not survive, once another has brought it.
func (s *Service) dropDead(ns, reference string) {
	leases, err := s.Leases.List(ns)
	if err != nil {
		s.Log.Warn("leases of earlier pulls stay until they expire", "reference", reference, "error", err)
	}
	for _, l := range leases {
		if l.Labels[leaseFor] != forTransfer || l.Labels[leaseReference] != reference || !l.CreatedAt.Before(s.began) {
			continue
		}
		if err := s.Leases.Delete(ns, l.ID); err != nil {
			s.Log.Warn("the lease of an earlier pull stays until it expires", "lease", l.ID, "error", err)
		}
	}
}

// release ends it all.
func (h *held) release() {
	if h.id != "" && !h.stays {
		if err := h.s.Leases.Delete(h.ns, h.id); err != nil {
			h.s.Log.Warn("lease was not deleted, it will expire", "lease", h.id, "error", err)
		}
	}
	for _, r := range h.releases {
		r()
	}
	h.releases = nil
}
