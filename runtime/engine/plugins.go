package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/plugin"
)

// Plugins is what the engine wants of those who watch pods and their containers, or change them; *nri.Adaptation is one.
// Containers without a pod, and the holder of a pod's process namespace, are not told of.
type Plugins interface {
	// Hold keeps plugins from joining until it is released, so that what they are told at first and what they are told
	// from then on has no gap.
	Hold() (release func())
	Pod(ctx context.Context, event plugin.PodEvent, p plugin.Pod) error
	UpdatePod(ctx context.Context, p plugin.Pod, overhead, resources *specs.LinuxResources) error
	Create(ctx context.Context, p plugin.Pod, c plugin.Container) (plugin.Adjusted, error)
	// Adjust makes the changes that Create returned in a document.
	Adjust(s *specs.Spec, changes json.RawMessage) error
	// Update returns the limits that plugins make of those asked for; nil: they leave them.
	Update(ctx context.Context, p plugin.Pod, c plugin.Container, asked *specs.LinuxResources) (*specs.LinuxResources, []plugin.Update, error)
	Container(ctx context.Context, event plugin.ContainerEvent, p plugin.Pod, c plugin.Container) ([]plugin.Update, error)
}

// pluginTimeout bounds what is done for plugins when nobody waits for it.
const pluginTimeout = 30 * time.Second

// concerns says whether plugins are told of a container, and of which pod it is.
func (e *Engine) concerns(c Container) (*livePod, bool) {
	if e.Plugins == nil || c.Pod == "" || c.Role == RolePause {
		return nil, false
	}
	p, err := e.podOfContainer(c)
	return p, err == nil
}

// consult has plugins change a container that is being made, before its bundle is written; what they say is in its
// record. Until release nobody new joins them: the container is neither told of twice nor missed.
func (e *Engine) consult(ctx context.Context, l *live) (release func(), err error) {
	release = func() {}
	c := l.record()
	p, concerned := e.concerns(c)
	if !concerned {
		return release, nil
	}
	l.at("asking the plugins")
	s, _, err := e.document(ctx, c)
	if err != nil {
		return release, err
	}
	release = e.Plugins.Hold()
	l.mu.Lock()
	l.told = true
	l.mu.Unlock()
	a, err := e.Plugins.Create(ctx, e.pluginPod(p.record()), pluginContainer(c, s))
	if err != nil {
		return release, fmt.Errorf("a plugin refuses it: %w", err)
	}
	if a.Changes != nil || a.Resources != nil {
		if err := e.adopt(l, a); err != nil {
			return release, err
		}
	}
	_, err = e.ApplyUpdates(ctx, a.Updates)
	return release, err
}

// adopt records what plugins make of a container.
func (e *Engine) adopt(l *live, a plugin.Adjusted) error {
	request := *l.record().Request
	if a.Resources != nil {
		merged, err := mergeResources(l.record(), a.Resources)
		if err != nil {
			return err
		}
		request.Resources = merged
	}
	return e.save(l, func(c *Container) { c.Request, c.Changes = &request, a.Changes })
}

// document is the document of a container as it is to be written: built, with the changes of plugins and the hooks that
// the host adds.
func (e *Engine) document(ctx context.Context, c Container) (*specs.Spec, []string, error) {
	if err := e.makeBundleDir(c); err != nil {
		return nil, nil, err
	}
	if c.Request != nil {
		if err := spec.PrepareSources(c.Request.Mounts); err != nil {
			return nil, nil, err
		}
	}
	s, warnings, err := e.buildSpec(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if c.Changes != nil && e.Plugins == nil {
		warnings = append(warnings, "changes that plugins made to it are not made: plugins are switched off in the configuration")
	} else if c.Changes != nil {
		if err := e.Plugins.Adjust(s, c.Changes); err != nil {
			return nil, nil, fmt.Errorf("make the changes of plugins: %w", err)
		}
	}
	if e.Hooks != nil && c.Role != RolePause {
		warnings = append(warnings, e.Hooks.Add(s, c.Request != nil && hasBinds(c.Request.Mounts))...)
	}
	if binary, _ := e.runtime(c.Runtime); binary != "" {
		said, err := e.said.of(ctx, binary)
		if err != nil {
			e.Log.Debug("a runtime does not say what it can", "runtime", c.Runtime, "error", err)
		}
		s.Version = versionFor(s.Version, said)
	}
	return s, warnings, nil
}

// hasBinds says whether a client mounts something of the host.
func hasBinds(mounts []spec.Mount) bool {
	for _, m := range mounts {
		if m.Type == "bind" {
			return true
		}
	}
	return false
}

func (e *Engine) makeBundleDir(c Container) error {
	if err := os.MkdirAll(e.Bundle(c), 0o711); err != nil {
		return fmt.Errorf("make the bundle directory: %w", err)
	}
	if c.Log.Path != "" {
		if err := os.MkdirAll(filepath.Dir(c.Log.Path), 0o700); err != nil {
			return fmt.Errorf("make the log directory: %w", err)
		}
	}
	if err := e.makeNetDir(c); err != nil {
		return fmt.Errorf("make the files of the container's network: %w", err)
	}
	return nil
}

// tellContainer tells plugins of a container's event. Only an error of ContainerStart is anything but a warning.
func (e *Engine) tellContainer(ctx context.Context, l *live, event plugin.ContainerEvent) error {
	c := l.record()
	p, concerned := e.concerns(c)
	if !concerned {
		return nil
	}
	return e.tell(ctx, p, event, e.storedContainer(c))
}

func (e *Engine) tell(ctx context.Context, p *livePod, event plugin.ContainerEvent, c plugin.Container) error {
	updates, err := e.Plugins.Container(ctx, event, e.pluginPod(p.record()), c)
	if err == nil {
		_, err = e.ApplyUpdates(ctx, updates)
	}
	if err == nil {
		return nil
	}
	if event == plugin.ContainerStart {
		return fmt.Errorf("a plugin refuses it: %w", err)
	}
	e.Log.Warn("tell the plugins", "container", c.ID, "event", event, "error", err)
	return nil
}

// tellStopped tells plugins of an exit while others are told already; a removal waits for it.
func (e *Engine) tellStopped(l *live) {
	c := l.record()
	p, concerned := e.concerns(c)
	if !concerned {
		return
	}
	told, seen := make(chan struct{}), e.storedContainer(c)
	l.mu.Lock()
	l.stopTold = told
	l.mu.Unlock()
	e.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), pluginTimeout)
		defer cancel()
		updates, err := e.Plugins.Container(ctx, plugin.ContainerStopped, e.pluginPod(p.record()), seen)
		close(told) // before locks are taken that who waits for it may have
		if err == nil {
			_, err = e.ApplyUpdates(ctx, updates)
		}
		if err != nil {
			e.Log.Warn("tell the plugins", "container", c.ID, "event", plugin.ContainerStopped, "error", err)
		}
	})
}

// tellRemoved tells plugins that a container is gone, if they were told that it was there.
func (e *Engine) tellRemoved(l *live, announced bool) {
	c := l.record()
	l.mu.Lock()
	stopTold, told := l.stopTold, l.told || announced
	l.mu.Unlock()
	p, concerned := e.concerns(c)
	if !concerned || !told {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginTimeout)
	defer cancel()
	if stopTold != nil {
		<-stopTold
	}
	e.tell(ctx, p, plugin.ContainerRemoved, e.storedContainer(c))
}

// consultUpdate has plugins change the limits that a container is to have.
func (e *Engine) consultUpdate(ctx context.Context, l *live, asked *specs.LinuxResources) (*specs.LinuxResources, error) {
	c := l.record()
	p, concerned := e.concerns(c)
	if !concerned {
		return asked, nil
	}
	got, updates, err := e.Plugins.Update(ctx, e.pluginPod(p.record()), e.storedContainer(c), asked)
	if err != nil {
		return nil, fmt.Errorf("a plugin refuses it: %w", err)
	}
	if _, err := e.ApplyUpdates(ctx, updates); err != nil {
		return nil, err
	}
	if got == nil {
		return asked, nil
	}
	return overlaid(asked, got)
}

// tellPod tells plugins of a pod's event. Only an error of PodRun is anything but a warning.
func (e *Engine) tellPod(ctx context.Context, event plugin.PodEvent, rec Pod) error {
	if e.Plugins == nil {
		return nil
	}
	if event == plugin.PodStopped {
		e.awaitStopsTold(key{rec.Namespace, rec.ID})
	}
	err := e.Plugins.Pod(ctx, event, e.pluginPod(rec))
	if err != nil && event == plugin.PodRun {
		return fmt.Errorf("a plugin refuses it: %w", err)
	}
	if err != nil {
		e.Log.Warn("tell the plugins", "pod", rec.ID, "event", event, "error", err)
	}
	return nil
}

// awaitStopsTold waits until plugins know that the containers of a pod, which have exited, have.
func (e *Engine) awaitStopsTold(k key) {
	for _, l := range e.inPod(k) {
		l.mu.Lock()
		told := l.stopTold
		l.mu.Unlock()
		if told != nil {
			<-told
		}
	}
}

// ready tells plugins of a pod whose parts are all there, and records it as ready.
func (e *Engine) ready(ctx context.Context, p *livePod, change func(*Pod)) error {
	if e.Plugins == nil {
		return e.savePod(p, change)
	}
	p.at("ask the plugins")
	defer e.Plugins.Hold()()
	next := p.record()
	change(&next)
	err := e.tellPod(ctx, plugin.PodRun, next)
	if err == nil {
		err = e.savePod(p, change)
	}
	if err != nil { // those that were told before another refused
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pluginTimeout)
		defer cancel()
		e.tellPod(ctx, plugin.PodStopped, next)
		e.tellPod(ctx, plugin.PodRemoved, next)
	}
	return err
}

// tellForgotten tells plugins that a pod is gone, as its last known state asks.
func (e *Engine) tellForgotten(ctx context.Context, rec Pod, before PodState) {
	if before == PodReady {
		e.tellPod(ctx, plugin.PodStopped, rec)
	}
	if before != PodCreating {
		e.tellPod(ctx, plugin.PodRemoved, rec)
	}
}

// Objects are the pods and containers that a plugin is told of when it joins.
func (e *Engine) Objects(ctx context.Context) ([]plugin.Pod, []plugin.Container, error) {
	pods, err := e.ListPods(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	var seenPods []plugin.Pod
	for _, p := range pods {
		if p.State == PodReady || p.State == PodStopped {
			seenPods = append(seenPods, e.pluginPod(p))
		}
	}
	all, err := e.List(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	var containers []plugin.Container
	for _, c := range all {
		if _, concerned := e.concerns(c); concerned && c.State != Creating && c.State != Removing {
			containers = append(containers, e.storedContainer(c))
		}
	}
	return seenPods, containers, nil
}

// ApplyUpdates changes the limits of containers as plugins ask for it, without asking plugins again. It tries all, and
// returns those that failed, with the errors of those whose failure matters.
func (e *Engine) ApplyUpdates(ctx context.Context, updates []plugin.Update) (failed []plugin.Update, err error) {
	var errs []error
	for _, u := range updates {
		err := e.applyUpdate(ctx, u)
		if err == nil {
			continue
		}
		failed = append(failed, u)
		if !u.IgnoreFailure {
			errs = append(errs, fmt.Errorf("update container %s for a plugin: %w", u.ID, err))
		}
	}
	return failed, errors.Join(errs...)
}

func (e *Engine) applyUpdate(ctx context.Context, u plugin.Update) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	ns, found := "", false
	e.mu.RLock()
	for k, l := range e.containers {
		if k.id == u.ID && l.pod != "" {
			ns, found = k.ns, true
		}
	}
	e.mu.RUnlock()
	if !found {
		return fmt.Errorf("container %s: in no pod: %w", u.ID, errdefs.ErrNotFound)
	}
	return e.update(ctx, ns, u.ID, u.Resources, func(_ context.Context, _ *live, asked *specs.LinuxResources) (*specs.LinuxResources, error) {
		return asked, nil
	})
}

func (e *Engine) pluginPod(rec Pod) plugin.Pod {
	p := plugin.Pod{
		ID: rec.ID, Name: rec.Name, UID: rec.UID, Namespace: rec.PodNamespace, Labels: rec.Labels, Annotations: rec.Annotations,
		Runtime: rec.Runtime, CgroupParent: rec.Cgroup, Overhead: rec.Overhead, Resources: rec.Resources,
	}
	if rec.Attachment != nil {
		for _, ip := range rec.Attachment.IPs {
			p.IPs = append(p.IPs, ip.String())
		}
	}
	dir := e.pinDir(rec)
	for _, n := range []struct {
		kind string
		is   specs.LinuxNamespaceType
	}{
		{pin.Network, specs.NetworkNamespace}, {pin.IPC, specs.IPCNamespace}, {pin.UTS, specs.UTSNamespace}, {pin.User, specs.UserNamespace},
	} {
		if pin.Pinned(dir, n.kind) {
			p.Namespaces = append(p.Namespaces, specs.LinuxNamespace{Type: n.is, Path: pin.Path(dir, n.kind)})
		}
	}
	if l := e.exactly(rec.Namespace, rec.ID); l != nil {
		p.PID = l.record().PID
	}
	return p
}

// Labels and annotations in which front ends for Kubernetes keep the name that a container has in its pod.
const (
	nameLabel      = "io.kubernetes.container.name"
	nameAnnotation = "io.kubernetes.cri.container-name"
)

// storedContainer is a container with the document in its bundle.
func (e *Engine) storedContainer(c Container) plugin.Container {
	s, err := bundle.Load(e.Bundle(c))
	if err != nil { // removed, or emptied by a reboot
		s = &specs.Spec{}
		if c.Request != nil {
			s.Annotations = c.Request.Annotations
		}
	}
	return pluginContainer(c, s)
}

func pluginContainer(c Container, s *specs.Spec) plugin.Container {
	p := plugin.Container{
		ID: c.ID, Pod: c.Pod, Name: c.ID, Labels: c.Labels, Spec: s, Image: c.Image, ImageDigest: c.ImageDigest,
		PID: c.PID, CreatedAt: c.CreatedAt, StartedAt: c.StartedAt,
	}
	for _, name := range []string{c.Labels[nameLabel], s.Annotations[nameAnnotation]} {
		if name != "" {
			p.Name = name
			break
		}
	}
	if c.State != Creating {
		p.State = string(c.State)
	}
	if c.Exit != nil {
		p.FinishedAt, p.ExitCode, p.Reason = c.Exit.Time, c.Exit.Code, c.Exit.Reason
	}
	return p
}
