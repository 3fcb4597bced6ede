package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/volume"
)

// NewVolume is a volume that is asked for.
type NewVolume struct {
	Name string // empty: made
	spec.Volume
}

// CreateVolume makes a volume. One that is there under the name is returned as it is, as with Docker, unless it has other
// options than those that are asked for: ErrAlreadyExists.
func (e *Engine) CreateVolume(ctx context.Context, ns string, o NewVolume) (VolumeInfo, error) {
	if o.Name == "" {
		o.Name, o.Anonymous = id.New(), true
	}
	if err := checkVolume(o); err != nil {
		return VolumeInfo{}, err
	}
	if err := e.Namespaces.Ensure(ns); err != nil {
		return VolumeInfo{}, err
	}
	unlock, err := e.lockVolume(ctx, ns, o.Name)
	if err != nil {
		return VolumeInfo{}, err
	}
	defer unlock()
	r, err := e.ensureVolume(ns, o, o.Name)
	if err != nil {
		return VolumeInfo{}, err
	}
	return e.volumeInfo(ctx, r, e.usersOf(ns, r.Name), false)
}

// checkVolume tells what is wrong with what is asked of a volume.
func checkVolume(o NewVolume) error {
	if o.Name != "" {
		if err := volume.CheckName(o.Name); err != nil {
			return err
		}
	}
	if err := volume.CheckDriver(o.Driver); err != nil {
		return fmt.Errorf("volume %s: %w", o.Name, err)
	}
	if err := volume.CheckOptions(o.Options); err != nil {
		return fmt.Errorf("volume %s: %w", o.Name, err)
	}
	if err := store.ValidLabels(o.Labels); err != nil {
		return fmt.Errorf("volume %s: %w", o.Name, err)
	}
	return nil
}

// ensureVolume makes a volume unless it is there. The caller has its lock. For an anonymous one, madeFor is whom.
func (e *Engine) ensureVolume(ns string, o NewVolume, madeFor string) (volume.Record, error) {
	r, err := e.Volumes.Get(ns, o.Name)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return r, err
	case r.State == volume.Removing: // which has failed half way
		if err := e.eraseVolume(r, e.Volumes.Put); err != nil {
			return r, err
		}
	default:
		if len(o.Options) > 0 && !maps.Equal(o.Options, r.Options) {
			return r, fmt.Errorf("volume %s exists with other options (%s): remove it first, or choose another name: %w",
				o.Name, optionsText(r.Options), errdefs.ErrAlreadyExists)
		}
		return r, e.volumeFiles.Make(r)
	}
	r = volume.Record{
		Name: o.Name, Namespace: ns, Driver: volume.DriverLocal, Labels: o.Labels, Options: o.Options, CreatedAt: time.Now(), State: volume.Ready,
	}
	if o.Anonymous {
		r.MadeFor = madeFor
	}
	// On disk before its directory is, whatever else of its container a power cut undoes: files without an owner stay.
	if err := e.Volumes.Create(ns, r.Name, r); err != nil {
		return r, fmt.Errorf("record volume %s: %w", r.Name, err)
	}
	err = failpoint.Hit("volume-recorded")
	if err == nil {
		err = e.volumeFiles.Make(r)
	}
	if err == nil {
		err = failpoint.Hit("volume-made")
	}
	if err != nil {
		return r, errors.Join(fmt.Errorf("make volume %s: %w", r.Name, err), e.eraseVolume(r, e.Volumes.Put))
	}
	e.publishVolume(r, "create", nil)
	return r, nil
}

func optionsText(options map[string]string) string {
	if len(options) == 0 {
		return "none"
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(options)) {
		all = append(all, key+"="+options[key])
	}
	return strings.Join(all, ", ")
}
