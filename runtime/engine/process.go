package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/plugin"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Processes lists a container's processes that the daemon started, the first one first.
func (e *Engine) Processes(_ context.Context, ns, id string) ([]Process, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return nil, err
	}
	paused := l.state() == Paused
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Process, 0, len(l.procs))
	for _, p := range l.procs {
		list = append(list, p.info(paused))
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ExecID < list[j].ExecID })
	return list, nil
}

// Process returns one process of a container.
func (e *Engine) Process(_ context.Context, ns, id, execID string) (Process, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return Process{}, err
	}
	p, err := l.proc(execID)
	if err != nil {
		return Process{}, err
	}
	return p.info(l.state() == Paused), nil
}

// running finds a process that has not ended.
func (e *Engine) running(ns, id, execID string) (*live, *proc, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return nil, nil, err
	}
	p, err := l.proc(execID)
	if err != nil {
		return nil, nil, err
	}
	if p.ended() != nil {
		return nil, nil, fmt.Errorf("process of container %s has exited with code %d: %w", l.key.id, p.ended().Code, errdefs.ErrFailedPrecondition)
	}
	return l, p, nil
}

// Attach joins the standard streams of a running process. It returns when they are joined; the attachment ends when
// the process does, or when the other ends of the streams are closed.
func (e *Engine) Attach(ctx context.Context, ns, id, execID string, s Streams) error {
	files, attachment := s.files()
	defer closeAll(files)
	l, _, err := e.running(ns, id, execID)
	if err != nil {
		return err
	}
	return e.sandboxes.Attach(ctx, process(l, execID), *attachment, files)
}

// Signal sends a signal to a process, or with all to every process of the container.
func (e *Engine) Signal(ctx context.Context, ns, id, execID string, sig int, all bool) error {
	if sig < 0 || sig > 64 {
		return fmt.Errorf("signal %d: the kernel has 1 to 64: %w", sig, errdefs.ErrInvalidArgument)
	}
	l, _, err := e.running(ns, id, execID)
	if err != nil {
		return err
	}
	if execID == "" && ends(l.record(), sig) {
		if err := e.noteStopped(l); err != nil {
			return err
		}
	}
	if err := e.sandboxes.Signal(ctx, wire.Signal{Process: process(l, execID), Signal: sig, All: all}); err != nil {
		return err
	}
	e.publish(l, "kill", map[string]string{"signal": fmt.Sprint(sig), "exec": execID})
	return nil
}

// ends says whether a signal is one that a container is ended with; its policy then does not start it again.
func ends(c Container, sig int) bool {
	own, err := spec.ParseSignal(stopSignal(c, ""))
	return sig == int(syscall.SIGKILL) || err == nil && sig == int(own)
}

// Resize sets the size of a process's terminal, in characters.
func (e *Engine) Resize(ctx context.Context, ns, id, execID string, width, height uint16) error {
	l, p, err := e.running(ns, id, execID)
	if err != nil {
		return err
	}
	if !p.terminal {
		return fmt.Errorf("process of container %s has no terminal: start it with one: %w", l.key.id, errdefs.ErrFailedPrecondition)
	}
	return e.sandboxes.Resize(ctx, wire.Resize{Process: process(l, execID), Width: width, Height: height})
}

// CloseStdin ends a process's standard input.
func (e *Engine) CloseStdin(ctx context.Context, ns, id, execID string) error {
	l, _, err := e.running(ns, id, execID)
	if err != nil {
		return err
	}
	return e.sandboxes.CloseStdin(ctx, process(l, execID))
}

// Pause freezes all processes of a container.
func (e *Engine) Pause(ctx context.Context, ns, id string) error {
	return e.turn(ctx, ns, id, "pause", Running, Paused, e.sandboxes.Pause)
}

// Resume thaws a paused container.
func (e *Engine) Resume(ctx context.Context, ns, id string) error {
	return e.turn(ctx, ns, id, "resume", Paused, Running, e.sandboxes.Resume)
}

func (e *Engine) turn(ctx context.Context, ns, id, verb string, from, to State, act func(context.Context, wire.Process) error) error {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := errors.Join(l.require(verb, from), e.grouped(verb, l.key.id)); err != nil {
		return err
	}
	if err := act(ctx, process(l, "")); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, l.key.id, err)
	}
	turned := false
	err = e.note(l, func(c *Container) {
		if c.State == from { // it may have exited meanwhile
			c.State, turned = to, true
		}
	})
	if turned && err == nil {
		e.publish(l, verb, nil)
	}
	return err
}

// Update changes the limits of a container, now if it runs, and for its later starts.
func (e *Engine) Update(ctx context.Context, ns, id string, r *specs.LinuxResources) error {
	if err := e.grouped("change the limits of", id); err != nil {
		return err
	}
	err := e.update(ctx, ns, id, r, e.consultUpdate)
	if l, found := e.find(ns, id); err == nil && found == nil {
		e.tellContainer(ctx, l, plugin.ContainerUpdated)
	}
	return err
}

// consulting is asked for its opinion on the limits that a container is to have.
type consulting func(ctx context.Context, l *live, asked *specs.LinuxResources) (*specs.LinuxResources, error)

func (e *Engine) update(ctx context.Context, ns, id string, r *specs.LinuxResources, consult consulting) error {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.require("update", Created, Running, Paused, Exited); err != nil {
		return err
	}
	merged, err := mergeResources(l.record(), r)
	if err == nil {
		merged, err = consult(ctx, l, merged)
	}
	if err != nil {
		return fmt.Errorf("update container %s: %w", l.key.id, err)
	}
	merged, warnings, err := spec.CheckResources(merged, &e.Host)
	if err != nil {
		return fmt.Errorf("update container %s: %w", l.key.id, err)
	}
	if s := l.state(); s == Running || s == Paused {
		data, err := json.Marshal(merged)
		if err != nil {
			return err
		}
		if err := e.sandboxes.Update(ctx, wire.Update{Process: process(l, ""), Resources: data}); err != nil {
			return fmt.Errorf("update container %s: %w", l.key.id, err)
		}
	}
	err = e.save(l, func(c *Container) {
		c.Warnings = warnings
		if c.Spec != nil {
			doc, linux := *c.Spec, specs.Linux{}
			if doc.Linux != nil {
				linux = *doc.Linux
			}
			linux.Resources, doc.Linux = merged, &linux
			c.Spec = &doc
			return
		}
		q := *c.Request
		q.Resources = merged
		c.Request = &q
	})
	if err != nil {
		return err
	}
	e.publish(l, "update", nil)
	c := l.record()
	if e.joinsOthers(c) {
		return nil // the next start writes the bundle; those joined need not run now
	}
	_, err = e.writeBundle(ctx, c)
	return err
}

// mergeResources lays the limits asked for over those that the container has; a list replaces a list.
func mergeResources(c Container, r *specs.LinuxResources) (*specs.LinuxResources, error) {
	has := &specs.LinuxResources{}
	switch {
	case c.Spec != nil && c.Spec.Linux != nil && c.Spec.Linux.Resources != nil:
		has = c.Spec.Linux.Resources
	case c.Request != nil && c.Request.Resources != nil:
		has = c.Request.Resources
	}
	return overlaid(has, r)
}

// overlaid are limits with others over them.
func overlaid(has, r *specs.LinuxResources) (*specs.LinuxResources, error) {
	over, err := json.Marshal(&specs.Spec{Linux: &specs.Linux{Resources: r}})
	if err != nil {
		return nil, err
	}
	merged, err := spec.Patch(&specs.Spec{Linux: &specs.Linux{Resources: has}}, over)
	if err != nil {
		return nil, err
	}
	return merged.Linux.Resources, nil
}

// ReopenLog makes a container's log file anew, after somebody has renamed it away.
func (e *Engine) ReopenLog(ctx context.Context, ns, id string) error {
	l, _, err := e.running(ns, id, "")
	if err != nil {
		return err
	}
	return e.sandboxes.ReopenLog(ctx, process(l, ""))
}
