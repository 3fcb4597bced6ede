package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/treecopy"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/volume"
)

// A volume is a bind of its directory. What takes a mount of its own is mounted when the container starts, and taken away
// when it has ended: the volume itself, where its options say what is mounted on it, and a path below it, which is looked
// up then, for who has the volume can change what leads there.

// volumesDir has what is mounted for each mount of a path below a volume, named by its place in the request.
func volumesDir(bundle string) string { return filepath.Join(bundle, "volumes") }

// bindVolumes turns the request's volumes into binds. Where the container has a user namespace, it finds the files of a
// volume under its own ids, as one without finds them.
func (e *Engine) bindVolumes(c Container, r spec.Request) spec.Request {
	at := volumeMounts(c)
	if len(at) == 0 {
		return r
	}
	first := len(r.Mounts) - len(c.Request.Mounts) // those of the pod come before
	r.Mounts = slices.Clone(r.Mounts)
	for _, i := range at {
		m := c.Request.Mounts[i]
		source := e.VolumePath(c.Namespace, m.Source)
		if m.SubPath != "" {
			source = filepath.Join(volumesDir(e.Bundle(c)), strconv.Itoa(i))
		}
		m.Type, m.Source, m.SubPath, m.Volume = "bind", source, "", nil
		if len(m.UIDMap) == 0 && len(m.GIDMap) == 0 {
			m.UIDMap, m.GIDMap = r.UIDMap, r.GIDMap
		}
		r.Mounts[first+i] = m
	}
	return r
}

// makeVolumes makes the volumes that a new container mounts, where they are not there, and fills those that are empty with
// what the image has there.
func (e *Engine) makeVolumes(ctx context.Context, l *live) error {
	c := l.record()
	for _, i := range volumeMounts(c) {
		m := c.Request.Mounts[i]
		l.at("making volume " + m.Source)
		if err := e.makeVolume(ctx, c, m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func (e *Engine) makeVolume(ctx context.Context, c Container, m spec.Mount) error {
	unlock, err := e.lockVolume(ctx, c.Namespace, m.Source)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.ensureVolume(c.Namespace, NewVolume{m.Source, volumeOf(m)}, c.ID)
	if err != nil {
		return err
	}
	if c.Snapshot == "" || m.SubPath != "" {
		return nil
	}
	if err := e.fillVolume(ctx, c, m, r); err != nil {
		return fmt.Errorf("volume %s: %w", r.Name, err)
	}
	return failpoint.Hit("volume-ready")
}

// fillVolume gives an empty volume the files that the image has where it is mounted.
func (e *Engine) fillVolume(ctx context.Context, c Container, m spec.Mount, r volume.Record) error {
	root, err := e.mountRootfs(ctx, c)
	if err != nil {
		return err
	}
	from, err := resolveIn(root, m.Target)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("find %s in the image: %w", m.Target, err)
	case !isDir(from):
		return fmt.Errorf("cannot mount volume over existing file, file exists %s: choose another target: %w", m.Target, errdefs.ErrInvalidArgument)
	case volumeOf(m).NoCopy || e.volumeFiles.InUse(r): // what others have mounted, they could change meanwhile
		return nil
	}
	inside, err := e.idsInside(c)
	if err != nil {
		return err
	}
	user := c.Namespace + "/" + c.ID
	if _, err := e.volumeFiles.Mount(ctx, r, user); err != nil {
		return err
	}
	lasting := !(volumeOf(m).Anonymous && c.TakeVolumes) // after a power cut nobody comes back to what goes with its container
	err = e.volumeFiles.Fill(ctx, r, from, inside, lasting)
	_, end := e.volumeFiles.Unmount(r, user)
	return errors.Join(err, end)
}

// idsInside turns the owners of a container's root filesystem into those that its user namespace knows: of what it has,
// volumes have the owners as the container sees them.
func (e *Engine) idsInside(c Container) (treecopy.Options, error) {
	r, err := e.asked(c)
	if err != nil || len(r.UIDMap) == 0 {
		return treecopy.Options{}, err
	}
	uids, gids := inverse(r.UIDMap), inverse(r.GIDMap)
	return treecopy.Options{
		UID: func(id uint32) uint32 { return snapshot.HostID(id, uids) },
		GID: func(id uint32) uint32 { return snapshot.HostID(id, gids) },
	}, nil
}

func inverse(maps []specs.LinuxIDMapping) []snapshot.IDMap {
	out := idMap(maps)
	for i, m := range out {
		out[i].ContainerID, out[i].HostID = m.HostID, m.ContainerID
	}
	return out
}

// mountVolumes mounts what of a container's volumes has to be mounted before it starts. It may be repeated.
func (e *Engine) mountVolumes(ctx context.Context, l *live) error {
	c := l.record()
	for _, i := range volumeMounts(c) {
		m := c.Request.Mounts[i]
		l.at("mounting volume " + m.Source)
		if err := e.mountVolume(ctx, c, i, m); err != nil {
			return fmt.Errorf("mount %s: volume %s: %w", m.Target, m.Source, err)
		}
	}
	return nil
}

func (e *Engine) mountVolume(ctx context.Context, c Container, i int, m spec.Mount) error {
	unlock, err := e.lockVolume(ctx, c.Namespace, m.Source)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.findVolume(c.Namespace, m.Source)
	if err != nil {
		return err
	}
	if r.State == volume.Removing {
		return fmt.Errorf("its removal has begun: remove it again: %w", errdefs.ErrFailedPrecondition)
	}
	if err := e.volumeFiles.Make(r); err != nil { // as after a power cut
		return err
	}
	if _, err := e.volumeFiles.Mount(ctx, r, c.Namespace+"/"+c.ID); err != nil {
		return err
	}
	if err := e.volumeFiles.Settle(ctx, r); err != nil {
		return err
	}
	e.publishVolume(r, "mount", map[string]string{"container": c.ID, "destination": m.Target})
	if m.SubPath == "" {
		return nil
	}
	target := filepath.Join(volumesDir(e.Bundle(c)), strconv.Itoa(i))
	return errors.Join(mount.Unmount(target), volume.BindBelow(e.volumeFiles.Path(r), m.SubPath, target))
}

// releaseVolumes takes away what mountVolumes has mounted. It may be repeated.
func (e *Engine) releaseVolumes(ctx context.Context, c Container) error {
	at := volumeMounts(c)
	if len(at) == 0 {
		return nil
	}
	errs := []error{unmountIn(volumesDir(e.Bundle(c)))}
	for _, i := range at {
		errs = append(errs, e.releaseVolume(ctx, c, c.Request.Mounts[i]))
	}
	return errors.Join(errs...)
}

func (e *Engine) releaseVolume(ctx context.Context, c Container, m spec.Mount) error {
	unlock, err := e.lockVolume(ctx, c.Namespace, m.Source)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.Volumes.Get(c.Namespace, m.Source)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = e.volumeFiles.Unmount(r, c.Namespace+"/"+c.ID)
	return err
}

// releaseQuietly is releaseVolumes, whatever becomes of the caller. The next start, or the removal, tries again.
func (e *Engine) releaseQuietly(ctx context.Context, c Container) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if err := e.releaseVolumes(ctx, c); err != nil {
		e.Log.Warn("volumes of a container that does not run stay mounted", "id", c.ID, "error", err)
	}
}
