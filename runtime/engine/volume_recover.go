package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/volume"
)

// volumeRecords are the volumes of all namespaces.
func (e *Engine) volumeRecords() []volume.Record {
	entries, err := e.Volumes.List("")
	if errdefs.IsDataLoss(err) {
		e.Log.Error("some volumes are not known; see what check says", "error", err)
	} else if err != nil {
		e.Log.Error("the volumes are not known", "error", err)
	}
	all := make([]volume.Record, len(entries))
	for i, r := range entries {
		all[i] = r.Value
	}
	return all
}

// holdVolumes makes known who has mounted the volumes that are mounts: the containers that run. It comes before anything
// of a container is taken away.
func (e *Engine) holdVolumes() {
	e.mu.RLock()
	lives := make([]*live, 0, len(e.containers))
	for _, l := range e.containers {
		lives = append(lives, l)
	}
	e.mu.RUnlock()
	for _, l := range lives {
		c := l.record()
		if c.State != Running && c.State != Paused {
			continue
		}
		for _, i := range volumeMounts(c) {
			r, err := e.findVolume(c.Namespace, c.Request.Mounts[i].Source)
			if err != nil {
				e.Log.Warn("a volume of a running container is not known", "id", c.ID, "error", err)
				continue
			}
			e.volumeFiles.Hold(r, c.Namespace+"/"+c.ID)
		}
	}
}

// recoverVolumes ends what a crash has interrupted: removals, and copies of an image's files. Volumes that nobody has
// mounted any more are unmounted.
func (e *Engine) recoverVolumes() {
	for _, r := range e.volumeRecords() {
		if e.ctx.Err() != nil {
			return // the next daemon does it
		}
		if err := e.recoverVolume(r); err != nil {
			e.Log.Warn("a volume is left as a crash has left it", "volume", r.Name, "namespace", r.Namespace, "error", err)
		}
	}
}

func (e *Engine) recoverVolume(r volume.Record) error {
	unlock, err := e.lockVolume(e.ctx, r.Namespace, r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err = e.Volumes.Get(r.Namespace, r.Name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.State == volume.Removing {
		return e.eraseVolume(r, e.Volumes.Put)
	}
	if err := e.volumeFiles.Make(r); err != nil {
		return err
	}
	if len(r.Options) == 0 {
		return e.volumeFiles.Settle(e.ctx, r)
	}
	_, err = e.volumeFiles.Unmount(r, "")
	return err
}

// checkVolumes compares the volumes' records with their files, in both directions.
func (e *Engine) checkVolumes(ctx context.Context, repair bool) ([]Problem, int) {
	var found []Problem
	report := func(r volume.Record, what, remedy string, mend func() error) {
		p := Problem{Kind: "volume", Object: r.Namespace + "/" + r.Name, Problem: what, Remedy: remedy}
		if repair && mend != nil {
			p.Repaired = mend() == nil
		}
		found = append(found, p)
	}
	all := e.volumeRecords()
	for _, r := range all {
		_, err := os.Lstat(e.volumeFiles.Path(r))
		switch {
		case r.State == volume.Removing:
			unlock, free := e.locks.TryLock("volume " + r.Namespace + "/" + r.Name)
			if !free {
				continue // somebody is at it
			}
			report(r, "left half removed", "remove it", func() error { return e.eraseVolume(r, e.Volumes.Put) })
			unlock()
		case errors.Is(err, os.ErrNotExist):
			report(r, "its files are gone", "minictr check --repair makes an empty directory", func() error { return e.volumeFiles.Make(r) })
		}
	}
	unowned, err := e.volumeFiles.Unowned(func(ns, name string) bool {
		_, err := e.Volumes.Get(ns, name)
		return !errdefs.IsNotFound(err)
	})
	if err != nil {
		found = append(found, Problem{Kind: "volume", Object: "all", Problem: "not all files are looked at: " + err.Error()})
	}
	for _, r := range unowned {
		report(r, "files of a volume without a record", "minictr check --repair makes a record of it: remove the volume then", func() error {
			_, err := e.CreateVolume(ctx, r.Namespace, NewVolume{Name: r.Name})
			return err
		})
	}
	return append(found, e.checkVolumeUsers()...), len(all)
}

// checkVolumeUsers looks for containers whose volumes are not there.
func (e *Engine) checkVolumeUsers() []Problem {
	containers, err := e.List(context.Background(), "")
	if err != nil {
		return nil
	}
	var found []Problem
	for _, c := range containers {
		if c.State == Creating || c.State == Removing {
			continue
		}
		for _, i := range volumeMounts(c) {
			if _, err := e.findVolume(c.Namespace, c.Request.Mounts[i].Source); errdefs.IsNotFound(err) {
				found = append(found, Problem{Kind: "container", Object: c.Namespace + "/" + c.ID,
					Problem: fmt.Sprintf("its volume %s is gone", c.Request.Mounts[i].Source), Remedy: "create the volume, or delete the container"})
			}
		}
	}
	return found
}
