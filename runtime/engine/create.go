package engine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// validID is what a container may be called: what libcontainer accepts, without a leading punctuation mark.
var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Create makes a container of an image, a root filesystem or a whole spec: its record, its snapshot and its bundle.
// No process starts. An id that is taken is ErrAlreadyExists.
func (e *Engine) Create(ctx context.Context, ns string, o CreateOptions) (Container, error) {
	if err := e.checkCreate(&o); err != nil {
		return Container{}, err
	}
	e.sandboxes.Warm(o.Supervisor)
	resolved, err := e.unpacked(ctx, ns, o)
	if err != nil {
		return Container{}, err
	}
	if err := e.Namespaces.Ensure(ns); err != nil {
		return Container{}, err
	}
	l, unlock, err := e.reserve(ctx, e.newRecord(ns, o, resolved))
	if err != nil {
		return Container{}, err
	}
	defer unlock()

	if err := e.build(ctx, l, o); err != nil {
		if undo := e.undo(ctx, l); undo != nil {
			e.Log.Warn("a container that could not be made is not wholly removed", "id", l.key.id, "error", undo)
		}
		return Container{}, fmt.Errorf("create container %s: %w", l.key.id, err)
	}
	e.publish(l, "create", map[string]string{"image": l.record().Image})
	return l.record(), nil
}

func (e *Engine) checkCreate(o *CreateOptions) error {
	if o.ID == "" {
		o.ID = id.New()
	}
	if o.Supervisor == "" {
		o.Supervisor = o.ID
	}
	if !validID.MatchString(o.ID) {
		return fmt.Errorf("container id %q: use letters, digits, _ . - and begin with a letter or digit, at most 128: %w",
			o.ID, errdefs.ErrInvalidArgument)
	}
	if o.Snapshotter == "" {
		o.Snapshotter = e.Snapshotter
	}
	if e.Snapshotters[o.Snapshotter] == nil {
		return fmt.Errorf("snapshotter %q: this daemon has %s: %w", o.Snapshotter,
			strings.Join(slices.Sorted(maps.Keys(e.Snapshotters)), ", "), errdefs.ErrInvalidArgument)
	}
	if _, known := e.Config.Runtimes[o.Runtime]; o.Runtime != "" && !known {
		return fmt.Errorf("runtime %q: not in the configuration: add [runtimes.%s] with its path: %w",
			o.Runtime, o.Runtime, errdefs.ErrInvalidArgument)
	}
	switch {
	case o.Spec != nil && o.Request != nil:
		return fmt.Errorf("container %s: give a request or a whole spec, not both: %w", o.ID, errdefs.ErrInvalidArgument)
	case o.Spec != nil:
		return bundle.Validate(o.Spec)
	case o.Request == nil:
		return fmt.Errorf("container %s: neither a request nor a spec: %w", o.ID, errdefs.ErrInvalidArgument)
	case o.Image == "" && o.Request.Rootfs == "":
		return fmt.Errorf("container %s: neither an image nor a root filesystem: name one: %w", o.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// unpacked resolves the image and unpacks it for the snapshotter when it is not.
func (e *Engine) unpacked(ctx context.Context, ns string, o CreateOptions) (image.Resolved, error) {
	if o.Image == "" {
		return image.Resolved{}, nil
	}
	resolved, err := e.Images.Resolve(ctx, ns, o.Image, o.Platform)
	if err != nil {
		return image.Resolved{}, err
	}
	chain, err := e.Images.Unpack(ctx, ns, resolved.Image.Name, o.Snapshotter, o.Platform, nil)
	if err != nil {
		return image.Resolved{}, fmt.Errorf("unpack image %s: %w", resolved.Image.Name, err)
	}
	resolved.ChainID = chain
	return resolved, nil
}

func (e *Engine) newRecord(ns string, o CreateOptions, r image.Resolved) Container {
	c := Container{
		ID: o.ID, Namespace: ns, State: Creating,
		Image: r.Image.Name, ImageDigest: r.Manifest.Digest.String(), ChainID: r.ChainID, ImageConfig: r.Config.Config,
		Runtime: o.Runtime, Supervisor: o.Supervisor, Labels: o.Labels, Log: o.Log,
		Stdin: o.Stdin, StdinOnce: o.StdinOnce, AutoRemove: o.AutoRemove, NoPivot: o.NoPivot,
		Request: o.Request, Spec: o.Spec, CreatedAt: time.Now(),
	}
	if o.Image != "" {
		c.Snapshotter, c.Snapshot = o.Snapshotter, o.ID
	} else {
		c.ImageDigest = ""
	}
	if ref, err := name.Parse(c.Image); err == nil {
		c.Image = ref.String()
	}
	if c.Log.Driver == "" {
		c.Log.Driver = "json-file"
	}
	if c.Log.Driver != "none" && c.Log.Path == "" {
		c.Log.Path = e.logPath(c)
	}
	if c.Log.MaxSize == 0 && c.Log.Driver == "json-file" {
		c.Log.MaxSize, c.Log.MaxFiles = e.Config.LogMaxSize, e.Config.LogMaxFiles
	}
	return c
}

// reserve writes the record, and gives back the container with its lock held. Should a power cut undo that, what was made
// has no owner: recovery removes it (removeUnowned).
func (e *Engine) reserve(ctx context.Context, c Container) (*live, func(), error) {
	k := key{c.Namespace, c.ID}
	unlock, err := e.locks.Lock(ctx, k.String())
	if err != nil {
		return nil, nil, fmt.Errorf("container %s is busy: %w", c.ID, err)
	}
	// Nobody else writes this record. A damaged one is there too, though only in the store.
	switch _, err := e.Containers.Get(c.Namespace, c.ID); {
	case errdefs.IsNotFound(err):
	case err != nil && !errdefs.IsDataLoss(err) && !errdefs.IsFailedPrecondition(err):
		unlock()
		return nil, nil, fmt.Errorf("record container %s: %w", c.ID, err)
	default:
		unlock()
		return nil, nil, fmt.Errorf("container %s exists in namespace %s: choose another id, or remove it first: %w",
			c.ID, c.Namespace, errdefs.ErrAlreadyExists)
	}
	if err := e.Containers.PutSoon(c.Namespace, c.ID, c); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("record container %s: %w", c.ID, err)
	}
	l := &live{key: k, rec: c, procs: map[string]*proc{}}
	e.mu.Lock()
	e.containers[k] = l
	e.mu.Unlock()
	return l, unlock, nil
}

// build makes what the record announces: the snapshot, the mounted root filesystem, the spec and the bundle.
func (e *Engine) build(ctx context.Context, l *live, o CreateOptions) error {
	c := l.record()
	if err := failpoint.Hit("create-recorded"); err != nil {
		return err
	}
	if c.Snapshot != "" {
		l.at("preparing its snapshot")
		// What removes itself does not come back after a power cut.
		opts := snapshot.Options{Labels: o.SnapshotLabels, Volatile: c.AutoRemove}
		if c.Request != nil {
			opts.UIDMap, opts.GIDMap = idMap(c.Request.UIDMap), idMap(c.Request.GIDMap)
		}
		_, err := e.Snapshotters[c.Snapshotter].Prepare(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}, c.ChainID, opts)
		if err != nil {
			return fmt.Errorf("prepare its snapshot: %w", err)
		}
	}
	if err := failpoint.Hit("create-prepared"); err != nil {
		return err
	}
	l.at("writing its bundle")
	warnings, err := e.writeBundle(ctx, c)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("create-bundled"); err != nil {
		return err
	}
	record := e.save
	if c.AutoRemove {
		record = e.note // after a power cut nobody comes back to it
	}
	return record(l, func(c *Container) { c.State, c.Warnings = Created, warnings })
}

// mountRootfs mounts the container's snapshot in its bundle, unless it is there already.
func (e *Engine) mountRootfs(ctx context.Context, c Container) (string, error) {
	root := rootfsDir(e.Bundle(c))
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	mounted, err := mount.Mounted(root)
	if err != nil || mounted {
		return root, err
	}
	mounts, err := e.Snapshotters[c.Snapshotter].Mounts(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot})
	if err != nil {
		return "", fmt.Errorf("its snapshot: %w", err)
	}
	if err := mount.All(mounts, root); err != nil {
		return "", fmt.Errorf("mount its root filesystem: %w", err)
	}
	return root, nil
}
