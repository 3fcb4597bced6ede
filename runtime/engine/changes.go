package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// Changes tells what a container has changed in its root filesystem since it was made, in the order of a walk.
func (e *Engine) Changes(ctx context.Context, ns, id string) ([]layer.Change, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, s, err := e.withFiles(ctx, l)
	if err != nil {
		return nil, err
	}
	var all []layer.Change
	err = e.compare(ctx, c, func(pair snapshot.Compared) error {
		all, err = pair.Changes(ctx, layer.DiffOptions{Omit: mountPoints(c, s)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("changes of container %s: %w", l.key.id, err)
	}
	return all, nil
}

// Export archives a container's root filesystem, without what is mounted into it.
func (e *Engine) Export(ctx context.Context, ns, id string, w io.Writer) error {
	t, err := e.ownFilesOf(ctx, ns, id)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := layer.Pack(ctx, w, t.path(), "", layer.PackOptions{UIDMap: t.uid, GIDMap: t.gid}); err != nil {
		return fmt.Errorf("export container %s: %w", id, err)
	}
	return nil
}

// compare shows what a container's root filesystem was and what it is.
func (e *Engine) compare(ctx context.Context, c Container, do func(snapshot.Compared) error) (err error) {
	if c.Snapshot == "" {
		return fmt.Errorf("its root filesystem is the host's, and nobody knows what it was: %w", errdefs.ErrInvalidArgument)
	}
	sn := e.Snapshotters[c.Snapshotter]
	key := snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}
	if comparer, ok := sn.(snapshot.Comparer); ok {
		return comparer.Compare(ctx, key, do)
	}
	upper, err := e.mountRootfs(ctx, c)
	if err != nil {
		return err
	}
	pair := snapshot.Compared{Upper: upper}
	if c.Request != nil {
		pair.UIDMap, pair.GIDMap = idMap(c.Request.UIDMap), idMap(c.Request.GIDMap)
	}
	info, err := sn.Info(ctx, key)
	if err != nil || info.Parent == "" {
		return errors.Join(err, do(pair))
	}
	if err := e.removeComparison(ctx, c); err != nil { // what a crash has left
		return err
	}
	mounts, err := sn.View(ctx, comparisonKey(c), info.Parent, snapshot.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.removeComparison(context.WithoutCancel(ctx), c)) }()
	if len(mounts) != 1 {
		return fmt.Errorf("a view of its image has %d mounts, want one: %w", len(mounts), errdefs.ErrNotImplemented)
	}
	lower, err := mount.Tree(mounts[0])
	if err != nil {
		return err
	}
	defer lower.Close()
	pair.Lower = fmt.Sprintf("/proc/self/fd/%d", lower.Fd())
	return do(pair)
}

// comparisonKey is a view of what a container was made of, where compare needs one. It is the container's: nobody else makes
// it while that is locked, and it goes with it.
func comparisonKey(c Container) snapshot.Key {
	return snapshot.Key{Namespace: c.Namespace, Name: c.ID + "-comparison"}
}

func (e *Engine) removeComparison(ctx context.Context, c Container) error {
	sn := e.Snapshotters[c.Snapshotter]
	if _, ok := sn.(snapshot.Comparer); ok || c.Snapshot == "" || sn == nil {
		return nil
	}
	if err := sn.Remove(ctx, comparisonKey(c)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// mountPoints are the names that the runtime makes in a root filesystem to mount what every container has. What a client
// mounts itself is not among them: it counts as a change, as with docker.
func mountPoints(c Container, s *specs.Spec) map[string]bool {
	points := map[string]bool{"dev/console": true, "dev": true, "proc": true, "sys": true}
	for _, m := range s.Mounts {
		points[strings.Trim(m.Destination, "/")] = true
	}
	if c.Request != nil {
		for _, m := range c.Request.Mounts {
			delete(points, strings.Trim(m.Target, "/"))
		}
		for target := range c.Request.Tmpfs {
			delete(points, strings.Trim(target, "/"))
		}
	}
	return points
}

// usedImages are those that containers were made of: they are kept while these are, which can be committed.
func (e *Engine) usedImages() []image.Used {
	e.mu.RLock()
	lives := make([]*live, 0, len(e.containers))
	for _, l := range e.containers {
		lives = append(lives, l)
	}
	e.mu.RUnlock()
	used := map[image.Used]bool{}
	for _, l := range lives {
		if c := l.record(); c.ImageDigest != "" {
			used[image.Used{Namespace: c.Namespace, Digest: c.ImageDigest}] = true
		}
	}
	return slices.Collect(maps.Keys(used))
}
