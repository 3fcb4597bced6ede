package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/volume"
)

// MountVolume is the type of a mount whose source is the name of a volume.
const MountVolume = "volume"

// VolumeInfo is a volume, where it is, and who uses it.
type VolumeInfo struct {
	volume.Record
	Path  string
	Users []VolumeUser
	Usage *snapshot.Usage // nil: not asked for
}

// VolumeUser is a container that has a volume among its mounts, whether it runs or not.
type VolumeUser struct{ ID, Name string }

// lockVolume is held while a volume is made, filled, mounted or removed: who comes second finds what the first has made.
// A container's lock may be held meanwhile; while this one is held, no container's is taken.
func (e *Engine) lockVolume(ctx context.Context, ns, name string) (unlock func(), err error) {
	unlock, err = e.locks.Lock(ctx, "volume "+ns+"/"+name)
	if err != nil {
		return nil, fmt.Errorf("volume %s is busy: %w", name, err)
	}
	return unlock, nil
}

// volumeMounts are the places of a container's volumes in its request.
func volumeMounts(c Container) []int {
	var at []int
	if c.Request == nil {
		return nil
	}
	for i, m := range c.Request.Mounts {
		if m.Type == MountVolume {
			at = append(at, i)
		}
	}
	return at
}

// usersOf are the containers that have a volume among their mounts, by name.
func (e *Engine) usersOf(ns, name string) []VolumeUser {
	return e.usersOfAll(ns)[name]
}

// usersOfAll are the users of all volumes of a namespace, by the volume's name.
func (e *Engine) usersOfAll(ns string) map[string][]VolumeUser {
	e.mu.RLock()
	var lives []*live
	for k, l := range e.containers {
		if k.ns == ns {
			lives = append(lives, l)
		}
	}
	e.mu.RUnlock()
	users := map[string][]VolumeUser{}
	for _, l := range lives {
		c := l.record()
		user := VolumeUser{c.ID, c.Name}
		for _, i := range volumeMounts(c) {
			name := c.Request.Mounts[i].Source
			if !slices.Contains(users[name], user) {
				users[name] = append(users[name], user)
			}
		}
	}
	for _, list := range users {
		slices.SortFunc(list, func(a, b VolumeUser) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	}
	return users
}

func usersText(users []VolumeUser) string {
	var names []string
	for _, u := range users {
		name := id.Short(u.ID)
		if u.Name != "" {
			name = u.Name + " (" + name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// findVolume is a volume by its name.
func (e *Engine) findVolume(ns, name string) (volume.Record, error) {
	if name == "" {
		return volume.Record{}, fmt.Errorf("the name of the volume is empty: give one: %w", errdefs.ErrInvalidArgument)
	}
	r, err := e.Volumes.Get(ns, name)
	if errdefs.IsNotFound(err) {
		return volume.Record{}, fmt.Errorf("volume %s: not in namespace %s: create it first: %w", name, ns, errdefs.ErrNotFound)
	}
	return r, err
}

// ListVolumes returns the volumes of a namespace by name; with sizes, what each takes on the disk.
func (e *Engine) ListVolumes(ctx context.Context, ns string, sizes bool) ([]VolumeInfo, error) {
	records, err := e.Volumes.List(ns)
	if err != nil && !errdefs.IsDataLoss(err) {
		return nil, fmt.Errorf("list the volumes: %w", err)
	}
	users := e.usersOfAll(ns)
	var all []VolumeInfo
	for _, r := range records {
		info, err := e.volumeInfo(ctx, r.Value, users[r.Key], sizes)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// InspectVolume returns a volume by its name.
func (e *Engine) InspectVolume(ctx context.Context, ns, name string, size bool) (VolumeInfo, error) {
	r, err := e.findVolume(ns, name)
	if err != nil {
		return VolumeInfo{}, err
	}
	return e.volumeInfo(ctx, r, e.usersOf(ns, name), size)
}

// volumeInfo describes a volume. Of one that is a mount the size is what is in it while it is mounted.
func (e *Engine) volumeInfo(ctx context.Context, r volume.Record, users []VolumeUser, size bool) (VolumeInfo, error) {
	info := VolumeInfo{Record: r, Path: e.volumeFiles.Path(r), Users: users}
	if !size {
		return info, nil
	}
	u, err := snapshot.Count(ctx, info.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is being removed, or check tells
		return info, fmt.Errorf("size of volume %s: %w", r.Name, err)
	}
	info.Usage = &u
	return info, nil
}

// VolumePath is where the files of a volume are.
func (e *Engine) VolumePath(ns, name string) string {
	return e.volumeFiles.Path(volume.Record{Namespace: ns, Name: name})
}

func (e *Engine) publishVolume(r volume.Record, action string, attributes map[string]string) {
	said := map[string]string{"driver": r.Driver}
	maps.Copy(said, attributes)
	e.Events.Publish(events.Event{Time: time.Now(), Namespace: r.Namespace, Type: "volume", Action: action, ID: r.Name, Attributes: said})
}

// tellUnmounted publishes that a container that has ended uses its volumes no more.
func (e *Engine) tellUnmounted(c Container) {
	for _, i := range volumeMounts(c) {
		if r, err := e.findVolume(c.Namespace, c.Request.Mounts[i].Source); err == nil {
			e.publishVolume(r, "unmount", map[string]string{"container": c.ID})
		}
	}
}

// volumeOf is what a mount asks of its volume.
func volumeOf(m spec.Mount) spec.Volume {
	if m.Volume == nil {
		return spec.Volume{}
	}
	return *m.Volume
}
