package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Checkpoint writes a criu image of a running container to a directory.
func (e *Engine) Checkpoint(ctx context.Context, ns, id string, o CheckpointOptions) error {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.require("checkpoint", Running, Paused); err != nil {
		return err
	}
	if o.Path == "" {
		return fmt.Errorf("checkpoint of container %s: name a directory to write it to: %w", l.key.id, errdefs.ErrInvalidArgument)
	}
	l.at("writing a checkpoint")
	err = e.sandboxes.Checkpoint(ctx, wire.Checkpoint{
		Process: process(l, ""), Path: o.Path, WorkPath: o.WorkPath, LeaveRunning: o.LeaveRunning,
		TCPEstablished: o.TCPEstablished, FileLocks: o.FileLocks,
	})
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", l.key.id, err)
	}
	e.publish(l, "checkpoint", map[string]string{"path": o.Path})
	return nil
}

// CheckpointImageOptions is what a client says of a checkpoint that becomes an image.
type CheckpointImageOptions struct {
	Name           string // of the image
	Base           bool   // with the container's own image
	Changes        bool   // with what it has changed of its root filesystem
	Processes      bool   // with its processes, by criu; it ends unless LeaveRunning
	LeaveRunning   bool
	TCPEstablished bool
	FileLocks      bool
}

// savedContainer is the record of a checkpoint. The version counts changes that JSON does not bridge by itself.
type savedContainer struct {
	Version   int       `json:"version"`
	Container Container `json:"container"`
}

const savedVersion = 1

// CheckpointImage makes an image of a container: what it was made of, and as much of what it has become as is asked for.
// While its changes are read, its processes stand still.
func (e *Engine) CheckpointImage(ctx context.Context, ns, id string, o CheckpointImageOptions) (image.Image, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return image.Image{}, err
	}
	defer unlock()
	c := l.record()
	fail := func(err error) (image.Image, error) {
		return image.Image{}, fmt.Errorf("checkpoint container %s: %w", l.key.id, err)
	}
	if err := checkpointable(l, o); err != nil {
		return fail(err)
	}
	l.at("writing a checkpoint")
	saved := image.Checkpoint{}
	if saved.Record, err = json.Marshal(savedContainer{savedVersion, asMade(c)}); err != nil {
		return fail(err)
	}
	if o.Base {
		r, err := e.Images.Resolve(ctx, ns, c.Image, "")
		if err == nil && r.Manifest.Digest.String() != c.ImageDigest {
			err = fmt.Errorf("image %s is another one by now: leave it out: %w", c.Image, errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return fail(err)
		}
		saved.Base = &r.Manifest
	}
	if o.Processes {
		dir, err := os.MkdirTemp(e.State, "checkpoint-")
		if err != nil {
			return fail(err)
		}
		defer os.RemoveAll(dir)
		if err := e.dump(ctx, l, o, dir); err != nil {
			return fail(err)
		}
		saved.Processes = func(ctx context.Context, w io.Writer) error { return layer.Diff(ctx, w, "", dir, layer.DiffOptions{}) }
	}
	if o.Changes {
		if saved.Changes, err = e.changes(c); err != nil {
			return fail(err)
		}
		thaw, err := e.freeze(ctx, l)
		if err != nil {
			return fail(err)
		}
		defer thaw()
	}
	img, err := e.Images.SaveCheckpoint(ctx, ns, o.Name, saved)
	if err != nil {
		return fail(err)
	}
	e.publish(l, "checkpoint", map[string]string{"image": img.Name})
	return img, nil
}

// checkpointable refuses what cannot be saved, before anything is done.
func checkpointable(l *live, o CheckpointImageOptions) error {
	c := l.record()
	switch {
	case o.Processes:
		if err := l.require("checkpoint the processes of", Running, Paused); err != nil {
			return err
		}
	default:
		if err := l.require("checkpoint", Created, Running, Paused, Exited); err != nil {
			return err
		}
	}
	switch {
	case o.Base && c.Image == "":
		return fmt.Errorf("it was not made of an image: leave that out: %w", errdefs.ErrInvalidArgument)
	case o.Changes && c.Snapshot == "":
		return fmt.Errorf("its root filesystem %s is the host's, and not saved: %w", c.Request.Rootfs, errdefs.ErrInvalidArgument)
	case o.Changes && c.Request != nil && len(c.Request.UIDMap) > 0:
		return fmt.Errorf("its files belong to a user namespace: its changes cannot be put into another container: %w", errdefs.ErrNotImplemented)
	}
	return nil
}

// asMade is a record without what is true of this host and this run only.
func asMade(c Container) Container {
	c.State, c.PID, c.StartTime, c.CgroupPaths, c.Exit, c.Warnings, c.StartedAt = Created, 0, 0, nil, nil, nil, time.Time{}
	c.Supervisor, c.KeepSnapshot = "", false
	return c
}

func (e *Engine) dump(ctx context.Context, l *live, o CheckpointImageOptions, dir string) error {
	return e.sandboxes.Checkpoint(ctx, wire.Checkpoint{
		Process: process(l, ""), Path: dir, LeaveRunning: o.LeaveRunning, TCPEstablished: o.TCPEstablished, FileLocks: o.FileLocks,
	})
}

// changes writes what a container has changed of its image, as a layer.
func (e *Engine) changes(c Container) (func(context.Context, io.Writer) error, error) {
	d, ok := e.Snapshotters[c.Snapshotter].(snapshot.Differ)
	if !ok {
		return nil, fmt.Errorf("snapshotter %s does not tell what has changed: %w", c.Snapshotter, errdefs.ErrNotImplemented)
	}
	return func(ctx context.Context, w io.Writer) error {
		return d.Diff(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}, w)
	}, nil
}

// RestoreOptions is what a client says of a container that is made of a checkpoint.
type RestoreOptions struct {
	Image          string // the checkpoint
	ID             string // of the new container; empty: made
	Live           bool   // its processes go on, too
	TCPEstablished bool
}

// RestoreImage makes a container of a checkpoint: as the one that was saved was made, with what that had changed of its
// root filesystem, and with Live started where its processes were. Without Live it is not started.
func (e *Engine) RestoreImage(ctx context.Context, ns string, o RestoreOptions) (Container, error) {
	saved, err := e.Images.LoadCheckpoint(ctx, ns, o.Image)
	if err != nil {
		return Container{}, err
	}
	var record savedContainer
	if err := json.Unmarshal(saved.Record, &record); err != nil {
		return Container{}, fmt.Errorf("checkpoint %s: its record: %w: %w", saved.Name, err, errdefs.ErrDataLoss)
	}
	if record.Version != savedVersion {
		return Container{}, fmt.Errorf("checkpoint %s: of version %d, this program knows %d: %w", saved.Name, record.Version, savedVersion, errdefs.ErrFailedPrecondition)
	}
	options, err := e.asSaved(ctx, ns, o.ID, record.Container, saved)
	if err != nil {
		return Container{}, fmt.Errorf("restore %s: %w", saved.Name, err)
	}
	made, err := e.Create(ctx, ns, options)
	if err != nil {
		return Container{}, err
	}
	err = e.applyChanges(ctx, made, saved)
	if err == nil && o.Live {
		err = e.startSaved(ctx, made, saved, o)
	}
	if err != nil {
		l := e.exactly(ns, made.ID)
		if l == nil {
			return Container{}, err
		}
		_, undo := e.Delete(context.WithoutCancel(ctx), ns, made.ID, DeleteOptions{Force: true})
		if errdefs.IsNotFound(undo) {
			undo = nil
		}
		return Container{}, errors.Join(fmt.Errorf("restore container %s of %s: %w", made.ID, saved.Name, err), undo)
	}
	return e.Get(ctx, ns, made.ID)
}

// asSaved asks for the container that was saved, of the very image that it had.
func (e *Engine) asSaved(ctx context.Context, ns, id string, c Container, saved image.SavedCheckpoint) (CreateOptions, error) {
	o := CreateOptions{
		ID: id, Image: c.Image, Snapshotter: c.Snapshotter, Runtime: c.Runtime, Labels: c.Labels, Request: c.Request, Spec: c.Spec,
		Log:   wire.Log{Driver: c.Log.Driver, MaxSize: c.Log.MaxSize, MaxFiles: c.Log.MaxFiles},
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, AutoRemove: c.AutoRemove, NoPivot: c.NoPivot,
	}
	if c.Image == "" {
		return o, nil
	}
	r, err := e.Images.Resolve(ctx, ns, c.Image, "")
	switch {
	case err == nil && r.Manifest.Digest.String() == c.ImageDigest:
		return o, nil
	case saved.Base != nil && saved.Base.Digest.String() == c.ImageDigest:
		named, err := e.Images.NameBase(ns, c.Image, *saved.Base)
		o.Image = named.Name
		return o, err
	case err != nil:
		return o, err
	}
	return o, fmt.Errorf("image %s is %s, and the container was made of %s: pull that, or make the checkpoint with the image: %w",
		c.Image, r.Manifest.Digest, c.ImageDigest, errdefs.ErrFailedPrecondition)
}

// applyChanges makes the root filesystem of a new container what the saved one's was.
func (e *Engine) applyChanges(ctx context.Context, c Container, saved image.SavedCheckpoint) error {
	changes, err := saved.Changes(ctx)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer changes.Close()
	return e.ApplyChanges(ctx, c.Namespace, c.ID, changes)
}

// ApplyChanges applies a layer to the root filesystem of a container that has not been started: where it is mounted, because
// an overlay does not see what is written to its directories by another.
func (e *Engine) ApplyChanges(ctx context.Context, ns, id string, changes io.Reader) error {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.require("restore", Created); err != nil {
		return err
	}
	root, err := e.mountRootfs(ctx, l.record())
	if err != nil {
		return err
	}
	_, err = layer.Apply(ctx, root, changes, layer.ApplyOptions{})
	return err
}

// startSaved lets the processes of a checkpoint go on in a new container.
func (e *Engine) startSaved(ctx context.Context, c Container, saved image.SavedCheckpoint, o RestoreOptions) error {
	processes, err := saved.Processes(ctx)
	if err != nil {
		return err
	}
	defer processes.Close()
	dir := filepath.Join(e.Bundle(c), "checkpoint")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := layer.Apply(ctx, dir, processes, layer.ApplyOptions{}); err != nil {
		return err
	}
	_, err = e.Start(ctx, c.Namespace, c.ID, StartOptions{Restore: dir, TCPEstablished: o.TCPEstablished})
	return err
}
