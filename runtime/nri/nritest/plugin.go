// Package nritest is a plugin of the Node Resource Interface for tests, on the interface's own stub: it connects to a
// socket, notes what it is told, and answers as the test says.
package nritest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/minirt/mini/runtime/plugin"
)

// patience is how long a test waits for a plugin to be told.
const patience = 10 * time.Second

// Plugin answers requests. What is nil leaves everything as it is.
type Plugin struct {
	// Create returns the changes of a container that is being made, as JSON of the interface's ContainerAdjustment.
	Create func(c plugin.Container) (changes string, updates []plugin.Update, err error)
	// Update returns changes of limits; asked are those that its client asks for.
	Update func(id string, asked *specs.LinuxResources) []plugin.Update
	// Synchronize returns changes of what there is when the plugin joins.
	Synchronize []plugin.Update
	// Hang is the event at which it stops to answer, as Events has it.
	Hang string
	// Refuse is an event that it answers with an error.
	Refuse string

	stub   stub.Stub
	closed chan struct{}
	mu     sync.Mutex
	events []string
}

// Start connects the plugin and returns when it is synchronized. It ends with the test.
func (p *Plugin) Start(t *testing.T, socket, index, name string) {
	t.Helper()
	p.closed = make(chan struct{})
	closing := sync.OnceFunc(func() { close(p.closed) })
	s, err := stub.New(&handler{p}, stub.WithSocketPath(socket), stub.WithPluginIdx(index), stub.WithPluginName(name), stub.WithOnClose(closing))
	if err != nil {
		t.Fatal(err)
	}
	p.stub = s
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closing()
		s.Stop()
	})
	p.Wait(t, "synchronize")
}

// Stop ends the plugin's connection.
func (p *Plugin) Stop() { p.stub.Stop() }

// Closed is closed when the connection has ended.
func (p *Plugin) Closed() <-chan struct{} { return p.closed }

// Ask asks for changes by itself, and returns the ids of the containers that could not be changed.
func (p *Plugin) Ask(updates ...plugin.Update) (failed []string, err error) {
	answer, err := p.stub.UpdateContainers(convert(updates))
	for _, u := range answer {
		failed = append(failed, u.GetContainerId())
	}
	return failed, err
}

// Events are what it was told: the event, a blank, and the id.
func (p *Plugin) Events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// Wait waits until it has been told of an event.
func (p *Plugin) Wait(t *testing.T, event string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if slices.ContainsFunc(p.Events(), func(e string) bool { return e == event || event == "synchronize" && len(e) > 11 && e[:11] == event }) {
			return
		}
	}
	t.Fatalf("the plugin was not told of %q in %s: %q", event, patience, p.Events())
}

// note records an event, and hangs or refuses where it is to.
func (p *Plugin) note(event, id string) error {
	p.mu.Lock()
	p.events = append(p.events, event+" "+id)
	p.mu.Unlock()
	switch event {
	case p.Hang:
		<-p.closed // a context would have an end
	case p.Refuse:
		return fmt.Errorf("%s: refused by the test", event)
	}
	return nil
}

func convert(updates []plugin.Update) []*api.ContainerUpdate {
	var out []*api.ContainerUpdate
	for _, u := range updates {
		out = append(out, &api.ContainerUpdate{
			ContainerId: u.ID, IgnoreFailure: u.IgnoreFailure,
			Linux: &api.LinuxContainerUpdate{Resources: api.FromOCILinuxResources(u.Resources, nil)},
		})
	}
	return out
}

// handler has the methods by which the stub finds out what the plugin wants to be told.
type handler struct{ p *Plugin }

func (h *handler) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	all := ""
	for _, p := range pods {
		all += " " + p.GetId()
	}
	for _, c := range containers {
		all += fmt.Sprintf(" %s/%s", c.GetId(), c.GetState())
	}
	return convert(h.p.Synchronize), h.p.note("synchronize", all)
}

func (h *handler) RunPodSandbox(_ context.Context, p *api.PodSandbox) error {
	return h.p.note("run pod", p.GetId())
}

func (h *handler) UpdatePodSandbox(_ context.Context, p *api.PodSandbox, _, _ *api.LinuxResources) error {
	return h.p.note("update pod", p.GetId())
}

func (h *handler) PostUpdatePodSandbox(_ context.Context, p *api.PodSandbox) error {
	return h.p.note("updated pod", p.GetId())
}

func (h *handler) StopPodSandbox(_ context.Context, p *api.PodSandbox) error {
	return h.p.note("stop pod", p.GetId())
}

func (h *handler) RemovePodSandbox(_ context.Context, p *api.PodSandbox) error {
	return h.p.note("remove pod", p.GetId())
}

func (h *handler) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	err := h.p.note("create", c.GetId())
	if h.p.Create == nil || err != nil {
		return nil, nil, err
	}
	changes, updates, err := h.p.Create(plugin.Container{
		ID: c.GetId(), Pod: c.GetPodSandboxId(), Name: c.GetName(), Labels: c.GetLabels(),
		Spec: &specs.Spec{Annotations: c.GetAnnotations(), Process: &specs.Process{Args: c.GetArgs(), Env: c.GetEnv()}},
	})
	if changes == "" || err != nil {
		return nil, convert(updates), err
	}
	adjustment := &api.ContainerAdjustment{}
	return adjustment, convert(updates), protojson.Unmarshal([]byte(changes), adjustment)
}

func (h *handler) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return h.p.note("created", c.GetId())
}

func (h *handler) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return h.p.note("start", c.GetId())
}

func (h *handler) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return h.p.note("started", c.GetId())
}

func (h *handler) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	err := h.p.note("update", c.GetId())
	if h.p.Update == nil || err != nil {
		return nil, err
	}
	return convert(h.p.Update(c.GetId(), r.ToOCI())), nil
}

func (h *handler) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return h.p.note("updated", c.GetId())
}

func (h *handler) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	return nil, h.p.note("stop", c.GetId())
}

func (h *handler) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return h.p.note("remove", c.GetId())
}
