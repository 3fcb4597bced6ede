package engine

import (
	"cmp"
	"context"
	"errors"
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
	"github.com/minirt/mini/runtime/plugin"
	"github.com/minirt/mini/runtime/snapshot"
)

// validID is what a container may be called: what libcontainer accepts, without a leading punctuation mark.
var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Create makes a container of an image, a root filesystem or a whole spec: its record, its snapshot and its bundle.
// No process starts. An id that is taken is ErrAlreadyExists.
//
// One that is asked for again under the same key is the one that is being made, or that is there and has not run.
func (e *Engine) Create(ctx context.Context, ns string, o CreateOptions) (Container, error) {
	return e.flights.do(ctx, flightKey(ns, o.Key), func(ctx context.Context) (Container, error) {
		if l := e.byKey(ns, o.Key); l != nil {
			if half, err := e.clearHalf(ctx, l); err != nil {
				return Container{}, err
			} else if !half {
				return createdAgain(l)
			}
		}
		return e.create(ctx, ns, o)
	})
}

func (e *Engine) create(ctx context.Context, ns string, o CreateOptions) (Container, error) {
	if err := e.fromPod(ns, &o); err != nil {
		return Container{}, err
	}
	if err := e.checkCreate(&o); err != nil {
		return Container{}, err
	}
	e.sandboxes.Warm(o.Supervisor)
	resolved, err := e.unpacked(ctx, ns, o)
	if err != nil {
		return Container{}, err
	}
	if err := e.planVolumes(ns, &o, resolved); err != nil {
		return Container{}, fmt.Errorf("container %s: %w", o.ID, err)
	}
	if err := e.Namespaces.Ensure(ns); err != nil {
		return Container{}, err
	}
	record, err := e.newRecord(ns, o, resolved)
	if err == nil {
		err = e.chooseLabels(&record)
	}
	if err != nil {
		return Container{}, err
	}
	l, unlock, err := e.reserve(ctx, record, o.GenerateName)
	if err != nil {
		e.releaseLabels(record)
		return Container{}, err
	}
	defer unlock()

	if err := e.build(ctx, l, o); err != nil {
		if undo := e.undo(ctx, l); undo != nil {
			e.Log.Warn("a container that could not be made is not wholly removed", "id", l.key.id, "error", undo)
		}
		return Container{}, fmt.Errorf("create container %s: %w", l.key.id, err)
	}
	e.publish(l, "create", nil)
	e.tellContainer(ctx, l, plugin.ContainerCreated)
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
	o.Snapshotter = cmp.Or(o.Snapshotter, e.Snapshotter)
	if e.Snapshotters[o.Snapshotter] == nil {
		return fmt.Errorf("snapshotter %q: this daemon has %s; others are added as [snapshotters] in its configuration: %w", o.Snapshotter,
			strings.Join(slices.Sorted(maps.Keys(e.Snapshotters)), ", "), errdefs.ErrInvalidArgument)
	}
	if _, known := e.runtime(o.Runtime); !known {
		return e.unknownRuntime(o.Runtime)
	}
	if err := checkManner(o); err != nil {
		return fmt.Errorf("container %s: %w", o.ID, err)
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

func (e *Engine) unknownRuntime(name string) error {
	known := slices.DeleteFunc(slices.Sorted(maps.Keys(e.runtimes().Paths)), func(n string) bool { return n == "" })
	return fmt.Errorf("runtime %q: not in the configuration, which has %s beside the built-in one: add [runtimes.%s] with its path: %w",
		name, cmp.Or(strings.Join(known, ", "), "none"), name, errdefs.ErrInvalidArgument)
}

// byKey finds the container that a client has named so.
func (e *Engine) byKey(ns, name string) *live {
	if name == "" {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.keys[key{ns, name}]
}

// clearHalf removes a container that a crash has left half made or half removed, and says whether it was one: nobody else
// makes it, for who does is joined.
func (e *Engine) clearHalf(ctx context.Context, l *live) (half bool, err error) {
	if s := l.state(); s != Creating && s != Removing {
		return false, nil
	}
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		return true, fmt.Errorf("container %s is busy (%s): %w", l.key.id, l.stage(), err)
	}
	defer unlock()
	if l.isGone() {
		return true, nil
	}
	return true, e.undo(ctx, l)
}

// createdAgain answers who asks for a container that is there.
func createdAgain(l *live) (Container, error) {
	c := l.record()
	if c.State == Created {
		return c, nil
	}
	return Container{}, fmt.Errorf("container %s is there under the same name and is %s: remove it, or make the next attempt: %w",
		c.ID, c.State, errdefs.ErrAlreadyExists)
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

func (e *Engine) newRecord(ns string, o CreateOptions, r image.Resolved) (Container, error) {
	c := Container{
		ID: o.ID, Namespace: ns, State: Creating,
		Image: r.Image.Name, ImageDigest: r.Manifest.Digest.String(), ChainID: r.ChainID, ImageConfig: r.Config.Config,
		Runtime: o.Runtime, Supervisor: o.Supervisor, Pod: o.Pod, Role: o.Role, Key: o.Key, InPod: o.InPod, Front: o.Front, Labels: o.Labels, Log: o.Log, Logging: o.Logging,
		Stdin: o.Stdin, StdinOnce: o.StdinOnce, AutoRemove: o.AutoRemove, NoPivot: o.NoPivot,
		Request: o.Request, Spec: o.Spec, Tuning: o.Tuning, Forbidden: o.Forbidden, CreatedAt: time.Now(), Name: o.Name, Net: o.Net, Restart: o.Restart,
		HealthCheck: effectiveCheck(r.HealthCheck, o.HealthCheck), StopTimeout: o.StopTimeout, Init: o.Init, InitBinary: o.InitBinary,
		TakeVolumes: o.AutoRemove || o.Pod != "",
	}
	if o.Image != "" {
		c.Snapshotter, c.Snapshot, c.ConfigDigest = o.Snapshotter, o.ID, r.ConfigDigest.String()
	} else {
		c.ImageDigest = ""
	}
	if len(imageMounts(c)) > 0 {
		c.Snapshotter = o.Snapshotter
	}
	c.StartFollows = o.StartFollows
	if ref, err := name.Parse(c.Image); err == nil {
		c.Image = ref.String()
	}
	if err := e.chooseLog(&c); err != nil {
		return Container{}, fmt.Errorf("container %s: %w", c.ID, err)
	}
	return c, nil
}

// reserve writes the record, and gives back the container with its lock held. Should a power cut undo that, what was made
// has no owner: recovery removes it (removeUnowned).
func (e *Engine) reserve(ctx context.Context, c Container, generate bool) (*live, func(), error) {
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
	l := &live{key: k, pod: c.Pod, name: c.Key, rec: c, procs: map[string]*proc{}}
	if err := e.takeName(l, generate); err != nil {
		unlock()
		return nil, nil, err
	}
	if err := e.Containers.PutSoon(c.Namespace, c.ID, l.rec); err != nil {
		e.freeName(l, l.rec.Name)
		unlock()
		return nil, nil, fmt.Errorf("record container %s: %w", c.ID, err)
	}
	l.show(l.rec)
	e.mu.Lock()
	e.containers[k] = l
	e.keys.put(k.ns, l.name, l)
	e.mu.Unlock()
	return l, unlock, nil
}

// build makes what the record announces: the snapshot, the mounted root filesystem, the spec and the bundle.
func (e *Engine) build(ctx context.Context, l *live, o CreateOptions) error {
	c := l.record()
	if err := failpoint.Hit("create-recorded"); err != nil {
		return err
	}
	if err := e.labelled(e.Bundle(c), filesLabel(c), 0o711); err != nil {
		return err
	}
	l.at("preparing its snapshot")
	opts, err := e.snapshotOptions(c, o)
	if err != nil {
		return err
	}
	if c.Snapshot != "" {
		_, err := e.Snapshotters[c.Snapshotter].Prepare(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}, c.ChainID, opts)
		if err != nil {
			return fmt.Errorf("prepare its snapshot: %w", err)
		}
	}
	if err := e.viewImages(ctx, c, opts); err != nil {
		return err
	}
	if err := failpoint.Hit("create-prepared"); err != nil {
		return err
	}
	if err := errors.Join(e.makeVolumes(ctx, l), e.linkLog(c)); err != nil {
		return err
	}
	release, err := e.consult(ctx, l)
	defer release()
	if err != nil {
		return err
	}
	l.at("writing its bundle")
	warnings, err := e.writeBundle(ctx, l.record())
	if err == nil && o.ImageVolumes == ImageVolumesMkdir {
		err = e.makeDeclared(l.record())
	}
	if err != nil {
		return err
	}
	if err := failpoint.Hit("create-bundled"); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("nobody waits for it any more: %w", context.Cause(ctx))
	}
	record := e.save
	if c.AutoRemove || c.Pod != "" {
		record = e.note // after a power cut nobody comes back to it
	}
	return record(l, func(c *Container) { c.State, c.Warnings = Created, warnings })
}

// snapshotOptions are those of a container's snapshots. A pod that is being ended has none made any more: the container
// is in the table by now, where who ends the pod looks.
func (e *Engine) snapshotOptions(c Container, o CreateOptions) (snapshot.Options, error) {
	opts := snapshot.Options{Labels: o.SnapshotLabels, Volatile: c.AutoRemove} // what removes itself does not come back after a power cut
	if c.Request == nil {
		return opts, nil
	}
	if err := e.requirePod(c, "make a container in it"); err != nil {
		return opts, err
	}
	request, err := e.asked(c)
	if err == nil {
		opts.UIDMap, opts.GIDMap = idMap(request.UIDMap), idMap(request.GIDMap)
		opts.Size, err = e.rootfsSize(c, request.RootfsSize)
	}
	return opts, err
}

// rootfsSize refuses a size where nothing would hold to it.
func (e *Engine) rootfsSize(c Container, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	if _, bounded := e.Snapshotters[c.Snapshotter].(snapshot.Bounded); size < 0 || !bounded {
		return 0, fmt.Errorf("a root filesystem of %d bytes: the snapshotter %s does not bound what is written: choose one of the type blockfile or devmapper: %w", size, cmp.Or(c.Snapshotter, "(none)"), errdefs.ErrInvalidArgument)
	}
	return size, nil
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
	if mounts, err = e.inContext(mounts, filesLabel(c)); err != nil {
		return "", fmt.Errorf("label its root filesystem: %w", err)
	}
	if err := mount.All(mounts, root); err != nil {
		return "", fmt.Errorf("mount its root filesystem: %w", err)
	}
	return root, nil
}
