package engine

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/tuning"
)

// Tuner changes what the host does with the processors of a container; *tuning.Tuner is one.
type Tuner interface {
	Prepare(id string, w tuning.Wish) error
	Started(id string, w tuning.Wish, groups map[string]string) error
	Release(id string) error
	Users() []string // those for whom something is changed, by what Prepare was called with
}

// tune has the host changed for a container that is about to start.
func (e *Engine) tune(l *live) error {
	c := l.record()
	if c.Tuning == nil {
		return nil
	}
	if e.Tuner == nil {
		return fmt.Errorf("its processors cannot be tuned by this daemon: %w", errdefs.ErrFailedPrecondition)
	}
	l.at("tuning its processors")
	return e.Tuner.Prepare(l.key.String(), *c.Tuning)
}

// tuneGroups has the groups of a container changed that runs. It runs on when that is refused: others have what it does
// without too.
func (e *Engine) tuneGroups(l *live) {
	c := l.record()
	if c.Tuning == nil || e.Tuner == nil {
		return
	}
	if err := e.Tuner.Started(l.key.String(), *c.Tuning, c.CgroupPaths); err != nil {
		e.Log.Warn("a container runs without all of the tuning that it asks for", "id", l.key.id, "error", err)
		warning := err.Error()
		if err := e.note(l, func(c *Container) { c.Warnings = append(c.Warnings, warning) }); err != nil {
			e.Log.Debug("record a warning", "id", l.key.id, "error", err)
		}
	}
}

// untune gives back what was changed for a container that has ended.
func (e *Engine) untune(l *live) {
	if err := e.untuned(l.record()); err != nil {
		e.Log.Error("what was changed for a container's processors is not given back; its removal tries again", "id", l.key.id, "error", err)
	}
}

func (e *Engine) untuned(c Container) error {
	if c.Tuning == nil || e.Tuner == nil {
		return nil
	}
	return e.Tuner.Release(key{c.Namespace, c.ID}.String())
}

// recoverTuning gives back what was changed for containers that have ended while no daemon was there.
func (e *Engine) recoverTuning() {
	if e.Tuner == nil {
		return
	}
	running := map[string]bool{}
	e.mu.RLock()
	for k, l := range e.containers {
		s := l.state()
		running[k.String()] = s == Running || s == Paused
	}
	e.mu.RUnlock()
	var errs []error
	for _, user := range e.Tuner.Users() {
		if !running[user] {
			errs = append(errs, e.Tuner.Release(user))
		}
	}
	if err := errors.Join(errs...); err != nil {
		e.Log.Error("what was changed for processors of containers that have ended is not wholly given back", "error", err)
	}
}
