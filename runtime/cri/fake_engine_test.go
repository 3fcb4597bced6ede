package cri

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/stats"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// fakeEngine keeps pods and containers in memory, and publishes as the real one does. Nothing runs.
type fakeEngine struct {
	applied []string // changes of root filesystems
	bundles string   // directory of the bundles
	bus     *events.Bus

	mu          sync.Mutex
	pods        map[string]engine.Pod
	containers  map[string]engine.Container
	made        int
	updates     []specs.LinuxResources
	cidrs       []string
	killed      int
	kill        func()
	exec        func(o engine.ExecOptions, killed <-chan struct{}) wire.Exit
	checkpoint  func(o engine.CheckpointOptions) error
	reading     stats.Stats
	startError  error
	started     engine.StartOptions
	runPodError error
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{bus: events.New(), pods: map[string]engine.Pod{}, containers: map[string]engine.Container{}}
}

func (e *fakeEngine) publish(kind, action, id string) {
	e.bus.Publish(events.Event{Namespace: Namespace, Type: kind, Action: action, ID: id})
}

// id makes ids that differ in their first characters, as real ones do.
func (e *fakeEngine) id() string {
	e.made++
	return digest.FromString(fmt.Sprint(e.made)).Encoded()
}

func (e *fakeEngine) RunPod(_ context.Context, ns string, o engine.PodOptions) (engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.runPodError != nil {
		return engine.Pod{}, e.runPodError
	}
	for _, p := range e.pods {
		if p.Key == o.Key && p.State == engine.PodReady {
			return p, nil
		}
	}
	o.ID = e.id()
	p := engine.Pod{PodOptions: o, Namespace: ns, State: engine.PodReady, CreatedAt: time.Now()}
	if o.Network == engine.ModePod {
		p.Attachment = &network.Attachment{ID: o.ID, IPs: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd00::2")}}
	}
	e.pods[o.ID] = p
	e.publish("pod", "create", o.ID)
	e.publish("pod", "start", o.ID)
	return p, nil
}

func (e *fakeEngine) changePod(id string, change func(*engine.Pod)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.pods[id]
	if !ok {
		return fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
	}
	change(&p)
	e.pods[id] = p
	return nil
}

func (e *fakeEngine) StopPod(_ context.Context, _, id string) error {
	err := e.changePod(id, func(p *engine.Pod) { p.State, p.Attachment = engine.PodStopped, nil })
	if err == nil {
		e.publish("pod", "stop", id)
	}
	return err
}

func (e *fakeEngine) RemovePod(_ context.Context, _, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.pods[id]; !ok {
		return fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
	}
	delete(e.pods, id)
	for cid, c := range e.containers {
		if c.Pod == id {
			delete(e.containers, cid)
			e.publish("container", "delete", cid)
		}
	}
	e.publish("pod", "delete", id)
	return nil
}

func (e *fakeEngine) Pod(_ context.Context, _, id string) (engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.pods {
		if strings.HasPrefix(p.ID, id) {
			return p, nil
		}
	}
	return engine.Pod{}, fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
}

func (e *fakeEngine) ListPods(context.Context, string) ([]engine.Pod, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []engine.Pod
	for _, p := range e.pods {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b engine.Pod) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, nil
}

func (e *fakeEngine) UpdatePod(_ context.Context, _, id string, resources, overhead *specs.LinuxResources) error {
	return e.changePod(id, func(p *engine.Pod) { p.Resources, p.Overhead = resources, overhead })
}

func (e *fakeEngine) PodStats(ctx context.Context, _ string, ids []string, _ stats.Parts) ([]engine.PodStats, error) {
	pods, _ := e.ListPods(ctx, "")
	containers, _ := e.List(ctx, "")
	var out []engine.PodStats
	for _, p := range pods {
		if len(ids) > 0 && !slices.Contains(ids, p.ID) {
			continue
		}
		one := engine.PodStats{Pod: p, Stats: e.now(), Containers: map[string]stats.Stats{}}
		for _, c := range containers {
			if c.Pod == p.ID && c.PID != 0 {
				one.Containers[c.ID] = e.now()
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func (e *fakeEngine) now() stats.Stats {
	r := e.reading
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	return r
}

func (e *fakeEngine) SetPodCIDR(_ context.Context, cidrs []string) error {
	e.cidrs = cidrs
	return nil
}

func (e *fakeEngine) Runtimes(context.Context) []engine.RuntimeInfo {
	return []engine.RuntimeInfo{{UserNamespaces: true, RecursiveReadOnly: true}, {Name: "crun", Error: "unknown command features"}}
}

func (e *fakeEngine) NetworkStatus(context.Context) (bool, string, string) {
	return false, "NetworkPluginNotReady", "no configuration"
}

func (e *fakeEngine) Create(_ context.Context, ns string, o engine.CreateOptions) (engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.Key == o.Key {
			return c, nil
		}
	}
	c := engine.Container{
		ID: cmp.Or(o.ID, e.id()), Namespace: ns, State: engine.Created, Image: o.Image, Runtime: o.Runtime, Pod: o.Pod, Key: o.Key, Front: o.Front,
		Labels: o.Labels, Log: o.Log, Request: o.Request, CreatedAt: time.Now(), Snapshot: "s", Snapshotter: "overlay",
		Stdin: o.Stdin, StdinOnce: o.StdinOnce,
	}
	e.containers[c.ID] = c
	e.publish("container", "create", c.ID)
	return c, nil
}

func (e *fakeEngine) change(id string, change func(*engine.Container)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	change(&c)
	e.containers[id] = c
	return nil
}

func (e *fakeEngine) Start(_ context.Context, _, id string, o engine.StartOptions) (engine.Process, error) {
	if e.startError != nil {
		return engine.Process{}, e.startError
	}
	e.started = o
	err := e.change(id, func(c *engine.Container) { c.State, c.PID, c.StartedAt = engine.Running, 42, time.Now() })
	e.publish("container", "start", id)
	return engine.Process{PID: 42}, err
}

func (e *fakeEngine) Stop(_ context.Context, _, id string, _ engine.StopOptions) error {
	e.end(id, wire.Exit{Code: 137, Signal: 9})
	return nil
}

func (e *fakeEngine) end(id string, x wire.Exit) {
	x.Time = time.Now()
	_ = e.change(id, func(c *engine.Container) { c.State, c.PID, c.Exit = engine.Exited, 0, &x })
	e.publish("container", "exit", id)
}

func (e *fakeEngine) Delete(_ context.Context, _, id string, _ engine.DeleteOptions) (*wire.Exit, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	delete(e.containers, id)
	e.publish("container", "delete", id)
	return c.Exit, nil
}

func (e *fakeEngine) Get(_ context.Context, _, id string) (engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if strings.HasPrefix(c.ID, id) {
			return c, nil
		}
	}
	return engine.Container{}, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
}

func (e *fakeEngine) List(context.Context, string) ([]engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []engine.Container
	for _, c := range e.containers {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b engine.Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (e *fakeEngine) Spec(context.Context, string, string) (*specs.Spec, error) {
	return &specs.Spec{Process: &specs.Process{User: specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{2000, 3000}}}}, nil
}

func (e *fakeEngine) Exec(_ context.Context, _, _ string, o engine.ExecOptions) (engine.Process, error) {
	killed := make(chan struct{})
	e.mu.Lock()
	e.killed = 0
	e.kill = func() { close(killed) }
	e.mu.Unlock()
	ended := make(chan wire.Exit, 1)
	go func() {
		x := e.exec(o, killed)
		ended <- x
	}()
	return engine.Process{ExecID: "x", PID: 43, Wait: func(ctx context.Context) (wire.Exit, error) {
		select {
		case x := <-ended:
			ended <- x
			return x, nil
		case <-ctx.Done():
			return wire.Exit{}, context.Cause(ctx)
		}
	}}, nil
}

func (e *fakeEngine) Signal(_ context.Context, _, _, _ string, sig int, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed = sig; e.kill != nil {
		e.kill()
	}
	return nil
}

func (e *fakeEngine) Pause(_ context.Context, _, id string) error {
	return e.change(id, func(c *engine.Container) { c.State = engine.Paused })
}

func (e *fakeEngine) Resume(_ context.Context, _, id string) error {
	return e.change(id, func(c *engine.Container) { c.State = engine.Running })
}

func (e *fakeEngine) Update(_ context.Context, _, id string, r *specs.LinuxResources) error {
	return e.change(id, func(c *engine.Container) {
		e.updates = append(e.updates, *r)
		q := *c.Request
		q.Resources = r
		c.Request = &q
	})
}

func (e *fakeEngine) ReopenLog(context.Context, string, string) error { return nil }

func (e *fakeEngine) Bundle(c engine.Container) string { return filepath.Join(e.bundles, c.ID) }

func (e *fakeEngine) ApplyChanges(_ context.Context, _, _ string, changes io.Reader) error {
	data, err := io.ReadAll(changes)
	e.applied = append(e.applied, string(data))
	return err
}

func (e *fakeEngine) Checkpoint(_ context.Context, _, _ string, o engine.CheckpointOptions) error {
	if e.checkpoint != nil {
		return e.checkpoint(o)
	}
	if err := os.MkdirAll(o.Path, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Path, "pages-1.img"), []byte("memory"), 0o600)
}

func (e *fakeEngine) Stats(ctx context.Context, _ string, ids []string, _ stats.Parts) (map[string]stats.Stats, error) {
	list, _ := e.List(ctx, "")
	out := map[string]stats.Stats{}
	for _, c := range list {
		if c.PID != 0 && (len(ids) == 0 || slices.Contains(ids, c.ID)) {
			out[c.ID] = e.now()
		}
	}
	return out, nil
}

func (e *fakeEngine) CollectGarbage(context.Context, bool) (image.Collected, error) {
	return image.Collected{}, nil
}
