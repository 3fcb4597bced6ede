package image

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

// mountLabel marks the snapshots that Mount made. Without a live lease they are garbage.
const mountLabel = "minid.mount"

// mountExpiry is how long a mounted image is kept when nothing else is asked for.
const mountExpiry = 24 * time.Hour

// MountOptions say how an image is mounted.
type MountOptions struct {
	Name        string
	Writable    bool
	Key         string // name of the snapshot; "": made
	Platform    string
	Snapshotter string
	ExpireAfter time.Duration // 0: a day
	Labels      map[string]string
}

// Mount prepares a snapshot on top of an image, unpacking that if need be. The caller mounts what it gets; Unmount, or a
// collection after it has expired, removes the snapshot.
func (s *Service) Mount(ctx context.Context, ns string, o MountOptions) (key string, mounts []mount.Mount, err error) {
	sn, err := s.snapshotter(o.Snapshotter)
	if err != nil {
		return "", nil, err
	}
	if key = o.Key; key == "" {
		key = "mount-" + id.New()[:16]
	}
	if o.ExpireAfter == 0 {
		o.ExpireAfter = mountExpiry
	}
	defer s.pins.hold(snapshotPin(sn.Name(), key))()
	parent, err := s.Unpack(ctx, ns, o.Name, o.Snapshotter, o.Platform, nil)
	if err != nil {
		return "", nil, err
	}
	labels := map[string]string{}
	maps.Copy(labels, o.Labels)
	labels[mountLabel] = key
	prepare := sn.View
	if o.Writable {
		prepare = sn.Prepare
	}
	k := snapshot.Key{Namespace: ns, Name: key}
	if mounts, err = prepare(ctx, k, parent, snapshot.Options{Labels: labels}); err != nil {
		return "", nil, err
	}
	if err := s.leaseMount(ns, sn.Name(), key, o.ExpireAfter); err != nil {
		cleanup, cancel := afterwards(ctx)
		defer cancel()
		return "", nil, errors.Join(err, sn.Remove(cleanup, k))
	}
	return key, mounts, nil
}

func (s *Service) leaseMount(ns, snapshotter, key string, expiry time.Duration) error {
	if err := s.Leases.Delete(ns, mountLease(key)); err != nil { // of a snapshot of that name before
		return err
	}
	l, err := s.Leases.Create(ns, mountLease(key), map[string]string{mountLabel: key}, expiry)
	if err != nil {
		return err
	}
	_, err = s.Leases.Add(ns, l.ID, store.Resource{Type: resourceSnapshot + snapshotter, ID: key})
	return err
}

// mountLease is the lease of a mounted image: its key may be a path, which the name of a lease may not.
func mountLease(key string) string { return "mounted-" + digest.FromString(key).Encoded()[:16] }

// Unmount removes what Mount prepared. The caller has unmounted it. ErrNotFound when there is no such snapshot.
func (s *Service) Unmount(ctx context.Context, ns, key, snapshotter string) error {
	sn, err := s.snapshotter(snapshotter)
	if err != nil {
		return err
	}
	if err := sn.Remove(ctx, snapshot.Key{Namespace: ns, Name: key}); err != nil {
		return err
	}
	return s.Leases.Delete(ns, mountLease(key))
}
