package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/volume"
)

// RemoveVolume removes a volume, and its files, that no container has among its mounts, whether it runs or not.
func (e *Engine) RemoveVolume(ctx context.Context, ns, name string) error {
	unlock, err := e.lockVolume(ctx, ns, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.findVolume(ns, name)
	if err != nil {
		return err
	}
	if users := e.usersOf(ns, name); len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use by container %s: remove that first: %w", name, usersText(users), errdefs.ErrFailedPrecondition)
	}
	return e.eraseVolume(r, e.Volumes.Put)
}

// eraseVolume takes away what of a volume is there, its record last. It may be repeated. The caller has its lock. put is
// how the beginning is recorded: it has to be on disk before the files go, unless something else says so after a power cut.
func (e *Engine) eraseVolume(r volume.Record, put func(ns, key string, r volume.Record) error) error {
	r.State = volume.Removing
	if err := put(r.Namespace, r.Name, r); err != nil {
		return fmt.Errorf("remove volume %s: %w", r.Name, err)
	}
	if err := failpoint.Hit("volume-removing"); err != nil {
		return err
	}
	if err := e.volumeFiles.Remove(r); err != nil {
		return fmt.Errorf("remove volume %s: %w", r.Name, err)
	}
	if err := failpoint.Hit("volume-removed"); err != nil {
		return err
	}
	if err := e.Volumes.DeleteSoon(r.Namespace, r.Name); err != nil { // should it come back, it is removed again
		return fmt.Errorf("remove the record of volume %s: %w", r.Name, err)
	}
	e.publishVolume(r, "destroy", nil)
	return nil
}

// PruneVolumes removes the volumes of a namespace that no container has among its mounts and that match, and returns them
// with what they took.
func (e *Engine) PruneVolumes(ctx context.Context, ns string, match func(VolumeInfo) bool) ([]VolumeInfo, error) {
	all, err := e.ListVolumes(ctx, ns, false)
	if err != nil {
		return nil, err
	}
	var removed []VolumeInfo
	var errs []error
	for _, v := range all {
		if len(v.Users) > 0 || !match(v) {
			continue
		}
		sized, err := e.volumeInfo(ctx, v.Record, nil, true)
		if err != nil {
			e.Log.Warn("the size of a volume that is removed is not known", "volume", v.Name, "error", err)
			sized = v
		}
		err = e.RemoveVolume(ctx, ns, v.Name)
		switch {
		case err == nil:
			removed = append(removed, sized)
		case !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err): // somebody was faster, or has begun to use it
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// takeVolumes removes the anonymous volumes of a container that is being removed and has to take them along, but for
// those that others use. One that was not wholly made takes only what was made for it.
func (e *Engine) takeVolumes(ctx context.Context, c Container) error {
	if !c.TakeVolumes && c.State != Creating {
		return nil
	}
	var errs []error
	for _, i := range volumeMounts(c) {
		m := c.Request.Mounts[i]
		if volumeOf(m).Anonymous {
			errs = append(errs, e.takeVolume(ctx, c, m.Source))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) takeVolume(ctx context.Context, c Container, name string) error {
	unlock, err := e.lockVolume(ctx, c.Namespace, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.Volumes.Get(c.Namespace, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.State == Creating && r.MadeFor != c.ID {
		return nil
	}
	for _, u := range e.usersOf(c.Namespace, name) {
		if u.ID != c.ID {
			return nil
		}
	}
	return e.eraseVolume(r, e.Volumes.PutSoon) // that the container goes, and takes it along, is on disk
}
